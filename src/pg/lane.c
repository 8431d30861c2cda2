#include "pg/lane.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/advisory.h"
#include "pg/array.h"
#include "pg/sqlstate.h"
#include "pg/turns.h"

enum {
    /*
     * Distinct resources in one batch: each takes an advisory lock, and PostgreSQL's default lock
     * table (64 locks for each of 100 connections) is shared by everybody on the server.
     */
    GUARDS_MAX = 512,
    OLD_SESSION_RETRY_MS = 50, /* between looks whether the lane's old session has ended */
    LAZY_MS = 1,               /* what a lazy operation waits at most for others */
    PAUSE_MS = 100,            /* after a batch that the server could not serve */
    CAREFUL_MS =
        1000,       /* how long to pass over locked rows, after one that was waited for in vain */
    FLIGHTS = 2,    /* batches in flight at most */
    SECOND_MIN = 8, /* operations that are worth a second batch in flight */
    SHARE = 16,     /* operations of a connection in line, while others ask, too */
};

enum lane_state {
    LANE_DOWN,
    LANE_CLAIMING, /* the old session of this lane must end first */
    LANE_ASKING,   /* what became of the batch that was in flight? */
    LANE_READY,
};

enum batch_end { BATCH_COMMITTED, BATCH_REFUSED, BATCH_LOST };

/* A batch on its way. */
struct flight {
    struct batch batch;
    struct batch_news news;
    enum op_kind calls[OP_KINDS];
    int64_t sent_us;
    size_t share;   /* the lane's when it was sent */
    bool malformed; /* a row of it could not be read */
};

struct lane {
    struct lane_options o;
    struct link *link;
    enum lane_state state;
    struct turns turns;             /* the queue */
    uint64_t submitted;             /* operations so far */
    struct flight flights[FLIGHTS]; /* a ring: answered in the order they were sent */
    size_t first;                   /* the oldest in flight */
    size_t flying;                  /* how many are in flight */
    bool claimed;                   /* the answer to the last claim */
    size_t share; /* operations in the next batch at most: halved while the server refuses */
    struct list in_doubt; /* acquires of a lost batch, until the answer of find_grants */
    struct link_params params;
    ev_idle end_of_turn; /* never started: fed when something is submitted */
    ev_timer pause;
    ev_timer lazy;
    bool has_eager;           /* something queued may not wait for others */
    int64_t careful_until_us; /* clock_mono_us() until which locked rows are passed over */
    bool crowded;             /* the last LOCKs were all refused or made to wait */
    char label[16];
};

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set default_transaction_isolation = 'read committed';"
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off;"
    "set enable_hashjoin = off; set enable_mergejoin = off; set jit = off;"
    "set synchronous_commit = on; set lock_timeout = '50ms'; set "
    "idle_in_transaction_session_timeout "
    "= "
    "'10s'; set client_min_messages = warning";

static const struct link_statement claim_statement = {
    "claim_lane", "select pglockd.claim_lane($1, $2, $3)", true};
static const struct link_statement find_statement = {
    "find", "select o_item, o_status, o_number from pglockd.find_requests($1, $2, $3)", false};

/* Has pump() called at the end of this turn. */
static void pump_later(struct lane *lane)
{
    ev_feed_event(lane->o.loop, &lane->end_of_turn, EV_CUSTOM);
}

/* --- answers --- */

static void finish(struct op *op, enum op_status status)
{
    list_remove(&op->link);
    op->place = OP_IDLE;
    op->status = status;
    op->done(op);
}

/*
 * Where an operation goes that comes back: ahead of all that came later. A client that has lost its
 * connection repeats its LOCK over another, and the first must not take the lease when the second
 * has been granted it and given it back. Earlier ones of its own connection have come back before
 * it or are not in line any more: they are sent in their order.
 */
static struct list *place_in_queue(struct lane *lane, const struct op *op)
{
    list_for_each(at, &lane->turns.line)
    {
        if (container_of(at, struct op, link)->order > op->order)
            return at;
    }
    return &lane->turns.line;
}

static void requeue(struct lane *lane, struct op *op)
{
    list_remove(&op->link);
    op->place = OP_QUEUED;
    op->number = op->sent_number; /* an answer without its commit may stand there */
    lane->has_eager = true;
    list_insert_before(place_in_queue(lane, op), &op->link);
    turns_return(&lane->turns, op);
}

static struct flight *oldest(struct lane *lane)
{
    return &lane->flights[lane->first];
}

