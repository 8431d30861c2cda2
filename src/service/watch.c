#include "service/watch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/route.h"
#include "service/state.h"

/*
 * A watcher goes through these states; after a lost connection it begins anew, with the number that
 * it has reached as its resume point:
 *
 *   WAITS    for its prefix: that it is registered, so that what happens is noted from then on, and
 *            that the transactions which began before that have ended (settled)
 *   STARTS   the database is asked whether anything is missing between its resume point and now
 *   BEHIND   it reads what it has not seen, a page at a time, while its client has room
 *   LIVE     it has seen what the daemon has seen; one statement reads on for all that do
 *
 * One statement is on its way at a time, so that the last answer always knows the latest events.
 */

enum {
    POLL_MS = 1000,     /* between reads, whatever notification was lost; and after a refusal */
    LOOK_MS = 20,       /* between looks for transactions that a prefix waits for */
    SETTLE_MS = 1000,   /* then a watch starts, and is told a gap when its prefix is settled */
    REGISTER_MAX = 500, /* prefixes in one statement */
    FILTER_MAX = 32,    /* prefixes that PostgreSQL looks for; where there are more it tells all */
    PAGE_EVENTS = 500,
    BUCKETS = 1024,
};

enum watcher_state { WATCHER_WAITS, WATCHER_STARTS, WATCHER_BEHIND, WATCHER_LIVE };

struct prefix {
    struct list at;     /* in the watches' prefixes */
    struct list bucket; /* by text */
    struct list watchers;
    size_t live;           /* of the watchers */
    int64_t due_us;        /* when it is to be registered again; 0: now */
    int64_t registered_us; /* 0: not over this connection */
    bool settled;
    bool looked;        /* the writers are known */
    struct buf writers; /* transactions that may not know that it is watched, each with a NUL */
    size_t n;
    char text[];
};

struct watcher {
    struct list at;   /* in its prefix's watchers */
    struct list turn; /* in a list of the watches, by its state; in none while its client is full */
    struct watches *watches;
    struct prefix *prefix;
    enum watcher_state state;
    bool started;     /* started() was called */
    bool early;       /* and that was before the prefix was settled */
    int64_t seq;      /* all up to it were told; negative: it has not begun */
    int64_t asked_us; /* when it was made */
    struct watch_callbacks callbacks;
    void *arg;
};

enum work {
    WORK_NONE,
    WORK_REGISTER,
    WORK_WRITERS,
    WORK_SETTLE,
    WORK_START,
    WORK_READ,
    WORK_CATCH_UP,
};

struct watches {
    struct service *s;
    struct link *link;
    ev_timer timer;
    size_t count; /* watchers */
    size_t live;
    struct list prefixes;
    struct list buckets[BUCKETS];
    struct list waiting; /* watchers by state: those that wait */
    struct list starting;
    struct list behind;
    enum work work;                     /* on its way */
    struct prefix *asked[REGISTER_MAX]; /* what it is about; NULL: gone meanwhile */
    size_t nasked;
    struct watcher *who;
    bool unread;           /* there may be events that the live ones have not seen */
    bool others_first;     /* those behind had to wait last time */
    int64_t seen_seq;      /* what the live ones have seen */
    int64_t read_us;       /* when they read last */
    int64_t looked_us;     /* when the writers were looked at last */
    int64_t rest_until_us; /* nothing is asked before, since the last statement was refused */
    struct link_params params;
};

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set synchronous_commit = off;"
    "set default_transaction_isolation = 'read committed';"
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off;"
    "set enable_hashjoin = off; set enable_mergejoin = off;"
    "set statement_timeout = '5s'; set client_min_messages = warning; listen pglockd_events";

static const struct link_statement register_statement = {
    "register", "select pglockd.watch_prefixes($1, $2)", false};
static const struct link_statement writers_statement = {"writers", "select pglockd.lease_writers()",
                                                        false};
static const struct link_statement settle_statement = {"settle",
                                                       "select pglockd.settle_watches($1)", false};
static const struct link_statement start_statement = {
    "start", "select o_seq, o_lost from pglockd.resume_watch($1, $2)", false};
static const struct link_statement read_statement = {
    "read", "select * from pglockd.read_events($1, $2, $3)", false};

