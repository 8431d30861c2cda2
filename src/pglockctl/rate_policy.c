#include "pglockctl/rate_policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/query.h"
#include "pglockctl/database.h"
#include "wire/duration.h"

/* Words of set and the columns that they fill in. */
static const struct {
    const char *word, *column, *cast;
} columns[] = {
    {"limit", "quota", "bigint"},
    {"per", "per", "interval"},
    {"burst", "burst", "bigint"},
    {"mode", "mode", "text"},
    {"away", "away", "text"},
    {"away-percent", "away_percent", "integer"},
    {"applies-to", "applies_to", "text"},
    {"counter", "counter", "text"},
    {"charge", "charge", "text"},
    {"borrow", "borrow", "boolean"},
    {"note", "note", "text"},
};
enum { COLUMNS = sizeof(columns) / sizeof(columns[0]), PARAMS_MAX = COLUMNS + 3 };

/* Columns and their values, as lists for SQL; the first parameter is the policy's name. */
struct change {
    struct buf names, marks, updates;
    const char *params[PARAMS_MAX];
    int n;
    char per[64];
};

static void change_add(struct change *c, const char *column, const char *cast, const char *value)
{
    c->params[c->n++] = value;
    buf_printf(&c->names, ", %s", column);
    buf_printf(&c->marks, ", $%d::%s", c->n, cast);
    buf_printf(&c->updates, "%s%s = $%d::%s", c->updates.len ? ", " : "", column, c->n, cast);
}

static void change_free(struct change *c)
{
    buf_free(&c->names);
    buf_free(&c->marks);
    buf_free(&c->updates);
}

static bool is_known(const char *word)
{
    size_t n = strcspn(word, "=");
    if (word[n] == '\0')
        return false;
    if ((n == 6 && memcmp(word, "prefix", n) == 0) || (n == 3 && memcmp(word, "key", n) == 0))
        return true;
    for (size_t i = 0; i < COLUMNS; i++)
        if (strlen(columns[i].word) == n && memcmp(columns[i].word, word, n) == 0)
            return true;
    return false;
}

/* NULL, or a sentence that says what is wrong. */
static const char *gather(struct change *c, const struct opt_words *words)
{
    const char *prefix = ctl_word_value(words, "prefix");
    const char *key = ctl_word_value(words, "key");
    int64_t ms;

    for (size_t i = 3; i < words->nwords; i++)
        if (!is_known(words->words[i]))
            return "policy set knows prefix= key= limit= per= burst= mode= away= away-percent= "
                   "applies-to= counter= charge= borrow= note=";
    if (prefix && key)
        return "prefix= and key= are two kinds of pattern: use one";
    c->params[c->n++] = words->words[2];
    if (prefix || key) {
        change_add(c, "match", "text", prefix ? "prefix" : "exact");
        change_add(c, "pattern", "text", prefix ? prefix : key);
    }
    for (size_t i = 0; i < COLUMNS; i++) {
        const char *value = ctl_word_value(words, columns[i].word);
        if (value && strcmp(columns[i].word, "per") == 0) {
            if (duration_parse(str_of(value), 0, &ms) != NULL)
                return "per= is a whole number with a unit, such as 1s, 5m or 1h";
            snprintf(c->per, sizeof(c->per), "%" PRId64 " milliseconds", ms);
            value = c->per;
        }
        if (value)
            change_add(c, columns[i].column, columns[i].cast, value);
    }
    return c->n > 1 ? NULL : "policy set needs something to set";
}

/* Runs one statement; the number of rows that it changed, or -1 and err. */
static int run(struct pg_conn *conn, const char *sql, int n, const char *const *params,
               struct buf *err)
{
    struct pg_result *rows = pg_query(conn, sql, n, params, err);
    int changed = rows ? pg_changed(rows) : -1;
    pg_rows_free(rows);
    return changed;
}

static bool is_whole(const struct opt_words *words)
{
    return (ctl_word_value(words, "prefix") || ctl_word_value(words, "key")) &&
           ctl_word_value(words, "limit") && ctl_word_value(words, "per");
}