/* The oldest batch has ended: its operations are handed over by the caller. */
static struct flight *land(struct lane *lane)
{
    struct flight *f = oldest(lane);
    lane->first = (lane->first + 1) % FLIGHTS;
    lane->flying--;
    return f;
}

static void each_op(const struct flight *f, void (*fn)(void *arg, struct op *op), void *arg)
{
    for (int k = 0; k < OP_KINDS; k++)
        list_for_each(at, &f->batch.ops[k]) fn(arg, container_of(at, struct op, link));
}

static void set_status(void *arg, struct op *op)
{
    op->status = *(const enum op_status *)arg;
}

static void set_was_unknown(void *arg, struct op *op)
{
    (void)arg;
    op->was_unknown = true;
}

/* What was in a batch comes back. */
static void put_back(struct lane *lane, struct flight *f)
{
    struct list back;
    list_init(&back);
    batch_return(&f->batch, &back);
    while (!list_empty(&back))
        requeue(lane, list_first(&back, struct op, link));
}

/* Of what is queued: that which goes, and does not wait to be sent. */
struct taking {
    struct lane *lane;
    bool (*goes)(const struct op *op, int64_t before_us);
    int64_t before_us;
    struct list taken;
};

static void take_queued(void *arg, struct op *op)
{
    struct taking *t = arg;
    if (!t->goes(op, t->before_us))
        return;
    list_remove(&op->link);
    turns_leave(&t->lane->turns, op);
    list_append(&t->taken, &op->link);
    op->place = OP_SENT; /* callbacks cannot take it back any more */
}

static void end_queued(struct lane *lane, bool (*goes)(const struct op *op, int64_t before_us),
                       int64_t before_us)
{
    struct taking t = {.lane = lane, .goes = goes, .before_us = before_us};
    list_init(&t.taken);
    turns_each(&lane->turns, take_queued, &t);
    while (!list_empty(&t.taken)) {
        struct op *op = list_first(&t.taken, struct op, link);
        finish(op, op->was_unknown ? OP_UNKNOWN : OP_UNAVAILABLE);
    }
}

/* An UNLOCK and a withdrawal are carried out whoever waits for them. */
static bool is_unwanted(const struct op *op, int64_t before_us)
{
    (void)before_us;
    return op->unwanted && op->kind >= OP_RENEW;
}

/*
 * What could not be sent at once, or has come back, is not sent late for a client that is gone: it
 * may have asked elsewhere meanwhile.
 */
static void drop_unwanted(struct lane *lane)
{
    end_queued(lane, is_unwanted, 0);
}

static void finish_all(struct flight *f)
{
    struct list done;
    list_init(&done);
    batch_return(&f->batch, &done);
    while (!list_empty(&done)) {
        struct op *op = list_first(&done, struct op, link);
        enum op_status status = op->status;
        /* A release that was sent twice may have been done by the first one. */
        if (status == OP_LOST && op->was_unknown && op->kind == OP_RELEASE)
            status = OP_UNKNOWN;
        finish(op, status);
    }
}

static bool was_locked(const struct op *op)
{
    return op->status == OP_GUARDED || op->status == OP_FENCED;
}

/* A release met a row that somebody keeps locked: it, and others of that kind, will be tried again.
 */
static void stay_careful(struct lane *lane, const struct flight *f)
{
    list_for_each(at, &f->batch.ops[OP_RELEASE])
    {
        if (was_locked(container_of(at, struct op, link)))
            lane->careful_until_us = clock_mono_us() + 1000 * CAREFUL_MS;
    }
}

/* Where the last LOCKs met holders, the next ones probably do, too. */
static void look_for_crowd(struct lane *lane, const struct flight *f)
{
    bool crowded = true;

    if (f->batch.counts[OP_ACQUIRE] == 0)
        return;
    list_for_each(at, &f->batch.ops[OP_ACQUIRE]) crowded &=
        container_of(at, struct op, link)->status != OP_DONE;
    lane->crowded = crowded;
}

/* --- sending --- */

static void on_rows(void *arg, int call, const struct link_rows *rows)
{
    struct flight *f = oldest(arg);
    if (!batch_answer(&f->batch, f->calls[call], rows, &f->news))
        f->malformed = true;
}

