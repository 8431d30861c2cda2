/* Names, rights and keys, in the database itself. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/secret.h"
#include "base/xalloc.h"
#include "pg/query.h"
#include "pglockctl/ctl.h"
#include "pglockctl/database.h"
#include "wire/duration.h"
#include "wire/right.h"

enum { DAY_MS = 24 * 60 * 60 * 1000, RIGHTS_MAX = 200 };

static struct {
    const char *name, *note;
    const char *allow[RIGHTS_MAX + 1];
    size_t nallow;
    int64_t expires_ms; /* 0: never */
    int64_t overlap_ms;
    bool no_key;
} o = {.overlap_ms = DAY_MS};

static const struct opt key_options[] = {
    {.name = "name", .kind = OPT_STRING, .into = &o.name, .value = "NAME", .help = "whose key"},
    {.name = "allow",
     .kind = OPT_LIST,
     .into = o.allow,
     .count = &o.nallow,
     .value = "VERB:PATTERN",
     .max = RIGHTS_MAX,
     .help = "what a new name may do; may be given several times"},
    {.name = "expires",
     .kind = OPT_DURATION,
     .into = &o.expires_ms,
     .value = "TIME",
     .min = 1,
     .max = INT64_C(3650) * DAY_MS,
     .help = "for how long the key is valid (for ever)"},
    {.name = "overlap",
     .kind = OPT_DURATION,
     .into = &o.overlap_ms,
     .value = "TIME",
     .max = INT64_C(3650) * DAY_MS,
     .help = "for rotate: how long older keys stay valid (1d)"},
    {.name = "note", .kind = OPT_STRING, .into = &o.note, .value = "TEXT", .help = "free text"},
    {.name = "no-key", .kind = OPT_FLAG, .into = &o.no_key, .help = "for create: a name alone"},
};
enum { KEY_OPTIONS = sizeof(key_options) / sizeof(key_options[0]) };

struct call {
    const struct ctl *ctl;
    struct pg_conn *conn;
    const struct opt_words *words;
    struct buf *err;
};

/* --- values for SQL --- */

/* Rights as an array, which PostgreSQL reads as text: {"lock:repo/…",…}. */
static void put_rights(struct buf *out, const char *const *rights, size_t n)
{
    buf_putc(out, '{');
    for (size_t i = 0; i < n; i++) {
        buf_puts(out, i ? ",\"" : "\"");
        for (const char *p = rights[i]; *p; p++) {
            if (*p == '"' || *p == '\\')
                buf_putc(out, '\\');
            buf_putc(out, *p);
        }
        buf_putc(out, '"');
    }
    buf_putc(out, '}');
}

static bool check_rights(const char *const *rights, size_t n)
{
    enum right right;
    struct str pattern;
    for (size_t i = 0; i < n; i++) {
        const char *wrong = right_parse(str_of(rights[i]), &right, &pattern);
        if (wrong) {
            ctl_error("%s: %s", rights[i], wrong);
            return false;
        }
    }
    return true;
}

static const char *interval_of(int64_t ms, struct buf *out)
{
    if (ms == 0)
        return NULL;
    buf_printf(out, "%" PRId64 " milliseconds", ms);
    return buf_cstr(out);
}

/* --- a new key --- */

/* The key itself, and what PostgreSQL is told of it. */
static bool make_key(struct buf *key, struct buf *digest, struct buf *err)
{
    unsigned char sha256[SHA256_BYTES];
    buf_puts(key, "pglk_");
    if (!secret_make(key)) {
        buf_puts(err, "the system has no random bits for a key");
        return false;
    }
    secret_digest(buf_str(key), sha256);
    buf_puts(digest, "\\x");
    secret_put_hex(sha256, digest);
    return true;
}

static void print_key(const struct ctl *ctl, struct buf *key, const char *id)
{
    if (ctl->json) {
        struct buf out = {0};
        struct json j = json_to(&out);
        json_begin_object(&j);
        json_put_string(&j, "name", str_of(o.name));
        json_put_string(&j, "id", str_of(id));
        json_put_string(&j, "key", buf_str(key));
        json_end_object(&j);
        puts(buf_cstr(&out));
        secret_wipe(buf_str(&out));
        buf_free(&out);
        return;
    }
    puts(buf_cstr(key));
    fprintf(stderr, "pglockctl: this is key %s; it is shown this once and kept nowhere\n", id);
}