static int set(struct pg_conn *conn, const struct opt_words *words, struct buf *err)
{
    struct change c = {0};
    struct buf sql = {0};
    const char *wrong = gather(&c, words);
    int changed = 0;

    if (wrong) {
        buf_puts(err, wrong);
    } else {
        buf_printf(&sql, "update pglockd.rate_policy set %s where name = $1", buf_cstr(&c.updates));
        changed = run(conn, buf_cstr(&sql), c.n, c.params, err);
        if (changed == 0 && !is_whole(words)) {
            buf_puts(err, "there is no such policy yet: a new one needs prefix= or key=, limit= "
                          "and per=");
        } else if (changed == 0) {
            buf_clear(&sql);
            buf_printf(&sql, "insert into pglockd.rate_policy (name%s) values ($1::text%s)",
                       buf_cstr(&c.names), buf_cstr(&c.marks));
            changed = run(conn, buf_cstr(&sql), c.n, c.params, err);
        }
    }
    change_free(&c);
    buf_free(&sql);
    return changed > 0 ? CTL_OK : CTL_BAD_REQUEST;
}

static int rm(struct pg_conn *conn, const struct opt_words *words, struct buf *err)
{
    const char *params[] = {words->words[2]};
    int changed = run(conn, "delete from pglockd.rate_policy where name = $1", 1, params, err);
    if (changed == 0)
        buf_printf(err, "there is no policy %s", words->words[2]);
    return changed > 0 ? CTL_OK : CTL_BAD_REQUEST;
}

static const char list_sql[] =
    "select name, applies_to, match || ' ' || case pattern when '' then '*' else pattern end, "
    "counter, quota || ' per ' || per, coalesce(burst, quota), mode, "
    "case away when 'local' then 'local ' || away_percent || ' %' else away end, "
    "case when applies_to = 'lock' then charge end, note from pglockd.rate_policy order by name";

static const char list_json_sql[] =
    "select coalesce(json_agg(json_build_object('name', name, 'applies_to', applies_to, 'match', "
    "match, 'pattern', pattern, 'counter', counter, 'limit', quota, 'per_ms', "
    "(extract(epoch from per) * 1000)::bigint, 'burst', coalesce(burst, quota), 'mode', mode, "
    "'away', away, 'away_percent', away_percent, 'charge', charge, 'borrow', borrow, 'note', "
    "note) order by name), '[]') from pglockd.rate_policy";

static int ls(const struct ctl *ctl, struct pg_conn *conn, struct buf *err)
{
    static const char *const heads[] = {"NAME",  "FOR",  "PATTERN", "COUNTER", "LIMIT",
                                        "BURST", "MODE", "AWAY",    "CHARGES", "NOTE"};
    return database_print(ctl, pg_query(conn, ctl->json ? list_json_sql : list_sql, 0, NULL, err),
                          heads, sizeof(heads) / sizeof(heads[0]));
}

static int with_database(int (*fn)(const struct ctl *, struct pg_conn *, const struct opt_words *,
                                   struct buf *),
                         const struct ctl *ctl, const struct opt_words *words)
{
    struct database db;
    struct buf err = {0};
    int status = database_open(&db, true, &err);

    if (status == CTL_OK)
        status = fn(ctl, db.conn, words, &err);
    if (err.len > 0)
        ctl_error("%s", buf_cstr(&err));
    database_close(&db);
    buf_free(&err);
    return status;
}

static int policy(const struct ctl *ctl, struct pg_conn *conn, const struct opt_words *words,
                  struct buf *err)
{
    const char *what = words->words[1];
    if (strcmp(what, "ls") == 0)
        return ls(ctl, conn, err);
    return strcmp(what, "set") == 0 ? set(conn, words, err) : rm(conn, words, err);
}

int rate_policy_main(const struct ctl *ctl, const struct opt_words *words)
{
    const char *what = words->words[1];
    bool is_ls = strcmp(what, "ls") == 0 && words->nwords == 2;
    bool is_set = strcmp(what, "set") == 0 && words->nwords > 3;
    bool is_rm = strcmp(what, "rm") == 0 && words->nwords == 3;

    if (words->dashes || !(is_ls || is_set || is_rm))
        return ctl_usage_error("rate policy takes set NAME WORDS…, ls, or rm NAME");
    return with_database(policy, ctl, words);
}

static int reset(const struct ctl *ctl, struct pg_conn *conn, const struct opt_words *words,
                 struct buf *err)
{
    const char *params[] = {words->words[1], ctl_word_value(words, "policy")};
    struct pg_result *rows = pg_query(conn, "select pglockd.rate_reset($1, $2)", 2, params, err);
    (void)ctl;
    if (rows == NULL)
        return CTL_UNREACHABLE;
    printf("%s counters reset\n", pg_value(rows, 0, 0));
    pg_rows_free(rows);
    return CTL_OK;
}

int rate_reset_main(const struct opt_words *words)
{
    if (words->dashes || words->nwords > 3 ||
        (words->nwords == 3 && !ctl_word_value(words, "policy")))
        return ctl_usage_error("rate reset takes a key and policy=NAME");
    return with_database(reset, NULL, words);
}