/* The server refused the whole batch: nothing of it was done. */
static void refused(struct lane *lane, struct flight *f, const struct link_outcome *outcome)
{
    enum sqlstate_meaning meaning = sqlstate_meaning(outcome->sqlstate);
    size_t count = f->batch.count;
    metric_add1(M_BATCHES, BATCH_REFUSED, 1);
    log_warn("batch_refused", "lane=%d sqlstate=%s requests=%zu message=%s", lane->o.number,
             outcome->sqlstate, count, log_quote(str_of(outcome->message)));
    pump_later(lane);
    if (count == 1 && meaning == SQLSTATE_BUG) {
        enum op_status failed = OP_FAILED;
        each_op(f, set_status, &failed);
        finish_all(f);
        return;
    }
    put_back(lane, f);
    if (meaning == SQLSTATE_LOCKED && f->sent_us >= lane->careful_until_us) {
        lane->careful_until_us = clock_mono_us() + 1000 * CAREFUL_MS;
        return; /* it will be done at once, probably */
    }
    drop_unwanted(lane);
    lane->share = count > 1 ? count / 2 : 1;
    if (meaning != SQLSTATE_BUG) {
        ev_timer_stop(lane->o.loop, &lane->pause);
        ev_timer_set(&lane->pause, PAUSE_MS / 1000.0, 0.);
        ev_timer_start(lane->o.loop, &lane->pause);
    }
}

/* The connection broke while the batch was in flight: sort what can be sent again. */
static void lost(struct lane *lane, struct flight *f)
{
    metric_add1(M_BATCHES, BATCH_LOST, 1);
    each_op(f, set_was_unknown, NULL);
    for (int k = OP_ACQUIRE; k <= OP_CHANGE; k++) {
        list_splice(&lane->in_doubt, &f->batch.ops[k]);
        f->batch.count -= f->batch.counts[k];
        f->batch.counts[k] = 0;
    }
    put_back(lane, f);
}

/* The commit is here, but a promoted standby may not have it: nobody can tell. */
static void unreplicated(struct lane *lane, struct flight *f)
{
    enum op_status unknown = OP_UNKNOWN;
    metric_add1(M_BATCHES, BATCH_LOST, 1);
    log_warn("batch_not_replicated", "lane=%d requests=%zu", lane->o.number, f->batch.count);
    each_op(f, set_status, &unknown);
    finish_all(f);
    /* Waiters whose grants were in it are found by the resync of a new connection. */
    link_reset(lane->link, "a commit was not replicated");
}

static void tell_news(struct lane *lane, const struct flight *f)
{
    const struct lane_sink *sink = &lane->o.sink;
    const struct batch_news *news = &f->news;
    for (size_t at = 0; at < news->grants.len; at += sizeof(struct batch_grant)) {
        struct batch_grant grant;
        memcpy(&grant, news->grants.data + at, sizeof(grant));
        sink->granted(sink->arg, grant.request_id, str_of(news->names.data + grant.name),
                      grant.token, f->sent_us);
    }
    for (size_t at = 0; at < news->wakes.len; at += sizeof(int32_t)) {
        int32_t instance;
        memcpy(&instance, news->wakes.data + at, sizeof(instance));
        sink->wake(sink->arg, instance);
    }
    for (size_t at = 0; at < news->pending.len;) {
        struct str resource = str_of(news->pending.data + at);
        sink->pending(sink->arg, resource);
        at += resource.n + 1;
    }
}

static void on_end(void *arg, const struct link_outcome *outcome)
{
    struct lane *lane = arg;
    struct flight *f = land(lane);
    if (outcome->end == LINK_REFUSED) {
        refused(lane, f, outcome);
        return;
    }
    if (outcome->end == LINK_UNREPLICATED) {
        unreplicated(lane, f);
        return;
    }
    if (outcome->end == LINK_UNKNOWN || f->malformed) {
        lost(lane, f);
        link_reset(lane->link, "the end of a batch is not known");
        return;
    }
    metric_add1(M_BATCHES, BATCH_COMMITTED, 1);
    metric_observe_us(M_BATCH_DURATION, clock_mono_us() - f->sent_us);
    /* One that was sent before another was refused says nothing about what is left of that. */
    if (f->share == lane->share)
        lane->share = lane->o.batch_max;
    stay_careful(lane, f);
    look_for_crowd(lane, f);
    /* News first: a waiter whose operation is in this batch takes its grant with its answer. */
    tell_news(lane, f);
    finish_all(f);
    pump_later(lane);
}