/* sql takes the name, the digest and the expiry first. */
static int new_key(const struct call *c, const char *sql, int n, const char *third,
                   const char *fourth)
{
    struct buf key = {0}, digest = {0}, expires = {0};
    int status = CTL_CONFIG;
    if (make_key(&key, &digest, c->err)) {
        const char *params[] = {o.name, buf_cstr(&digest), interval_of(o.expires_ms, &expires),
                                third, fourth};
        struct pg_result *rows = pg_query(c->conn, sql, n, params, c->err);
        status = rows ? CTL_OK : CTL_BAD_REQUEST;
        if (rows)
            print_key(c->ctl, &key, pg_value(rows, 0, 0));
        pg_rows_free(rows);
    }
    secret_wipe(buf_str(&key));
    buf_free(&key);
    buf_free(&digest);
    buf_free(&expires);
    return status;
}

/* Runs a statement whose value is a number or truth; says missing where it is 0 or false. */
static int change(const struct call *c, const char *sql, const char *first, const char *second,
                  const char *missing)
{
    const char *params[] = {first, second};
    struct pg_result *rows = pg_query(c->conn, sql, second ? 2 : 1, params, c->err);
    const char *value = rows ? pg_value(rows, 0, 0) : "";
    bool changed = rows && strcmp(value ? value : "f", "f") != 0 && strcmp(value, "0") != 0;
    if (rows && !changed && missing)
        buf_puts(c->err, missing);
    pg_rows_free(rows);
    return changed ? CTL_OK : CTL_BAD_REQUEST;
}

/* --- actions --- */

static int create(const struct call *c)
{
    struct buf rights = {0};
    put_rights(&rights, o.allow, o.nallow);
    int status;
    if (o.no_key)
        status = change(c, "select pglockd.key_create($1, null, $2::text[]) is null", o.name,
                        buf_cstr(&rights), NULL);
    else
        status =
            new_key(c, "select pglockd.key_create($1, $2::bytea, $4::text[], $3::interval, $5)", 5,
                    buf_cstr(&rights), o.note);
    buf_free(&rights);
    return status;
}

static int rotate(const struct call *c)
{
    struct buf overlap = {0};
    buf_printf(&overlap, "%" PRId64 " milliseconds", o.overlap_ms);
    int status = new_key(c, "select pglockd.key_rotate($1, $2::bytea, $3::interval, $4::interval)",
                         4, buf_cstr(&overlap), NULL);
    buf_free(&overlap);
    return status;
}

static int revoke(const struct call *c)
{
    if (o.name)
        return change(c, "select pglockd.identity_revoke($1)", o.name, NULL,
                      "there is no such name that is valid");
    return change(c, "select pglockd.key_revoke($1)", c->words->words[1], NULL,
                  "there is no such key that is not revoked already");
}

static int change_rights(const struct call *c, const char *sql, const char *missing)
{
    struct buf rights = {0};
    put_rights(&rights, (const char *const *)c->words->words + 1, c->words->nwords - 1);
    int status = change(c, sql, o.name, buf_cstr(&rights), missing);
    buf_free(&rights);
    return status;
}

static int allow(const struct call *c)
{
    return change_rights(c, "select pglockd.identity_allow($1, $2::text[])",
                         "it has had these rights before");
}

static int deny(const struct call *c)
{
    return change_rights(c, "select pglockd.identity_deny($1, $2::text[])",
                         "it has no such right, as it was given: see pglockctl key names");
}

static int print_rows(const struct call *c, const char *sql, const char *json_sql,
                      const char *const *heads, size_t nheads)
{
    const char *params[] = {o.name};
    return database_print(
        c->ctl, pg_query(c->conn, c->ctl->json ? json_sql : sql, 1, params, c->err), heads, nheads);
}

#define OF_NAME " where $1::text is null or name = $1"
#define STAMP(column) "to_char(" column " at time zone 'UTC', 'YYYY-MM-DD HH24:MI')"

static int ls(const struct call *c)
{
    static const char *const heads[] = {"KEY",     "NAME",      "STATE", "CREATED",
                                        "EXPIRES", "LAST USED", "NOTE"};
    return print_rows(c,
                      "select key, name, state, " STAMP("created_at") ", " STAMP(
                          "expires_at") ", " STAMP("last_used_at") ", note "
                                                                   "from pglockd.keys" OF_NAME
                                                                   " order by name, created_at",
                      "select coalesce(json_agg(k order by k.name, k.created_at), '[]') "
                      "from (select * from pglockd.keys" OF_NAME ") k",
                      heads, sizeof(heads) / sizeof(heads[0]));
}