/* Columns of pglockd.read_events(). */
enum {
    R_SEQ,
    R_EVENT,
    R_RESOURCE,
    R_TOKEN,
    R_OWNER,
    R_MODE,
    R_SCOPE,
    R_REASON,
    R_IDENTITY,
    R_DETAIL,
    R_AGO,
    R_MORE
};

static void pump(struct watches *ws);

/* --- prefixes --- */

static struct str prefix_text(const struct prefix *p)
{
    return (struct str){p->text, p->n};
}

static struct list *bucket_of(struct watches *ws, struct str text)
{
    return &ws->buckets[route_hash(text) % BUCKETS];
}

static struct prefix *prefix_find(struct watches *ws, struct str text)
{
    list_for_each(at, bucket_of(ws, text))
    {
        struct prefix *p = container_of(at, struct prefix, bucket);
        if (str_eq(prefix_text(p), text))
            return p;
    }
    return NULL;
}

static struct prefix *prefix_get(struct watches *ws, struct str text)
{
    struct prefix *p = prefix_find(ws, text);
    if (p)
        return p;
    p = xcalloc(1, sizeof(*p) + text.n);
    p->n = text.n;
    memcpy(p->text, text.p, text.n);
    list_init(&p->watchers);
    list_init(&p->at);
    list_init(&p->bucket);
    list_append(&ws->prefixes, &p->at);
    list_append(bucket_of(ws, text), &p->bucket);
    return p;
}

/* The database forgets it by itself, a while after it was registered last. */
static void prefix_free(struct watches *ws, struct prefix *p)
{
    for (size_t i = 0; i < ws->nasked; i++)
        if (ws->asked[i] == p)
            ws->asked[i] = NULL;
    list_remove(&p->at);
    list_remove(&p->bucket);
    buf_free(&p->writers);
    free(p);
}

static bool is_settling(const struct prefix *p)
{
    return p->registered_us != 0 && !p->settled;
}

/* --- watchers --- */

int64_t watcher_seq(const struct watcher *w)
{
    int64_t seen = w->watches->seen_seq;
    return w->state == WATCHER_LIVE && seen > w->seq ? seen : w->seq;
}

struct str watcher_prefix(const struct watcher *w)
{
    return prefix_text(w->prefix);
}

static void set_state(struct watcher *w, enum watcher_state state)
{
    struct watches *ws = w->watches;
    struct list *const lists[] = {[WATCHER_WAITS] = &ws->waiting,
                                  [WATCHER_STARTS] = &ws->starting,
                                  [WATCHER_BEHIND] = &ws->behind};
    bool was_live = w->state == WATCHER_LIVE, is_live = state == WATCHER_LIVE;
    if (was_live && !is_live) {
        w->seq = watcher_seq(w);
        ws->live--;
        w->prefix->live--;
    }
    if (is_live && !was_live) {
        if (ws->live++ == 0)
            ws->seen_seq = w->seq;
        w->prefix->live++;
    }
    w->state = state;
    list_remove(&w->turn);
    if (!is_live)
        list_append(lists[state], &w->turn);
}

/* Its client cannot take the event of this number. */
static void set_full(struct watcher *w, int64_t seq)
{
    set_state(w, WATCHER_BEHIND);
    list_remove(&w->turn);
    w->seq = seq - 1;
}

static void tell_gap(struct watcher *w, struct str code)
{
    w->callbacks.gap(w->arg, watcher_seq(w), code);
}

/* False: there is no room. */
static bool tell(struct watcher *w, const struct watch_event *e)
{
    if (!w->callbacks.tell(w->arg, e)) {
        set_full(w, e->seq);
        return false;
    }
    return true;
}

/* --- the prefixes' way to being settled --- */

static void unsettle(struct prefix *p)
{
    p->settled = p->looked = false;
    list_for_each(at, &p->watchers)
    {
        struct watcher *w = container_of(at, struct watcher, at);
        w->early = false;
        set_state(w, WATCHER_WAITS);
    }
}

static void settle(struct prefix *p)
{
    p->settled = true;
    list_for_each(at, &p->watchers)
    {
        struct watcher *w = container_of(at, struct watcher, at);
        if (w->state == WATCHER_WAITS)
            set_state(w, WATCHER_STARTS);
        else if (w->early && w->state != WATCHER_STARTS) /* else it starts from here */
            tell_gap(w, STR_LIT("older_transactions"));
        w->early = false;
    }
}

