#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/counts.h"
#include "service/state.h"

/*
 * The janitor: one daemon at a time, elected for a term whose advisory lock this connection holds,
 * and over which it does all its writing. A tick of a term that is over is not credited, so that
 * nothing has to wait for a janitor that is frozen. It ticks the lease clock and sweeps.
 *
 * The clock's rule: a tick credits what this process saw pass on CLOCK_MONOTONIC since it sent its
 * last confirmed tick, at most CREDIT_MAX_US, and nothing for the first one. So the lease clock
 * never runs faster than real time, and a pause of anybody stops it.
 */

enum {
    TICK_MS = 250,
    LOOK_EVERY = 4,                 /* ticks between looks for waiters that everybody forgot */
    ELECTION_EVERY = 4,             /* ticks between tries to become the janitor */
    FROZEN_TURNS = 12,              /* of ours without a tick of the janitor: its term is over */
    SWEEP_LEASES_MAX = 100,         /* looked at in one sweep */
    REST_MAX_US = 3000,             /* between two sweeps when there is more to do */
    PRUNE_COUNTERS_MAX = 2000,      /* looked at in one step through the counters of rate limits */
    PRUNE_REST = 40,                /* ticks between two ways through them */
    CREDIT_MAX_US = 1000 * TICK_MS, /* the part of a tick in the slack of pglockd.lease_end() */
};

struct janitor {
    struct service *s;
    struct link *link;
    ev_timer timer;
    ev_timer rest; /* from a sweep that left something until the next one */
    bool leads;
    int32_t term; /* while it leads */
    bool quiet;   /* the clock stands still for a quiet period, as far as the last tick knew */
    unsigned turns;
    /* In turns: after a pause of this process, what has come meanwhile is read in the first one. */
    unsigned unseen_turns; /* since it learned of a tick, its own or another's */
    unsigned silent_turns; /* since it sent the tick or election that is on its way */
    int64_t ticks;         /* that were made by anybody, as far as it knows */
    int64_t ticked_us;     /* when the last confirmed tick was sent; 0: none yet */
    int64_t ticking_us;    /* when the tick in flight was sent */
    int64_t credit_us;     /* what it credits */
    int64_t sweeping_us;   /* when the sweep in flight was sent */
    bool ticking;
    bool electing;
    bool sweeping;
    bool look;       /* the next sweep is to look for what everybody forgot */
    bool more;       /* the last sweep left something */
    int64_t expired; /* leases in sweeps that left something, not in the log yet */
    struct buf
        rings_at;     /* the resource up to which the search for deadlocks has come; empty: anew */
    struct buf wakes; /* int32_t: daemons to wake when the sweep is committed */
    struct link_params params;
    bool pruning;
    unsigned prune_turn;  /* when the next step through the counters is due */
    int64_t pruned;       /* counters that the last step removed */
    bool prune_end;       /* it reached the end of the table */
    struct buf prune_key; /* where it ended: key and rule */
    struct buf prune_rule;
};

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set default_transaction_isolation = 'read committed';"
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off;"
    "set enable_hashjoin = off; set enable_mergejoin = off; set lock_timeout = '1s';"
    "set statement_timeout = '10s'; set client_min_messages = warning";

static const struct link_statement elect_statement = {
    "elect", "select o_term, o_ticks, o_quiet from pglockd.take_janitor($1)", true};
static const struct link_statement tick_statement = {
    "tick", "select o_ticks, o_quiet_ms from pglockd.advance_clock($1, $2)", true};
static const struct link_statement sweep_statement = {
    "sweep",
    "select o_expired, o_more, o_instances, o_wake, o_pending, o_deadlocks, o_after, o_holds "
    "from pglockd.sweep($1, $2, $3, $4)",
    false};

static const struct link_statement prune_statement = {
    "prune", "select o_key, o_rule, o_removed from pglockd.rate_prune($1, $2, $3, $4)", false};

