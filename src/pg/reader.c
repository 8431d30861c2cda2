#include "pg/reader.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/xalloc.h"

enum {
    ROUNDS_MAX = 64,   /* questions at the server at a time */
    LOOK_EVERY_MS = 50 /* for questions whose time is over */
};

#define COMMON_SQL                                                                                 \
    "set search_path = pg_catalog, pg_temp; set plan_cache_mode = force_generic_plan;"             \
    "set enable_seqscan = off; set jit = off; set statement_timeout = '5s';"                       \
    "set client_min_messages = warning;"

static const char *const session_sql[] = {
    [READER_READS] = COMMON_SQL "set default_transaction_read_only = on",
    [READER_WRITES] = COMMON_SQL "set lock_timeout = '1s'; set synchronous_commit = 'on';"
                                 "set default_transaction_isolation = 'read committed'",
};
static const struct link_statement statements[ASK_QUESTIONS] = {
    [ASK_CHECK] = {"check",
                   "select o_item[1], o_number[1], o_own[1] from pglockd.check_leases($1, $2, $3)",
                   false},
    [ASK_HOLDERS] = {"holders", "select * from pglockd.holders($1, $2, $3)", false},
    [ASK_WAITING] = {"waiting", "select * from pglockd.waiting($1, $2)", false},
    [ASK_LOST] = {"lost", "select * from pglockd.explain_lost($1, $2, $3)", false},
    [ASK_LIST] = {"list", "select * from pglockd.list_leases($1, $2, $3, $4, $5, $6, $7)", false},
    [ASK_SESSIONS_ENDED] = {"sessions_ended", "select * from pglockd.sessions_ended($1)", false},
    [ASK_SESSION_ALLOW] = {"session_allow", "select pglockd.session_allow($1, $2, $3)", false},
    [ASK_SESSION_LOCKS] = {"session_locks", "select * from pglockd.session_locks($1, $2)", false},
    [ASK_SESSION_OPEN] = {"session_open",
                          "select * from pglockd.session_open($1, $2, $3, $4, $5, $6, $7)", false},
    [ASK_SESSION_RESUME] = {"session_resume",
                            "select * from pglockd.session_resume($1, $2, $3, $4, $5)", false},
    [ASK_SESSION_RENEW] = {"session_renew", "select * from pglockd.session_renew($1, $2, $3)",
                           false},
    [ASK_SESSION_CLOSE] = {"session_close", "select * from pglockd.session_close($1, $2, $3)",
                           false},
    [ASK_BY_ID] = {"by_id", "select * from pglockd.find_by_id($1, $2, $3)", false},
    [ASK_TRANSFER] = {"transfer", "select * from pglockd.transfer_lease($1, $2, $3, $4, $5, $6)",
                      false},
    [ASK_DEADLOCK] = {"deadlock", "select * from pglockd.deadlock_cycle($1, $2)", false},
    [ASK_FORCE] = {"force",
                   "select o_status, o_owner[1], o_identity[1], o_held_ms[1], o_pending "
                   "from pglockd.force_leases($1, $2, $3, $4)",
                   false},
    [ASK_STATUS] = {"status", "select name, value from pglockd.status($1, $2, $3)", false},
    [ASK_TOTALS] = {"totals", "select locks, waiting from pglockd.status_totals()", false},
};

struct reader {
    struct ev_loop *loop;
    struct link *link;
    struct list queue;
    struct list sent;
    ev_timer look;
};

/* What stands for an ask at the link: the ask itself may be done with long before the answer. */
struct flight {
    struct ask *ask; /* NULL: its time was over */
    struct reader *reader;
    struct list list;
};

static void take(struct ask *a)
{
    list_remove(&a->link);
    for (int i = 0; i < a->questions; i++)
        link_params_free(&a->params[i]);
}

static void finish(struct ask *a, bool ok)
{
    take(a);
    a->done(a, ok);
}

static void on_rows(void *arg, int call, const struct link_rows *rows)
{
    struct flight *f = arg;
    if (f->ask)
        f->ask->rows(f->ask, call, rows);
}