static void start_early(struct prefix *p)
{
    list_for_each(at, &p->watchers)
    {
        struct watcher *w = container_of(at, struct watcher, at);
        if (w->state != WATCHER_WAITS)
            continue;
        w->early = true;
        set_state(w, WATCHER_STARTS);
    }
}

static bool has_text(const struct buf *list, struct str text)
{
    for (size_t at = 0; at < list->len;) {
        struct str one = str_of(list->data + at);
        if (str_eq(one, text))
            return true;
        at += one.n + 1;
    }
    return false;
}

/* Of those that it waits for, the ones that are still at work; at the first look, all. */
static void keep_writers(struct prefix *p, const struct buf *at_work)
{
    struct buf left = {0};
    for (size_t at = 0; at < at_work->len;) {
        struct str one = str_of(at_work->data + at);
        if (!p->looked || has_text(&p->writers, one))
            buf_put(&left, one.p, one.n + 1);
        at += one.n + 1;
    }
    buf_free(&p->writers);
    p->writers = left;
    p->looked = true;
}

static void on_writers(struct watches *ws, const struct link_rows *rows)
{
    struct array_reader r;
    struct buf at_work = {0};
    struct str one;
    int length;
    const void *value = link_bytes(rows, 0, 0, &length);
    if (!array_open(&r, value, length))
        return;
    while (array_next_text(&r, &one)) {
        buf_put(&at_work, one.p, one.n);
        buf_putc(&at_work, '\0');
    }
    list_for_each(at, &ws->prefixes)
    {
        struct prefix *p = container_of(at, struct prefix, at);
        if (!is_settling(p))
            continue;
        keep_writers(p, &at_work);
        /* Late by this look: a daemon that stood still knows of none that lasted for so long. */
        if (p->writers.len > 0 && ws->looked_us - p->registered_us >= 1000 * SETTLE_MS)
            start_early(p);
    }
    buf_free(&at_work);
}

static void on_registered(struct watches *ws, const struct link_rows *rows)
{
    struct array_reader r;
    int64_t settled, now_us = clock_mono_us();
    int length;
    const void *value = link_bytes(rows, 0, 0, &length);
    bool good = array_open(&r, value, length);
    for (size_t i = 0; good && i < ws->nasked && array_next_int(&r, &settled); i++) {
        struct prefix *p = ws->asked[i];
        if (p == NULL)
            continue;
        bool anew = p->registered_us == 0 || (p->settled && !settled);
        p->due_us = now_us + 1000 * ws->s->o.settings->watch_keep_ms / 3;
        if (!anew)
            continue;
        p->registered_us = now_us;
        unsettle(p);
        if (settled)
            settle(p);
    }
}

/* --- events --- */

static struct watch_event event_of(const struct link_rows *rows, int row)
{
    struct watch_event e = {
        .seq = link_int(rows, row, R_SEQ),
        .event = link_text(rows, row, R_EVENT),
        .resource = link_text(rows, row, R_RESOURCE),
        .token = link_int(rows, row, R_TOKEN),
        .owner = link_text(rows, row, R_OWNER),
        .mode = link_text(rows, row, R_MODE),
        .scope = link_text(rows, row, R_SCOPE),
        .reason = link_text(rows, row, R_REASON),
        .detail = link_text(rows, row, R_DETAIL),
        .ago_ms = link_int(rows, row, R_AGO),
    };
    return e;
}

static void tell_live(struct watches *ws, struct str prefix, const struct watch_event *e)
{
    struct prefix *p = prefix_find(ws, prefix);
    if (p == NULL)
        return;
    list_for_each(at, &p->watchers)
    {
        struct watcher *w = container_of(at, struct watcher, at);
        if (w->state == WATCHER_LIVE && e->seq > w->seq)
            tell(w, e);
    }
}

/* To those who watch the resource, or what it lies beneath. */
static void dispatch(struct watches *ws, const struct watch_event *e)
{
    tell_live(ws, STR_LIT("/"), e);
    for (size_t n = 1; n < e->resource.n; n++)
        if (e->resource.p[n] == '/')
            tell_live(ws, (struct str){e->resource.p, n}, e);
    if (!str_is(e->resource, "/"))
        tell_live(ws, e->resource, e);
}

