#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/state.h"

/*
 * A daemon's presence: its row and its advisory lock on a connection of its own, a heartbeat on it,
 * notifications to other daemons and from them. Notifications only shorten the way: what one of
 * them loses, the next heartbeat finds.
 */

enum { TELLS_MAX = 256 * 1024 };

struct presence {
    struct service *s;
    struct link *link;
    ev_timer heart;
    ev_idle end_of_turn; /* never started: fed when there is somebody to wake */
    struct buf wakes;    /* int32_t: daemons to notify */
    struct buf tells;    /* resources, each with a NUL behind it, whose holders are to be told */
    bool notifying;
    bool registered; /* once at least */
    bool beating;    /* a heartbeat or registration is on the way */
    bool listening;
    bool known;   /* the last heartbeat found our row */
    bool missing; /* the last heartbeat found fewer waiters than we have */
    bool quiet;   /* the last one that was told of said that nothing is granted */
    struct link_params params;
    void (*retired)(void *arg);
    void *retired_arg;
};

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set synchronous_commit = off;"
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off;"
    "set statement_timeout = '5s'; set client_min_messages = warning";

static const struct link_statement register_statement = {
    "register", "select pglockd.register_instance($1, $2, $3, $4, $5)", true};
static const struct link_statement listen_statement = {"listen",
                                                       "select pglockd.listen_instance($1)", true};
static const struct link_statement heartbeat_statement = {
    "heartbeat",
    "select known, waiters, grants, quiet_ms, server, timeline, reason from pglockd.heartbeat($1, "
    "$2)",
    true};
static const struct link_statement notify_statement = {"notify",
                                                       "select pglockd.notify_instances($1)", true};
static const struct link_statement tell_statement = {"tell", "select pglockd.tell_listeners($1)",
                                                     true};
static const struct link_statement retire_statement = {
    "retire", "select o_wake from pglockd.retire_instance($1, $2)", false};