static int names(const struct call *c)
{
    static const char *const heads[] = {"NAME", "VALID", "KEYS", "RIGHTS", "NOTE"};
    return print_rows(c,
                      "select name, case when valid then 'yes' else 'revoked' end, keys, "
                      "array_to_string(rights, ' '), note from pglockd.identities" OF_NAME
                      " order by name",
                      "select coalesce(json_agg(i order by i.name), '[]') "
                      "from (select * from pglockd.identities" OF_NAME ") i",
                      heads, sizeof(heads) / sizeof(heads[0]));
}

/* --- the command --- */

static const struct action {
    const char *name;
    int (*run)(const struct call *c);
    bool named;  /* needs --name */
    bool rights; /* takes rights as its words, one at least */
    const char *usage;
} actions[] = {
    {"create", create, true, false, "key create --name NAME [--allow VERB:PATTERN]…"},
    {"rotate", rotate, true, false, "key rotate --name NAME"},
    {"revoke", revoke, false, false, "key revoke KEY, or key revoke --name NAME"},
    {"allow", allow, true, true, "key allow --name NAME VERB:PATTERN…"},
    {"deny", deny, true, true, "key deny --name NAME VERB:PATTERN…"},
    {"ls", ls, false, false, "key ls [--name NAME]"},
    {"names", names, false, false, "key names [--name NAME]"},
};

static const struct action *find_action(const struct opt_words *words)
{
    for (size_t i = 0; words->nwords > 0 && i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(words->words[0], actions[i].name) == 0)
            return &actions[i];
    return NULL;
}

static bool fits(const struct action *a, const struct opt_words *words)
{
    bool takes_key = a->run == revoke && !o.name;
    size_t n = words->nwords;
    if (words->dashes || (a->named && !o.name))
        return false;
    return a->rights ? n >= 2 && n <= RIGHTS_MAX + 1 : n == (takes_key ? 2 : 1);
}

static int run(const struct ctl *ctl, const struct action *a, const struct opt_words *words)
{
    struct database db;
    struct buf err = {0};
    int status = database_open(&db, true, &err);
    if (status == CTL_OK)
        status = a->run(&(struct call){ctl, db.conn, words, &err});
    if (err.len > 0)
        ctl_error("%s", buf_cstr(&err));
    database_close(&db);
    buf_free(&err);
    return status;
}

static int key_main(struct ctl *ctl, const struct opt_words *words)
{
    const struct action *a = find_action(words);
    if (a == NULL)
        return ctl_usage_error("key takes create, rotate, revoke, allow, deny, ls or names");
    if (!fits(a, words))
        return ctl_usage_error("usage: pglockctl %s", a->usage);
    if (o.name && identity_name_check(str_of(o.name)))
        return ctl_usage_error("%s", identity_name_check(str_of(o.name)));
    if (!check_rights(o.allow, o.nallow) ||
        (a->rights && !check_rights((const char *const *)words->words + 1, words->nwords - 1)))
        return CTL_BAD_REQUEST;
    return run(ctl, a, words);
}

const struct command command_key = {
    .name = "key",
    .synopsis = "create|rotate|allow|deny|ls|names --name NAME | revoke KEY",
    .summary = "Make and revoke keys, and say what their names may do",
    .details = "\nWorks on the database, no daemon is needed; daemons follow within a second:\n"
               "    pglockctl key create --name ci --allow lock:'repo/*' --allow read:'*' >ci.key\n"
               "    pglockctl --key-file ci.key lock repo/a.ts\n"
               "    pglockctl key rotate --name ci        a new key, older ones for a day yet\n"
               "    pglockctl key allow|deny --name ci rate:'api/*'\n"
               "    pglockctl key revoke KEY              one key, by what key ls calls it\n"
               "    pglockctl key revoke --name ci        the name, and all its keys\n"
               "VERB is lock, rate, read, watch, force or admin (all of them); PATTERN is *, or\n"
               "a/b/* for what lies beneath a/b, or a/b for that alone. What is not allowed is\n"
               "denied. create without --allow makes another key of a name that is there. What\n"
               "a revoked name holds stands until its TTL.\n",
    .options = key_options,
    .noptions = KEY_OPTIONS,
    .more_options = database_options,
    .nmore_options = DATABASE_OPTIONS,
    .main = key_main,
};