static void on_read(struct watches *ws, const struct link_rows *rows)
{
    int last = link_rows_count(rows) - 1;
    for (int row = 0; row < last; row++) {
        struct watch_event e = event_of(rows, row);
        dispatch(ws, &e);
    }
    ws->seen_seq = link_int(rows, last, R_SEQ);
    ws->unread |= link_int(rows, last, R_MORE) != 0;
}

static void on_caught_up(struct watches *ws, const struct link_rows *rows)
{
    struct watcher *w = ws->who;
    int last = link_rows_count(rows) - 1;
    if (w == NULL || w->state != WATCHER_BEHIND)
        return;
    for (int row = 0; row < last; row++) {
        struct watch_event e = event_of(rows, row);
        if (!tell(w, &e))
            return;
    }
    w->seq = link_int(rows, last, R_SEQ);
    set_state(w, link_int(rows, last, R_MORE) != 0 ? WATCHER_BEHIND : WATCHER_LIVE);
}

static void on_start(struct watches *ws, const struct link_rows *rows)
{
    struct watcher *w = ws->who;
    if (w == NULL || w->state != WATCHER_STARTS)
        return;
    w->seq = link_int(rows, 0, 0);
    set_state(w, WATCHER_BEHIND);
    if (!w->started) {
        w->started = true;
        w->callbacks.started(w->arg, true, w->seq);
    }
    if (ws->who && !link_is_null(rows, 0, 1)) /* the client may have ended it at once */
        tell_gap(w, link_text(rows, 0, 1));
}

/* --- one statement at a time --- */

static void on_rows(void *arg, int call, const struct link_rows *rows)
{
    struct watches *ws = arg;
    (void)call;
    switch (ws->work) {
    case WORK_REGISTER:
        on_registered(ws, rows);
        break;
    case WORK_WRITERS:
        on_writers(ws, rows);
        break;
    case WORK_SETTLE:
        for (size_t i = 0; i < ws->nasked; i++)
            if (ws->asked[i])
                settle(ws->asked[i]);
        break;
    case WORK_START:
        on_start(ws, rows);
        break;
    case WORK_READ:
        on_read(ws, rows);
        break;
    case WORK_CATCH_UP:
        on_caught_up(ws, rows);
        break;
    case WORK_NONE:
        break;
    }
}