static void mark_sent(void *arg, struct op *op)
{
    struct lane *lane = arg;
    op->place = OP_SENT;
    op->sent_us = lane->flights[(lane->first + lane->flying) % FLIGHTS].sent_us;
    op->sent_number = op->number;
    turns_leave(&lane->turns, op);
}

static void send_batch(struct lane *lane)
{
    struct flight *ahead = lane->flying > 0 ? oldest(lane) : NULL;
    struct flight *f = &lane->flights[(lane->first + lane->flying) % FLIGHTS];
    size_t calls = 0;
    f->batch.max = lane->share;
    if (batch_fill(&f->batch, &lane->turns.line, ahead ? &ahead->batch : NULL) == 0)
        return;
    ev_timer_stop(lane->o.loop, &lane->lazy);
    f->sent_us = clock_mono_us();
    f->share = lane->share;
    f->malformed = false;
    batch_news_clear(&f->news);
    each_op(f, mark_sent, lane);
    lane->has_eager = lane->turns.queued > 0;
    /* One order of rows in every batch of every daemon: they never wait for each other in a ring.
     */
    batch_sort(&f->batch, OP_RELEASE);
    batch_sort(&f->batch, OP_RENEW);
    batch_sort(&f->batch, OP_ACQUIRE); /* claims are decided one by one, in the order they came */
    struct batch_hints hints = {f->sent_us < lane->careful_until_us, lane->crowded};
    for (int k = 0; k < OP_KINDS; k++) {
        if (f->batch.counts[k] == 0)
            continue;
        batch_params(&f->batch, (enum op_kind)k, lane->o.instance, hints, &lane->params);
        link_call(lane->link, batch_statement((enum op_kind)k), &lane->params);
        f->calls[calls++] = (enum op_kind)k;
    }
    metric_observe(M_BATCH_REQUESTS, (int64_t)f->batch.count);
    lane->flying++;
    link_send(lane->link, on_rows, on_end, lane);
}

/*
 * A second batch goes behind the one in flight when it is about as large: the server then never
 * waits for the daemon. Smaller ones wait and grow, since each batch has a fixed cost, unless they
 * are lazy and stood aside for the one in flight. None goes while a refused batch is taken apart.
 */
static bool worth_second(const struct lane *lane)
{
    const struct batch *ahead = &lane->flights[lane->first].batch;
    size_t least = ahead->count / 2 > SECOND_MIN ? ahead->count / 2 : SECOND_MIN;
    bool stood_aside =
        ahead->counts[OP_ACQUIRE] == 0 && list_first(&lane->turns.line, struct op, link)->lazy;
    return lane->flying < FLIGHTS && lane->share == lane->o.batch_max &&
           (lane->turns.lined >= least || stood_aside);
}

static bool may_send(const struct lane *lane)
{
    return lane->state == LANE_READY && !list_empty(&lane->turns.line) &&
           !ev_is_active(&lane->pause) && (lane->flying == 0 || worth_second(lane));
}

static void pump(struct lane *lane)
{
    if (!may_send(lane))
        return;
    if (!lane->has_eager) {
        if (!ev_is_active(&lane->lazy))
            ev_timer_again(lane->o.loop, &lane->lazy);
        return;
    }
    send_batch(lane);
    if (may_send(lane) && lane->has_eager)
        send_batch(lane);
}

/*
 * Requests are gathered during a turn of the loop and sent once, when all else that the turn
 * brought has been handled: what came with one poll goes into one transaction.
 */
static void on_end_of_turn(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop, (void)revents;
    pump(w->data);
}

/* --- after a lost connection --- */

static void become_ready(struct lane *lane)
{
    lane->state = LANE_READY;
    pump_later(lane);
    lane->o.state_changed(lane->o.arg, lane->o.number, true);
}

/* Operation number n of those in doubt, counting one for each of their resources from 1. */
static struct op *nth(struct list *list, int64_t n, size_t *resource)
{
    list_for_each(at, list)
    {
        struct op *op = container_of(at, struct op, link);
        if (n <= (int64_t)op_resources(op)) {
            *resource = (size_t)(n - 1);
            return op;
        }
        n -= (int64_t)op_resources(op);
    }
    return NULL;
}

