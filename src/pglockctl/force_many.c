#include "pglockctl/force_many.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "pg/query.h"
#include "pglockctl/database.h"

enum { BATCH_MAX = 500 }; /* what the functions end at once unless they are told */

/* What may be forced; each row of an answer: status, what it is about, locks. */
static const struct target {
    const char *word, *sql;
} targets[] = {
    {"owner", "select status, resource, 1 from pglockd.force_owner($1, $2)"},
    {"prefix", "select status, resource, 1 from pglockd.force_prefix($1, $2)"},
    {"session",
     "select status, 'session ' || $1, locks from pglockd.force_session($1::bigint, $2)"},
};
enum { TARGETS = sizeof(targets) / sizeof(targets[0]) };

struct forced {
    int64_t locks;     /* that have ended */
    bool found;        /* something has */
    struct buf fenced; /* what a transaction keeps, each with a NUL behind it */
};

/* The one target that the words name; NULL: they do not, or name what is not known. */
static const struct target *find_target(const struct opt_words *words)
{
    const struct target *found = NULL;

    for (size_t i = 0; i < words->nwords; i++) {
        const char *word = words->words[i];
        const struct target *t = NULL;
        for (size_t k = 0; k < TARGETS; k++) {
            size_t n = strlen(targets[k].word);
            if (strncmp(word, targets[k].word, n) == 0 && word[n] == '=')
                t = &targets[k];
        }
        if (t ? found != NULL : strncmp(word, "reason=", 7) != 0)
            return NULL;
        if (t)
            found = t;
    }
    return words->dashes ? NULL : found;
}

static bool may_force(struct pg_conn *conn, struct buf *err)
{
    struct pg_result *rows = pg_query(
        conn, "select has_function_privilege('pglockd.force_session(bigint, text)', 'execute')", 0,
        NULL, err);
    bool may = rows && strcmp(pg_value(rows, 0, 0), "t") == 0;

    if (rows && !may)
        buf_puts(err, "the database user may not force: it takes a member of pglockd_admin");
    pg_rows_free(rows);
    return may;
}

/* One transaction: how many rows it ended, or -1. Only what the last one leaves is fenced. */
static int force_batch(struct pg_conn *conn, const struct target *t, const char *const *params,
                       struct forced *f, struct buf *err)
{
    struct pg_result *rows = pg_query(conn, t->sql, 2, params, err);
    int ended = rows ? 0 : -1;

    buf_clear(&f->fenced);
    for (int r = 0; rows && r < pg_rows(rows); r++) {
        const char *status = pg_value(rows, r, 0);
        if (strcmp(status, "OK") == 0) {
            f->locks += strtoll(pg_value(rows, r, 2), NULL, 10);
            f->found = true;
            ended++;
        } else if (strcmp(status, "FENCED") == 0) {
            buf_puts(&f->fenced, pg_value(rows, r, 1));
            buf_putc(&f->fenced, '\0');
        }
    }
    pg_rows_free(rows);
    return ended;
}

static void print_json(const struct forced *f)
{
    struct buf out = {0};
    struct json j = json_to(&out);

    json_begin_object(&j);
    json_put_int(&j, "ended", f->locks);
    json_key(&j, "fenced");
    json_begin_array(&j);
    for (size_t at = 0; at < f->fenced.len; at += strlen(f->fenced.data + at) + 1)
        json_string(&j, str_of(f->fenced.data + at));
    json_end_array(&j);
    json_end_object(&j);
    puts(buf_cstr(&out));
    buf_free(&out);
}

static int tell(const struct ctl *ctl, const struct forced *f)
{
    if (ctl->json)
        print_json(f);
    else
        printf("%" PRId64 " %s ended\n", f->locks, f->locks == 1 ? "lock" : "locks");
    for (size_t at = 0; at < f->fenced.len; at += strlen(f->fenced.data + at) + 1)
        ctl_error("%s stands: a transaction keeps it locked", f->fenced.data + at);
    if (f->fenced.len > 0)
        return (int)ctl->busy_status;
    return f->found ? CTL_OK : CTL_LOST;
}

static int force_in(const struct ctl *ctl, struct pg_conn *conn, const struct target *t,
                    const char *const *params, struct buf *err)
{
    struct forced f = {0};
    int status = CTL_DENIED;
    int ended = BATCH_MAX;

    if (may_force(conn, err)) {
        while (ended >= BATCH_MAX)
            ended = force_batch(conn, t, params, &f, err);
        status = ended < 0 ? CTL_BAD_REQUEST : tell(ctl, &f);
    }
    buf_free(&f.fenced);
    return status;
}

bool force_many_is_meant(const struct opt_words *words)
{
    for (size_t i = 0; i < TARGETS; i++)
        if (ctl_word_value(words, targets[i].word))
            return true;
    return false;
}

int force_many(const struct ctl *ctl, const struct opt_words *words)
{
    const struct target *t = find_target(words);
    struct database db;
    struct buf err = {0};

    if (t == NULL)
        return ctl_usage_error("force takes one of owner=NAME, session=ID and prefix=RESOURCE, and "
                               "reason=TEXT");
    const char *params[] = {ctl_word_value(words, t->word), ctl_word_value(words, "reason")};
    int status = database_open(&db, true, &err);
    if (status == CTL_OK)
        status = force_in(ctl, db.conn, t, params, &err);
    if (err.len > 0)
        ctl_error("%s", buf_cstr(&err));
    database_close(&db);
    buf_free(&err);
    return status;
}