static void on_beat_end(void *arg, const struct link_outcome *outcome)
{
    struct presence *p = arg;
    p->beating = false;
    if (outcome->end == LINK_REFUSED)
        log_warn("heartbeat_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
}

/* --- heartbeat --- */

/* The server, where it is another than the last time, and the beginning and end of a quiet period.
 */
static void note_server(struct presence *p, const struct link_rows *rows)
{
    struct service_server *server = &p->s->server;
    int64_t number = link_int(rows, 0, 4);
    server->quiet_ms = link_int(rows, 0, 3);
    metric_set(M_QUIET, 1000 * server->quiet_ms);
    if (server->number != number)
        log_info("server", "number=%" PRId64 " timeline=%" PRId64 " reason=%s", number,
                 link_int(rows, 0, 5), log_quote(link_text(rows, 0, 6)));
    if (server->number != 0 && server->number != number)
        metric_add(M_SERVER_CHANGES, 1);
    server->number = number;
    if (p->quiet == (server->quiet_ms > 0))
        return;
    p->quiet = !p->quiet;
    if (p->quiet)
        log_warn("quiet_period", "left_ms=%" PRId64, server->quiet_ms);
    else
        log_info("quiet_period_over", "server=%" PRId64, number);
}

static void on_heartbeat(void *arg, int call, const struct link_rows *rows)
{
    struct presence *p = arg;
    (void)call;
    p->known = link_int(rows, 0, 0) != 0;
    /*
     * Fewer rows in the queue than requests that have waited all the time since the heartbeat
     * before: some were lost. Twice in a row, since a request just granted still counts here.
     */
    bool missing = link_int(rows, 0, 1) < p->s->waiting_low;
    if (missing && p->missing)
        locks_resync(p->s, -1);
    p->missing = missing;
    p->s->waiting_low = p->s->waiting;
    if (link_int(rows, 0, 2) != 0)
        service_collect(p->s);
    note_server(p, rows);
    locks_look_at_sessions(p->s);
}

static void send_heartbeat(struct presence *p)
{
    link_params_clear(&p->params);
    link_param_int4(&p->params, p->s->instance);
    link_param_int8(&p->params, p->s->seen.token);
    link_call(p->link, &heartbeat_statement, &p->params);
    p->beating = true;
    link_send(p->link, on_heartbeat, on_beat_end, p);
}

/* --- registration --- */

static void on_registered(void *arg, int call, const struct link_rows *rows)
{
    struct presence *p = arg;
    (void)call;
    if (!link_is_null(rows, 0, 0))
        p->s->instance = (int32_t)link_int(rows, 0, 0);
    p->known = !link_is_null(rows, 0, 0);
}

static void on_registered_end(void *arg, const struct link_outcome *outcome)
{
    struct presence *p = arg;
    on_beat_end(arg, outcome);
    if (outcome->end != LINK_COMMITTED)
        return;
    if (!p->known) { /* the old session still holds our lock: the heart tries again */
        log_info("registration_waits", "instance=%" PRId32, p->s->instance);
        return;
    }
    link_params_clear(&p->params);
    link_param_int4(&p->params, p->s->instance);
    link_call(p->link, &listen_statement, &p->params);
    link_send(p->link, NULL, on_beat_end, p);
    p->beating = true;
    p->listening = true;
    log_info("registered", "instance=%" PRId32, p->s->instance);
    service_lanes_start(p->s);
    if (p->registered) /* it may have been taken for dead meanwhile, and its waiters with it */
        locks_resync(p->s, -1);
    p->registered = true;
    service_collect(p->s);
    send_heartbeat(p);
}

static void register_self(struct presence *p)
{
    link_params_clear(&p->params);
    link_param_text(&p->params, str_of(p->s->o.name));
    link_param_text(&p->params, str_of(p->s->o.version));
    if (p->s->instance)
        link_param_int4(&p->params, p->s->instance);
    else
        link_param_null(&p->params);
    link_param_int8(&p->params, p->s->seen.token);
    link_param_int8(&p->params, p->s->seen.ttl_ms + p->s->seen.grace_ms);
    link_call(p->link, &register_statement, &p->params);
    p->beating = true;
    link_send(p->link, on_registered, on_registered_end, p);
}

static void on_heart(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct presence *p = w->data;
    (void)loop, (void)revents;
    if (!link_is_up(p->link) || p->beating || p->retired)
        return;
    if (!p->known || !p->listening) {
        register_self(p);
        return;
    }
    send_heartbeat(p);
}

/* --- notifications --- */

static void notify_later(struct presence *p)
{
    ev_feed_event(p->s->o.loop, &p->end_of_turn, EV_CUSTOM);
}

static void on_notified_end(void *arg, const struct link_outcome *outcome)
{
    struct presence *p = arg;
    (void)outcome;
    p->notifying = false;
    notify_later(p);
}

static void call_notify(struct presence *p)
{
    struct array_writer a;
    link_params_clear(&p->params);
    link_param_open(&p->params);
    array_begin(&a, &p->params.bytes, PG_INT8);
    for (size_t at = 0; at < p->wakes.len; at += sizeof(int32_t)) {
        int32_t instance;
        memcpy(&instance, p->wakes.data + at, sizeof(instance));
        array_put_int8(&a, instance);
    }
    array_end(&a);
    link_param_close(&p->params);
    buf_clear(&p->wakes);
    link_call(p->link, &notify_statement, &p->params);
}

static void call_tell(struct presence *p)
{
    struct array_writer a;
    link_params_clear(&p->params);
    link_param_open(&p->params);
    array_begin(&a, &p->params.bytes, PG_TEXT);
    for (size_t at = 0; at < p->tells.len;) {
        struct str resource = str_of(p->tells.data + at);
        array_put_text(&a, resource);
        at += resource.n + 1;
    }
    array_end(&a);
    link_param_close(&p->params);
    buf_clear(&p->tells);
    link_call(p->link, &tell_statement, &p->params);
}

/* After the commits of this turn, and one for all of them. */
static void on_end_of_turn(struct ev_loop *loop, ev_idle *w, int revents)
{
    struct presence *p = w->data;
    (void)loop, (void)revents;
    if ((p->wakes.len == 0 && p->tells.len == 0) || p->notifying || !link_is_up(p->link))
        return;
    if (p->wakes.len > 0)
        call_notify(p);
    if (p->tells.len > 0)
        call_tell(p);
    p->notifying = true;
    link_send(p->link, NULL, on_notified_end, p);
}

void presence_wake(struct presence *p, int32_t instance)
{
    for (size_t at = 0; at < p->wakes.len; at += sizeof(instance))
        if (memcmp(p->wakes.data + at, &instance, sizeof(instance)) == 0)
            return;
    buf_put(&p->wakes, &instance, sizeof(instance));
    notify_later(p);
}

/* Past TELLS_MAX bytes the holders' daemons find out by themselves, a little later. */
void presence_tell(struct presence *p, struct str resource)
{
    if (p->tells.len + resource.n + 1 > TELLS_MAX)
        return;
    buf_put(&p->tells, resource.p, resource.n);
    buf_putc(&p->tells, '\0');
    notify_later(p);
}

static void on_notified(void *arg, const char *channel, const char *payload)
{
    struct presence *p = arg;
    (void)channel; /* it listens for one */
    if (payload[0] == '\0')
        service_collect(p->s);
    else
        events_noticed(p->s->events, str_of(payload));
}

/* --- the end --- */

static void on_retired_end(void *arg, const struct link_outcome *outcome)
{
    struct presence *p = arg;
    (void)outcome;
    p->retired(p->retired_arg);
}

void presence_retire(struct presence *p, void (*done)(void *arg), void *arg)
{
    p->retired = done;
    p->retired_arg = arg;
    if (!link_is_up(p->link)) {
        done(arg); /* the janitor of another daemon will find that we are gone */
        return;
    }
    link_params_clear(&p->params);
    link_param_int4(&p->params, p->s->instance);
    link_param_int8(&p->params, p->s->o.settings->requeue_grace_ms);
    link_call(p->link, &retire_statement, &p->params);
    link_send(p->link, NULL, on_retired_end, p);
}

static void on_up(void *arg)
{
    struct presence *p = arg;
    p->known = p->listening = false;
    register_self(p);
}

static void on_down(void *arg)
{
    struct presence *p = arg;
    p->notifying = p->beating = p->known = p->listening = false;
}

struct presence *presence_create(struct service *s)
{
    static const struct link_statement *const statements[] = {
        &register_statement, &listen_statement, &heartbeat_statement,
        &notify_statement,   &tell_statement,   &retire_statement};
    struct presence *p = xcalloc(1, sizeof(*p));
    p->s = s;
    ev_timer_init(&p->heart, on_heart, HEARTBEAT_MS / 1000.0, HEARTBEAT_MS / 1000.0);
    p->heart.data = p;
    ev_timer_start(s->o.loop, &p->heart);
    ev_idle_init(&p->end_of_turn, on_end_of_turn);
    ev_set_priority(&p->end_of_turn, EV_MINPRI + 1);
    p->end_of_turn.data = p;
    struct link_options options = {.loop = s->o.loop,
                                   .conninfo = s->o.conninfo,
                                   .seen = &s->seen,
                                   .label = "presence",
                                   .session = session_sql,
                                   .statements = statements,
                                   .nstatements = 6,
                                   .up = on_up,
                                   .down = on_down,
                                   .notified = on_notified,
                                   .arg = p};
    p->link = link_create(&options);
    return p;
}

void presence_destroy(struct presence *p)
{
    if (p == NULL)
        return;
    ev_timer_stop(p->s->o.loop, &p->heart);
    ev_clear_pending(p->s->o.loop, &p->end_of_turn);
    link_destroy(p->link);
    link_params_free(&p->params);
    buf_free(&p->wakes);
    buf_free(&p->tells);
    free(p);
}