static void on_found(void *arg, int call, const struct link_rows *rows)
{
    struct lane *lane = arg;
    struct array_reader columns[3];
    int64_t item, status, number;
    int length;
    (void)call;
    for (int i = 0; i < 3; i++) {
        const void *value = link_bytes(rows, 0, i, &length);
        if (!array_open(&columns[i], value, length))
            return;
    }
    while (array_next_int(&columns[0], &item) && array_next_int(&columns[1], &status) &&
           array_next_int(&columns[2], &number)) {
        size_t resource;
        struct op *op = nth(&lane->in_doubt, item, &resource);
        if (op == NULL)
            continue;
        op->status = (enum op_status)status;
        if (resource == 0)
            op->number = number;
        if (op->nmembers > 0 && op->status == OP_DONE)
            op->members[resource].token = number;
    }
}

/* Those that hold or wait are answered; the others were surely not done and are sent again. */
static void on_found_end(void *arg, const struct link_outcome *outcome)
{
    struct lane *lane = arg;
    if (outcome->end != LINK_COMMITTED) {
        link_reset(lane->link, "could not ask what became of a batch");
        return;
    }
    become_ready(lane);
    struct list asked;
    list_init(&asked);
    list_splice(&asked, &lane->in_doubt);
    while (!list_empty(&asked)) {
        struct op *op = list_first(&asked, struct op, link);
        if (op->status == OP_UNKNOWN) {
            op->was_unknown = false;
            requeue(lane, op);
        } else {
            finish(op, op->status);
        }
    }
    drop_unwanted(lane);
}

static void ask_what_became(struct lane *lane)
{
    struct array_writer w;
    link_params_clear(&lane->params);
    link_param_int4(&lane->params, lane->o.instance);
    link_param_open(&lane->params);
    array_begin(&w, &lane->params.bytes, PG_TEXT);
    list_for_each(at, &lane->in_doubt)
    {
        struct op *op = container_of(at, struct op, link);
        op->status = OP_UNKNOWN;
        for (size_t i = 0; i < op_resources(op); i++)
            array_put_text(&w, op_resource(op, i));
    }
    array_end(&w);
    link_param_close(&lane->params);
    link_param_open(&lane->params);
    array_begin(&w, &lane->params.bytes, PG_INT8);
    list_for_each(at, &lane->in_doubt)
    {
        const struct op *op = container_of(at, struct op, link);
        for (size_t i = 0; i < op_resources(op); i++)
            array_put_int8(&w, (int64_t)op->request_id);
    }
    array_end(&w);
    link_param_close(&lane->params);
    lane->state = LANE_ASKING;
    link_call(lane->link, &find_statement, &lane->params);
    link_send(lane->link, on_found, on_found_end, lane);
}

static void on_claimed(void *arg, int call, const struct link_rows *rows)
{
    struct lane *lane = arg;
    (void)call;
    lane->claimed = link_int(rows, 0, 0) != 0;
}

static void on_claimed_end(void *arg, const struct link_outcome *outcome)
{
    struct lane *lane = arg;
    if (outcome->end != LINK_COMMITTED) {
        link_reset(lane->link, "could not claim the lane");
    } else if (!lane->claimed) {
        ev_timer_stop(lane->o.loop, &lane->pause);
        ev_timer_set(&lane->pause, OLD_SESSION_RETRY_MS / 1000.0, 0.);
        ev_timer_start(lane->o.loop, &lane->pause);
    } else if (!list_empty(&lane->in_doubt)) {
        ask_what_became(lane);
    } else {
        become_ready(lane);
        drop_unwanted(lane);
    }
}

/* Takes the lane's session lock, so that no transaction of an old connection is still at work. */
static void claim(struct lane *lane)
{
    lane->state = LANE_CLAIMING;
    link_params_clear(&lane->params);
    link_param_int4(&lane->params, lane->o.instance * LANES_MAX + lane->o.number);
    link_param_int8(&lane->params, lane->o.seen->token);
    link_param_int8(&lane->params, lane->o.seen->ttl_ms + lane->o.seen->grace_ms);
    link_call(lane->link, &claim_statement, &lane->params);
    link_send(lane->link, on_claimed, on_claimed_end, lane);
}

static void on_lazy_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct lane *lane = w->data;
    (void)revents;
    ev_timer_stop(loop, w);
    lane->has_eager = true;
    pump_later(lane);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct lane *lane = w->data;
    (void)loop, (void)revents;
    if (lane->state == LANE_CLAIMING && link_is_up(lane->link))
        claim(lane);
    pump_later(lane);
}

static void on_up(void *arg)
{
    claim(arg);
}

static void on_down(void *arg)
{
    struct lane *lane = arg;
    bool was_ready = lane->state == LANE_READY;
    lane->state = LANE_DOWN;
    ev_timer_stop(lane->o.loop, &lane->pause);
    if (was_ready)
        lane->o.state_changed(lane->o.arg, lane->o.number, false);
}