/* So many ticks were made: that they grow shows that there is a janitor at work. */
static void see_ticks(struct janitor *j, int64_t ticks)
{
    if (j->ticks == ticks)
        return;
    j->ticks = ticks;
    j->unseen_turns = 0;
}

static void on_elected(void *arg, int call, const struct link_rows *rows)
{
    struct janitor *j = arg;
    (void)call;
    j->term = (int32_t)link_int(rows, 0, 0); /* 0: another leads */
    j->quiet = link_int(rows, 0, 2) != 0;
    see_ticks(j, link_int(rows, 0, 1));
}

static void on_elected_end(void *arg, const struct link_outcome *outcome)
{
    struct janitor *j = arg;
    j->electing = false;
    if (outcome->end == LINK_REFUSED)
        log_warn("election_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    j->leads = outcome->end == LINK_COMMITTED && j->term != 0;
    if (!j->leads)
        return;
    j->ticked_us = 0;
    log_info("janitor_elected", "instance=%d term=%d", (int)j->s->instance, (int)j->term);
    metric_set(M_JANITOR_LEADER, 1);
    meter_elected(j->s->meter);
}

static void elect(struct janitor *j)
{
    j->electing = true;
    j->silent_turns = 0;
    link_params_clear(&j->params);
    if (j->unseen_turns >= FROZEN_TURNS)
        link_param_int8(&j->params, j->ticks);
    else
        link_param_null(&j->params);
    link_call(j->link, &elect_statement, &j->params);
    link_send(j->link, on_elected, on_elected_end, j);
}

static void on_ticked(void *arg, int call, const struct link_rows *rows)
{
    struct janitor *j = arg;
    (void)call;
    if (link_is_null(rows, 0, 0)) {
        j->term = 0;
        return;
    }
    j->quiet = link_int(rows, 0, 1) > 0;
    see_ticks(j, link_int(rows, 0, 0));
}

static void on_ticked_end(void *arg, const struct link_outcome *outcome)
{
    struct janitor *j = arg;
    j->ticking = false;
    if (outcome->end == LINK_REFUSED)
        log_warn("tick_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    if (outcome->end != LINK_COMMITTED)
        return;
    if (j->term == 0) {
        link_reset(j->link, "another janitor's term has begun");
        return;
    }
    j->ticked_us = j->ticking_us;
    metric_add(M_CLOCK_TICKS, 1);
    metric_add(M_CLOCK_CREDIT, j->credit_us);
}

static void tick(struct janitor *j)
{
    j->ticking_us = clock_mono_us();
    j->ticking = true;
    j->silent_turns = 0;
    int64_t elapsed_us = j->ticked_us ? j->ticking_us - j->ticked_us : 0;
    link_params_clear(&j->params);
    j->credit_us = elapsed_us < CREDIT_MAX_US ? elapsed_us : CREDIT_MAX_US;
    link_param_int8(&j->params, j->credit_us);
    link_param_int4(&j->params, j->term);
    link_call(j->link, &tick_statement, &j->params);
    link_send(j->link, on_ticked, on_ticked_end, j);
}

static void on_swept(void *arg, int call, const struct link_rows *rows)
{
    struct janitor *j = arg;
    struct array_reader r;
    struct str resource;
    int64_t instance;
    const void *value;
    int length;
    (void)call;
    int64_t expired = link_int(rows, 0, 0);
    j->more = link_int(rows, 0, 1) != 0;
    count_reclaimed(RECLAIMER_JANITOR, expired);
    count_ended(LEASE_CONNECTION_CLOSED, link_int(rows, 0, 7));
    metric_add(M_JANITOR_RETIRED, link_int(rows, 0, 2));
    j->expired += expired;
    if (j->expired > 0 && !j->more) {
        log_info("expired", "leases=%" PRId64, j->expired);
        j->expired = 0;
    }
    if (link_int(rows, 0, 2) > 0)
        log_warn("instances_retired", "count=%d", (int)link_int(rows, 0, 2));
    value = link_bytes(rows, 0, 3, &length);
    if (array_open(&r, value, length))
        while (array_next_int(&r, &instance)) {
            int32_t wake = (int32_t)instance;
            buf_put(&j->wakes, &wake, sizeof(wake));
        }
    value = link_bytes(rows, 0, 4, &length);
    if (array_open(&r, value, length))
        while (array_next_text(&r, &resource))
            service_pending(j->s, resource);
    if (link_int(rows, 0, 5) > 0)
        log_warn("deadlocks", "count=%d", (int)link_int(rows, 0, 5));
    metric_add(M_DEADLOCKS, link_int(rows, 0, 5));
    resource = link_text(rows, 0, 6);
    buf_clear(&j->rings_at);
    buf_put(&j->rings_at, resource.p, resource.n);
}

/*
 * Many leases that end at once are swept in small rounds, so that no guard and no row is held for
 * long, and after each nothing is done for as long as it took: half of the time others' batches
 * meet nobody at the CPUs and the log. Rounds that take long do so because the machine is busy; the
 * rest is bounded, so that the janitor keeps up there.
 */
static void rest(struct janitor *j, int64_t took_us)
{
    ev_timer_stop(j->s->o.loop, &j->rest);
    ev_timer_set(&j->rest, (double)(took_us < REST_MAX_US ? took_us : REST_MAX_US) / 1e6, 0.);
    ev_timer_start(j->s->o.loop, &j->rest);
}

static void on_swept_end(void *arg, const struct link_outcome *outcome)
{
    struct janitor *j = arg;
    j->sweeping = false;
    if (outcome->end == LINK_REFUSED)
        log_warn("sweep_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    if (outcome->end != LINK_COMMITTED)
        return;
    int64_t took_us = clock_mono_us() - j->sweeping_us;
    metric_observe_us(M_JANITOR_SWEEP, took_us);
    for (size_t at = 0; at < j->wakes.len; at += sizeof(int32_t)) {
        int32_t instance;
        memcpy(&instance, j->wakes.data + at, sizeof(instance));
        service_wake(j->s, instance);
    }
    if (j->more)
        rest(j, took_us);
}

static void sweep(struct janitor *j)
{
    buf_clear(&j->wakes);
    j->more = false;
    j->sweeping = true;
    j->sweeping_us = clock_mono_us();
    link_params_clear(&j->params);
    link_param_int4(&j->params, SWEEP_LEASES_MAX);
    link_param_int8(&j->params, j->s->o.settings->requeue_grace_ms);
    link_param_bool(&j->params, j->look);
    j->look = false;
    link_param_text(&j->params, j->rings_at.len > 0 ? buf_str(&j->rings_at) : (struct str){0});
    link_call(j->link, &sweep_statement, &j->params);
    link_send(j->link, on_swept, on_swept_end, j);
}

static void on_rested(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct janitor *j = w->data;
    (void)loop, (void)revents;
    if (j->leads && !j->sweeping && !j->quiet && link_is_up(j->link))
        sweep(j);
}

/* --- counters of rate limits that nobody uses --- */

static void on_pruned(void *arg, int call, const struct link_rows *rows)
{
    struct janitor *j = arg;
    (void)call;
    struct str key = link_text(rows, 0, 0), rule = link_text(rows, 0, 1);
    j->prune_end = link_is_null(rows, 0, 0);
    j->pruned = link_int(rows, 0, 2);
    buf_clear(&j->prune_key);
    buf_clear(&j->prune_rule);
    if (!j->prune_end) {
        buf_put(&j->prune_key, key.p, key.n);
        buf_put(&j->prune_rule, rule.p, rule.n);
    }
}

static void on_pruned_end(void *arg, const struct link_outcome *outcome)
{
    struct janitor *j = arg;
    j->pruning = false;
    if (outcome->end == LINK_REFUSED)
        log_warn("prune_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    if (outcome->end != LINK_COMMITTED || j->prune_end)
        j->prune_turn = j->turns + PRUNE_REST;
    metric_add(M_RATE_PRUNED, outcome->end == LINK_COMMITTED ? j->pruned : 0);
}

static void prune(struct janitor *j)
{
    j->pruning = true;
    link_params_clear(&j->params);
    link_param_text(&j->params, buf_str(&j->prune_key));
    link_param_text(&j->params, buf_str(&j->prune_rule));
    link_param_int4(&j->params, PRUNE_COUNTERS_MAX);
    link_param_int8(&j->params, j->s->o.settings->rate_idle_ms);
    link_call(j->link, &prune_statement, &j->params);
    link_send(j->link, on_pruned, on_pruned_end, j);
}

/* What is swept must have had its time: not while the clock stands still for a quiet period. */
static void work(struct janitor *j)
{
    if (!j->ticking)
        tick(j);
    if (j->turns % LOOK_EVERY == 0)
        j->look = true;
    if (!j->sweeping && !j->quiet && !ev_is_active(&j->rest))
        sweep(j);
    if (!j->pruning && (int)(j->turns - j->prune_turn) >= 0)
        prune(j);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct janitor *j = w->data;
    (void)loop, (void)revents;
    if (!link_is_up(j->link) || j->s->instance == 0)
        return;
    j->turns++;
    j->unseen_turns++;
    j->silent_turns++;
    if ((j->ticking || j->electing) && j->silent_turns >= FROZEN_TURNS)
        link_reset(j->link, "no answer: the server's process may be frozen");
    else if (j->leads)
        work(j);
    else if (j->turns % ELECTION_EVERY == 0 && link_open_rounds(j->link) == 0)
        elect(j);
}

static void on_up(void *arg)
{
    struct janitor *j = arg;
    j->turns = ELECTION_EVERY - 1; /* try at the next turn */
}

static void on_down(void *arg)
{
    struct janitor *j = arg;
    if (j->leads)
        log_warn("janitor_lost", "instance=%d", (int)j->s->instance);
    j->leads = j->pruning = false;
    ev_timer_stop(j->s->o.loop, &j->rest);
    j->term = 0;
    metric_set(M_JANITOR_LEADER, 0);
}

struct janitor *janitor_create(struct service *s)
{
    static const struct link_statement *const statements[] = {&elect_statement, &tick_statement,
                                                              &sweep_statement, &prune_statement};
    struct janitor *j = xcalloc(1, sizeof(*j));
    j->s = s;
    ev_timer_init(&j->timer, on_timer, TICK_MS / 1000.0, TICK_MS / 1000.0);
    j->timer.data = j;
    ev_timer_start(s->o.loop, &j->timer);
    ev_timer_init(&j->rest, on_rested, 0., 0.);
    j->rest.data = j;
    struct link_options options = {.loop = s->o.loop,
                                   .conninfo = s->o.conninfo,
                                   .seen = &s->seen,
                                   .label = "janitor",
                                   .session = session_sql,
                                   .history = service_history(s),
                                   .statements = statements,
                                   .nstatements = 4,
                                   .up = on_up,
                                   .down = on_down,
                                   .arg = j};
    j->link = link_create(&options);
    return j;
}

void janitor_destroy(struct janitor *j)
{
    if (j == NULL)
        return;
    ev_timer_stop(j->s->o.loop, &j->timer);
    ev_timer_stop(j->s->o.loop, &j->rest);
    link_destroy(j->link);
    link_params_free(&j->params);
    buf_free(&j->wakes);
    buf_free(&j->rings_at);
    buf_free(&j->prune_key);
    buf_free(&j->prune_rule);
    free(j);
}

bool janitor_leads(const struct janitor *j)
{
    return j->leads;
}