static void on_end(void *arg, const struct link_outcome *outcome)
{
    struct watches *ws = arg;
    if (outcome->end == LINK_REFUSED) {
        log_warn("watch_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
        ws->unread |= ws->work == WORK_READ;
        ws->rest_until_us = clock_mono_us() + 1000 * POLL_MS;
    }
    ws->work = WORK_NONE;
    ws->nasked = 0;
    ws->who = NULL;
    if (outcome->end == LINK_COMMITTED) /* else the timer is soon enough */
        pump(ws);
}

static void ask_prefixes(struct watches *ws, bool (*wanted)(const struct prefix *p, int64_t now_us))
{
    struct array_writer a;
    int64_t now_us = clock_mono_us();
    ws->nasked = 0;
    link_param_open(&ws->params);
    array_begin(&a, &ws->params.bytes, PG_TEXT);
    list_for_each(at, &ws->prefixes)
    {
        struct prefix *p = container_of(at, struct prefix, at);
        if (ws->nasked == REGISTER_MAX || !wanted(p, now_us))
            continue;
        ws->asked[ws->nasked++] = p;
        array_put_text(&a, prefix_text(p));
    }
    array_end(&a);
    link_param_close(&ws->params);
}

static bool is_due(const struct prefix *p, int64_t now_us)
{
    return p->due_us <= now_us;
}

static bool can_settle(const struct prefix *p, int64_t now_us)
{
    (void)now_us;
    return is_settling(p) && p->looked && p->writers.len == 0;
}

static bool any_prefix(const struct watches *ws,
                       bool (*wanted)(const struct prefix *p, int64_t now_us))
{
    int64_t now_us = clock_mono_us();
    list_for_each(at, &ws->prefixes)
    {
        if (wanted(container_of(at, struct prefix, at), now_us))
            return true;
    }
    return false;
}

static bool settles(const struct prefix *p, int64_t now_us)
{
    (void)now_us;
    return is_settling(p);
}

/* What the live ones watch; nothing where that is too much to look for. */
static void put_live_prefixes(struct watches *ws)
{
    struct array_writer a;
    size_t n = 0;
    list_for_each(at, &ws->prefixes) n += container_of(at, struct prefix, at)->live > 0;
    if (n > FILTER_MAX) {
        link_param_null(&ws->params);
        return;
    }
    link_param_open(&ws->params);
    array_begin(&a, &ws->params.bytes, PG_TEXT);
    list_for_each(at, &ws->prefixes)
    {
        const struct prefix *p = container_of(at, struct prefix, at);
        if (p->live > 0)
            array_put_text(&a, prefix_text(p));
    }
    array_end(&a);
    link_param_close(&ws->params);
}

static enum work next_work(struct watches *ws)
{
    int64_t now_us = clock_mono_us();
    bool may_read = ws->live > 0 && (ws->unread || now_us - ws->read_us >= 1000 * POLL_MS);
    if (any_prefix(ws, is_due))
        return WORK_REGISTER;
    if (any_prefix(ws, can_settle))
        return WORK_SETTLE;
    if (now_us - ws->looked_us >= 1000 * LOOK_MS && any_prefix(ws, settles))
        return WORK_WRITERS;
    if (!list_empty(&ws->starting))
        return WORK_START;
    if (!list_empty(&ws->behind) && (ws->others_first || !may_read))
        return WORK_CATCH_UP;
    return may_read ? WORK_READ : WORK_NONE;
}

static void call_read(struct watches *ws)
{
    put_live_prefixes(ws);
    link_param_int8(&ws->params, ws->seen_seq);
    link_param_int4(&ws->params, PAGE_EVENTS);
    ws->unread = false;
    ws->read_us = clock_mono_us();
    ws->others_first = true;
    link_call(ws->link, &read_statement, &ws->params);
}

static void call_catch_up(struct watches *ws)
{
    ws->who = list_first(&ws->behind, struct watcher, turn);
    ws->others_first = false;
    link_param_text_array1(&ws->params, watcher_prefix(ws->who));
    link_param_int8(&ws->params, ws->who->seq);
    link_param_int4(&ws->params, PAGE_EVENTS);
    link_call(ws->link, &read_statement, &ws->params);
}

static void call_start(struct watches *ws)
{
    ws->who = list_first(&ws->starting, struct watcher, turn);
    link_param_text(&ws->params, watcher_prefix(ws->who));
    if (ws->who->seq < 0)
        link_param_null(&ws->params);
    else
        link_param_int8(&ws->params, ws->who->seq);
    link_call(ws->link, &start_statement, &ws->params);
}

static void pump(struct watches *ws)
{
    if (!link_is_up(ws->link) || ws->work != WORK_NONE || clock_mono_us() < ws->rest_until_us)
        return;
    link_params_clear(&ws->params);
    ws->work = next_work(ws);
    switch (ws->work) {
    case WORK_NONE:
        return;
    case WORK_REGISTER:
        ask_prefixes(ws, is_due);
        link_param_int8(&ws->params, ws->s->o.settings->watch_keep_ms);
        link_call(ws->link, &register_statement, &ws->params);
        break;
    case WORK_WRITERS:
        ws->looked_us = clock_mono_us();
        link_call(ws->link, &writers_statement, &ws->params);
        break;
    case WORK_SETTLE:
        ask_prefixes(ws, can_settle);
        link_call(ws->link, &settle_statement, &ws->params);
        break;
    case WORK_START:
        call_start(ws);
        break;
    case WORK_READ:
        call_read(ws);
        break;
    case WORK_CATCH_UP:
        call_catch_up(ws);
        break;
    }
    link_send(ws->link, on_rows, on_end, ws);
}

/* --- time --- */

/* Whether somebody waits for something that is found by looking again soon. */
static bool is_busy(const struct watches *ws)
{
    return !list_empty(&ws->waiting) || !list_empty(&ws->starting) || any_prefix(ws, settles);
}

static void set_pace(struct watches *ws)
{
    ws->timer.repeat = (is_busy(ws) ? LOOK_MS : POLL_MS) / 1000.0;
    if (ws->count > 0)
        ev_timer_again(ws->s->o.loop, &ws->timer);
    else
        ev_timer_stop(ws->s->o.loop, &ws->timer);
}

static struct watcher *find_late(const struct list *watchers, int64_t before_us)
{
    list_for_each(at, watchers)
    {
        struct watcher *w = container_of(at, struct watcher, turn);
        if (!w->started && w->asked_us < before_us)
            return w;
    }
    return NULL;
}

/* One after the other: whoever is told may end others. */
static void give_up(struct list *watchers, int64_t before_us)
{
    struct watcher *w;
    while ((w = find_late(watchers, before_us)) != NULL) {
        list_remove(&w->turn);
        w->callbacks.started(w->arg, false, 0);
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct watches *ws = timer->data;
    int64_t now_us = clock_mono_us();
    int64_t timeout_us = 1000 * ws->s->o.settings->request_timeout_ms;
    (void)loop, (void)revents;
    give_up(&ws->waiting, now_us - timeout_us);
    give_up(&ws->starting, now_us - timeout_us);
    pump(ws);
    set_pace(ws);
}

static void on_notified(void *arg, const char *channel, const char *payload)
{
    struct watches *ws = arg;
    (void)channel, (void)payload;
    ws->unread = true;
    pump(ws);
}

/* --- the connection --- */

static void on_up(void *arg)
{
    pump(arg);
}

/* What is registered may be forgotten when it is back, and events with it. */
static void on_down(void *arg)
{
    struct watches *ws = arg;
    list_for_each(at, &ws->prefixes)
    {
        struct prefix *p = container_of(at, struct prefix, at);
        p->due_us = p->registered_us = 0;
        unsettle(p);
    }
    ws->rest_until_us = 0;
    set_pace(ws);
}

static struct watches *watches_create(struct service *s)
{
    static const struct link_statement *const statements[] = {&register_statement,
                                                              &writers_statement, &settle_statement,
                                                              &start_statement, &read_statement};
    struct watches *ws = xcalloc(1, sizeof(*ws));
    ws->s = s;
    list_init(&ws->prefixes);
    list_init(&ws->waiting);
    list_init(&ws->starting);
    list_init(&ws->behind);
    for (int i = 0; i < BUCKETS; i++)
        list_init(&ws->buckets[i]);
    ev_init(&ws->timer, on_timer);
    ws->timer.data = ws;
    struct link_options options = {.loop = s->o.loop,
                                   .conninfo = s->o.conninfo,
                                   .seen = &s->seen,
                                   .label = "watch",
                                   .session = session_sql,
                                   .statements = statements,
                                   .nstatements = 5,
                                   .up = on_up,
                                   .down = on_down,
                                   .notified = on_notified,
                                   .arg = ws};
    ws->link = link_create(&options);
    return ws;
}

void watches_destroy(struct watches *ws)
{
    if (ws == NULL)
        return;
    ev_timer_stop(ws->s->o.loop, &ws->timer);
    link_destroy(ws->link);
    link_params_free(&ws->params);
    free(ws);
}

/* --- the interface --- */

struct watcher *watcher_new(struct service *s, struct str prefix, int64_t after,
                            const struct watch_callbacks *callbacks, void *arg)
{
    if (s->watches == NULL)
        s->watches = watches_create(s);
    struct watches *ws = s->watches;
    if (ws->count >= s->o.settings->max_watches)
        return NULL;
    struct watcher *w = xcalloc(1, sizeof(*w));
    w->watches = ws;
    w->prefix = prefix_get(ws, prefix);
    w->seq = after;
    w->asked_us = clock_mono_us();
    w->callbacks = *callbacks;
    w->arg = arg;
    list_init(&w->at);
    list_init(&w->turn);
    list_append(&w->prefix->watchers, &w->at);
    ws->count++;
    metric_add(M_WATCHES, 1);
    set_state(w, w->prefix->settled ? WATCHER_STARTS : WATCHER_WAITS);
    set_pace(ws);
    pump(ws);
    return w;
}

void watcher_free(struct watcher *w)
{
    if (w == NULL)
        return;
    struct watches *ws = w->watches;
    struct prefix *p = w->prefix;
    if (ws->who == w)
        ws->who = NULL;
    set_state(w, WATCHER_WAITS); /* not live */
    list_remove(&w->turn);
    list_remove(&w->at);
    ws->count--;
    metric_add(M_WATCHES, -1);
    if (list_empty(&p->watchers))
        prefix_free(ws, p);
    free(w);
}

void watcher_go_on(struct watcher *w)
{
    if (w->state != WATCHER_BEHIND || !list_empty(&w->turn))
        return;
    set_state(w, WATCHER_BEHIND);
    pump(w->watches);
}