/* --- the interface --- */

struct lane *lane_create(const struct lane_options *options)
{
    static const struct link_statement *statements[OP_KINDS + 2];
    struct lane *lane = xcalloc(1, sizeof(*lane));
    lane->o = *options;
    lane->share = options->batch_max;
    turns_init(&lane->turns, SHARE);
    list_init(&lane->in_doubt);
    for (int i = 0; i < FLIGHTS; i++)
        batch_init(&lane->flights[i].batch, options->batch_max, GUARDS_MAX);
    snprintf(lane->label, sizeof(lane->label), "lane%d", options->number);
    ev_init(&lane->pause, on_pause_over);
    lane->pause.data = lane;
    ev_timer_init(&lane->lazy, on_lazy_over, 0., LAZY_MS / 1000.0);
    lane->lazy.data = lane;
    ev_idle_init(&lane->end_of_turn, on_end_of_turn);
    ev_set_priority(&lane->end_of_turn, EV_MINPRI + 1); /* before replies are sent */
    lane->end_of_turn.data = lane;
    for (int k = 0; k < OP_KINDS; k++)
        statements[k] = batch_statement((enum op_kind)k);
    statements[OP_KINDS] = &claim_statement;
    statements[OP_KINDS + 1] = &find_statement;
    struct link_options link = {.loop = options->loop,
                                .conninfo = options->conninfo,
                                .seen = options->seen,
                                .label = lane->label,
                                .session = session_sql,
                                .history = options->history,
                                .statements = statements,
                                .nstatements = OP_KINDS + 2,
                                .up = on_up,
                                .down = on_down,
                                .arg = lane};
    lane->link = link_create(&link);
    return lane;
}

void lane_destroy(struct lane *lane)
{
    if (lane == NULL)
        return;
    ev_clear_pending(lane->o.loop, &lane->end_of_turn);
    ev_timer_stop(lane->o.loop, &lane->pause);
    ev_timer_stop(lane->o.loop, &lane->lazy);
    link_destroy(lane->link);
    link_params_free(&lane->params);
    turns_free(&lane->turns);
    for (int i = 0; i < FLIGHTS; i++) {
        batch_free(&lane->flights[i].batch);
        batch_news_free(&lane->flights[i].news);
    }
    free(lane);
}

void lane_submit(struct lane *lane, struct op *op)
{
    op->queued_us = clock_mono_us();
    op->order = lane->submitted++;
    op->place = OP_QUEUED;
    op->was_unknown = false;
    lane->has_eager |= !op->lazy;
    turns_add(&lane->turns, op);
    pump_later(lane);
}

bool lane_remove(struct lane *lane, struct op *op)
{
    if (op->place != OP_QUEUED)
        return false;
    list_remove(&op->link);
    turns_leave(&lane->turns, op);
    op->place = OP_IDLE;
    return true;
}

static bool is_late(const struct op *op, int64_t before_us)
{
    return !op->patient && op->queued_us < before_us;
}

void lane_expire(struct lane *lane, int64_t queued_before_us)
{
    end_queued(lane, is_late, queued_before_us);
}

int64_t lane_sent_since_us(const struct lane *lane)
{
    return lane->flying > 0 ? lane->flights[lane->first].sent_us : 0;
}

void lane_each_sent(struct lane *lane, void (*fn)(void *arg, struct op *op), void *arg)
{
    for (size_t i = 0; i < lane->flying; i++)
        each_op(&lane->flights[(lane->first + i) % FLIGHTS], fn, arg);
    list_for_each(at, &lane->in_doubt) fn(arg, container_of(at, struct op, link));
}

void lane_each_queued(struct lane *lane, void (*fn)(void *arg, struct op *op), void *arg)
{
    turns_each(&lane->turns, fn, arg);
}

bool lane_is_up(const struct lane *lane)
{
    return lane->state == LANE_READY;
}

bool lane_is_idle(const struct lane *lane)
{
    return lane->turns.queued == 0 && lane->flying == 0 && list_empty(&lane->in_doubt);
}

size_t lane_queued(const struct lane *lane)
{
    return lane->turns.queued;
}

void lane_register_metrics(void)
{
    static const char *const names[] = {"committed", "refused", "lost"};
    metrics_label_names(LABEL_BATCH_END, names, 3);
}