static void send_queued(struct reader *r);

static void on_end(void *arg, const struct link_outcome *outcome)
{
    struct flight *f = arg;
    struct reader *r = f->reader;
    struct ask *a = f->ask;
    list_remove(&f->list);
    free(f);
    if (a)
        finish(a, outcome->end == LINK_COMMITTED);
    if (link_is_up(r->link))
        send_queued(r);
}

static void send_queued(struct reader *r)
{
    while (!list_empty(&r->queue) && link_open_rounds(r->link) < ROUNDS_MAX) {
        struct ask *a = list_first(&r->queue, struct ask, link);
        struct flight *f = xcalloc(1, sizeof(*f));
        *f = (struct flight){.ask = a, .reader = r};
        list_init(&f->list);
        list_append(&r->sent, &f->list);
        list_remove(&a->link);
        a->sent = true;
        for (int i = 0; i < a->questions; i++)
            link_call(r->link, &statements[a->question[i]], &a->params[i]);
        link_send(r->link, on_rows, on_end, f);
    }
}

static void on_up(void *arg)
{
    send_queued(arg);
}

static void on_down(void *arg)
{
    (void)
        arg; /* what was sent has ended; what is queued waits for its time or the next connection */
}

static bool has_work(const struct reader *r)
{
    return !list_empty(&r->queue) || !list_empty(&r->sent);
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct reader *r = w->data;
    int64_t now_us = clock_mono_us();
    (void)revents;
    list_for_each(at, &r->sent)
    {
        struct flight *f = container_of(at, struct flight, list);
        struct ask *a = f->ask;
        if (a && a->deadline_us <= now_us) {
            f->ask = NULL;
            finish(a, false);
        }
    }
    while (!list_empty(&r->queue) && list_first(&r->queue, struct ask, link)->deadline_us <= now_us)
        finish(list_first(&r->queue, struct ask, link), false);
    if (!has_work(r))
        ev_timer_stop(loop, w);
}

struct reader *reader_create(struct ev_loop *loop, const char *conninfo, struct link_seen *seen,
                             enum reader_kind kind, const char *history)
{
    static const struct link_statement *list[ASK_QUESTIONS];
    struct reader *r = xcalloc(1, sizeof(*r));
    r->loop = loop;
    list_init(&r->queue);
    list_init(&r->sent);
    ev_timer_init(&r->look, on_look, 0., LOOK_EVERY_MS / 1000.0);
    r->look.data = r;
    for (int i = 0; i < ASK_QUESTIONS; i++)
        list[i] = &statements[i];
    struct link_options options = {.loop = loop,
                                   .conninfo = conninfo,
                                   .seen = seen,
                                   .label = kind == READER_READS ? "reader" : "sessions",
                                   .session = session_sql[kind],
                                   .history = history,
                                   .statements = list,
                                   .nstatements = ASK_QUESTIONS,
                                   .up = on_up,
                                   .down = on_down,
                                   .arg = r};
    r->link = link_create(&options);
    return r;
}

void reader_destroy(struct reader *r)
{
    if (r == NULL)
        return;
    ev_timer_stop(r->loop, &r->look);
    link_destroy(r->link);
    list_for_each(at, &r->sent)
    {
        struct flight *f = container_of(at, struct flight, list);
        if (f->ask)
            finish(f->ask, false);
        free(f);
    }
    while (!list_empty(&r->queue))
        finish(list_first(&r->queue, struct ask, link), false);
    free(r);
}

void reader_ask(struct reader *r, struct ask *a, int64_t timeout_ms)
{
    a->sent = false;
    a->deadline_us = clock_mono_us() + 1000 * timeout_ms;
    list_init(&a->link);
    list_append(&r->queue, &a->link);
    if (!ev_is_active(&r->look))
        ev_timer_again(r->loop, &r->look);
    if (link_is_up(r->link))
        send_queued(r);
}

bool reader_take_back(struct ask *a)
{
    if (a->sent || a->deadline_us == 0)
        return false;
    take(a);
    return true;
}
