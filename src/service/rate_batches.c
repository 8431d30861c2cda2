#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "service/rate_state.h"

enum {
    SHORT_MS = 2, /* between looks at keys that are short of permits */
    SEEN = 2 * RATE_COUNTERS_MAX,
    LOCKED_SHORTLY = 5,      /* tries within a few ms, before the looks of RATE_LOOK_MS */
    COUNTERS_MADE_MAX = 512, /* in one batch: each is an entry of PostgreSQL's lock table */
};

static void return_calls(struct rates *r, struct flight *f, enum rate_place place);

/* --- keys that are short of permits --- */

/*
 * The next question of a hot key does not wait for a request: daemons would be led by the order in
 * which requests reach them, and one would always find what came since the other.
 */
static void ask_again(struct rates *r, struct rate_key *e, int64_t again_us)
{
    e->again_us = again_us;
    list_remove(&e->shorts);
    list_append(&r->shorts, &e->shorts);
    if (!ev_is_active(&r->short_look))
        ev_timer_again(r->s->o.loop, &r->short_look);
}

static uint32_t next_random(struct rates *r)
{
    r->random = r->random * 1664525U + 1013904223U;
    return r->random >> 8;
}

static void fall_short(struct rates *r, struct rate_key *e, int64_t now_us)
{
    e->pause_until_us = now_us + rate_pause_us(&e->refs[0].limit, next_random(r));
    ask_again(r, e, e->pause_until_us - 1000 * (SHORT_MS + 1)); /* before requests do */
}

/* Other daemons keep a counter locked for a batch, a transaction by SQL for as long as it likes. */
static void find_locked(struct rates *r, size_t i, int64_t now_us)
{
    struct rate_key *e = r->flights[i].key;
    return_calls(r, &r->flights[i], RATE_PAUSED);
    if (e->place == RATE_PAUSED && ++e->locked <= LOCKED_SHORTLY)
        ask_again(r, e, now_us + next_random(r) % 3000);
}

static void on_short_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct rates *r = w->data;
    int64_t now_us = clock_mono_us();
    (void)revents;
    list_for_each(at, &r->shorts)
    {
        struct rate_key *e = container_of(at, struct rate_key, shorts);
        if (e->again_us > now_us)
            continue;
        list_remove(&e->shorts);
        if (e->place == RATE_PAUSED || (e->place == RATE_IDLE && e->missed))
            rate_move(r, e, RATE_DIRTY);
    }
    if (list_empty(&r->shorts))
        ev_timer_stop(loop, w);
}

/* --- making a batch --- */

static size_t counter_of(struct rates *r, const struct rate_ref *ref)
{
    struct str rule = str_of(ref->rule);
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < ref->key.n; i++)
        hash = (hash ^ (unsigned char)ref->key.p[i]) * 16777619U;
    for (size_t i = 0; i < rule.n; i++)
        hash = (hash ^ (unsigned char)rule.p[i]) * 16777619U;
    size_t at = hash % SEEN;
    for (; r->seen[at].batch == r->batches; at = (at + 1) % SEEN) {
        const struct rate_counter *c = &r->batch.counters[r->seen[at].index];
        if (r->seen[at].hash == hash && str_eq(c->key, ref->key) && str_eq(c->rule, rule))
            return (size_t)r->seen[at].index;
    }
    struct rate_counter *c = rate_batch_counter(&r->batch);
    c->key = ref->key;
    c->rule = rule;
    c->quota = ref->limit.quota;
    c->period_ns = ref->limit.period_ns;
    c->burst = ref->limit.burst;
    c->burst_ns = ref->limit.burst_ns;
    c->shadow = ref->shadow;
    r->seen[at].hash = hash;
    r->seen[at].batch = r->batches;
    r->seen[at].index = (int32_t)r->batch.ncounters - 1;
    return r->batch.ncounters - 1;
}

static struct flight *add_request(struct rates *r, struct rate_key *e)
{
    if (r->batch.nrequests == r->flights_size) {
        size_t n = r->flights_size ? 2 * r->flights_size : 64;
        struct flight *flights = xcalloc(n, sizeof(*flights));
        for (size_t i = 0; i < r->flights_size; i++) { /* a list's head may not be moved as it is */
            flights[i] = r->flights[i];
            list_init(&flights[i].calls);
            list_splice(&flights[i].calls, &r->flights[i].calls);
        }
        free(r->flights);
        r->flights = flights;
        r->flights_size = n;
    }
    struct flight *f = &r->flights[r->batch.nrequests];
    *f = (struct flight){.key = e, .epoch = e->epoch};
    list_init(&f->calls);
    rate_batch_request(&r->batch);
    for (size_t i = 0; i < e->nrefs; i++)
        rate_batch_index(&r->batch, counter_of(r, &e->refs[i]));
    return f;
}

/* A request that stands for itself: one that looks, or has an id. */
static void add_single(struct rates *r, struct rate_key *e, struct rate_call *call)
{
    struct flight *f = add_request(r, e);
    struct rate_request *q = &r->batch.requests[r->batch.nrequests - 1];
    list_remove(&call->at);
    list_append(&f->calls, &call->at);
    q->want = q->due = q->step = call->cost;
    q->peek = call->peek;
    if (call->has_id)
        q->id = (struct str){call->text, call->id_n};
    q->identity = (struct str){call->text + call->id_n, call->identity_n};
}

/* How much to take in advance; sets the life of the charge, 0 where nothing is. */
static int64_t advance_of(struct rate_key *e, int64_t now_us)
{
    int64_t per_s = rate_demand_per_s(&e->demand, now_us);
    int64_t advance = RATE_PERMITS_MAX;
    e->life_us = e->borrow ? RATE_LIFE_MAX_US : 0;
    for (size_t i = 0; i < e->nrefs && e->life_us > 0; i++) {
        int64_t life_us = rate_life_us(&e->refs[i].limit, per_s);
        if (life_us < e->life_us)
            e->life_us = life_us;
    }
    for (size_t i = 0; i < e->nrefs && e->life_us > 0; i++) {
        int64_t permits = rate_advance(&e->refs[i].limit, per_s, e->life_us);
        if (permits < advance)
            advance = permits;
        if (permits == 0)
            e->life_us = 0;
    }
    e->advance = e->life_us > 0 ? advance : 0;
    return e->advance;
}

/*
 * The others of a key as one request. Without permits in advance only those of one cost go
 * together, so that what is granted can be used to the last.
 */
static void add_sum(struct rates *r, struct rate_key *e, int64_t now_us)
{
    struct list calls;
    int64_t advance = advance_of(e, now_us);
    int64_t due = 0, step = 0;
    list_init(&calls);
    list_for_each(at, &e->calls)
    {
        struct rate_call *call = container_of(at, struct rate_call, at);
        if (step != 0 && e->life_us == 0 && call->cost != step)
            continue;
        due += call->cost;
        if (step == 0 || call->cost < step)
            step = call->cost;
        list_remove(&call->at);
        list_append(&calls, &call->at);
    }
    int64_t more = advance - rate_key_pool(e, now_us);
    if (more <= 0 && due == 0)
        return;
    struct flight *f = add_request(r, e);
    struct rate_request *q = &r->batch.requests[r->batch.nrequests - 1];
    list_splice(&f->calls, &calls);
    q->due = due;
    q->want = due + (more > 0 ? more : 0);
    q->step = step != 0 ? step : 1;
    q->life_ns = 1000 * e->life_us;
    f->pool_until_us = now_us + e->life_us;
}

/* Answers what the policies of today leave nothing to ask about. */
static bool is_worth_asking(struct rate_key *e)
{
    struct rate_answer a;
    list_for_each(at, &e->calls)
    {
        struct rate_call *call = container_of(at, struct rate_call, at);
        if (rate_answer_plainly(e, call->cost, &a))
            rate_call_answer(call, &a);
    }
    return e->nrefs > 0 && (!list_empty(&e->calls) || e->borrow);
}

static void add_key(struct rates *r, struct rate_key *e, int64_t now_us)
{
    rate_move(r, e, RATE_IDLE);
    rate_key_resolve(e, &r->policies);
    if (!is_worth_asking(e))
        return;
    size_t before = r->batch.nrequests;
    list_for_each(at, &e->calls)
    {
        struct rate_call *call = container_of(at, struct rate_call, at);
        if ((call->peek || call->has_id) && r->batch.nrequests < r->share)
            add_single(r, e, call);
    }
    bool left = false;
    list_for_each(at, &e->calls)
    {
        const struct rate_call *call = container_of(at, struct rate_call, at);
        left = left || call->peek || call->has_id;
    }
    if (!left)
        add_sum(r, e, now_us);
    if (r->batch.nrequests > before)
        e->place = RATE_SENT;
    else if (left)
        rate_move(r, e, RATE_DIRTY);
}

void rate_batch_make(struct rates *r, int64_t now_us)
{
    rate_batch_clear(&r->batch);
    r->batches++;
    while (!list_empty(&r->dirty) && r->batch.nrequests < r->share) {
        struct rate_key *e = list_first(&r->dirty, struct rate_key, at);
        if (r->batch.nrequests > 0 && r->batch.ncounters + e->nrefs > COUNTERS_MADE_MAX)
            break;
        add_key(r, e, now_us);
    }
}

/* --- what came of a batch --- */

static void return_calls(struct rates *r, struct flight *f, enum rate_place place)
{
    struct rate_key *e = f->key;
    struct list calls;
    list_init(&calls);
    list_splice(&calls, &f->calls);
    list_splice(&calls, &e->calls);
    list_splice(&e->calls, &calls);
    if (!list_empty(&e->calls))
        rate_move(r, e, place);
    else
        rate_move(r, e, RATE_IDLE);
}

void rate_batch_return(struct rates *r)
{
    for (size_t i = 0; i < r->batch.nrequests; i++)
        return_calls(r, &r->flights[i], RATE_DIRTY);
    rate_batch_clear(&r->batch);
}

/* Takes over where the database says that the counters stand. */
static void learn(struct rates *r, size_t i, int64_t now_us)
{
    const struct rate_request *q = &r->batch.requests[i];
    struct rate_key *e = r->flights[i].key;
    if (e->epoch != r->flights[i].epoch)
        return;
    for (size_t k = 0; k < e->nrefs; k++)
        e->refs[k].tat_ns = r->batch.counters[r->batch.indexes[q->first + k]].tat_ns;
    e->seen_ns = r->batch.now_ns;
    e->seen_us = now_us;
}

static void answer_single(struct rates *r, size_t i, int64_t now_us)
{
    const struct rate_request *q = &r->batch.requests[i];
    struct flight *f = &r->flights[i];
    if (list_empty(&f->calls))
        return; /* its client is gone */
    struct rate_call *call = list_first(&f->calls, struct rate_call, at);
    struct rate_answer a;
    if (q->status == RATE_MISMATCH) {
        a = (struct rate_answer){.result = RATE_ID_MISMATCH};
    } else if (q->status == RATE_AGAIN || q->granted >= call->cost) {
        a = rate_allowed(f->key, now_us, RATE_DATABASE);
        a.repeated = q->status == RATE_AGAIN;
        a.over = q->over > 0;
    } else {
        a = rate_denied(f->key, now_us, RATE_DATABASE,
                        rate_key_denied_us(f->key, now_us, call->cost));
    }
    rate_call_answer(call, &a);
}

/* The permits go to the calls in their order; what is left is the key's. */
static void answer_sum(struct rates *r, size_t i, int64_t now_us)
{
    const struct rate_request *q = &r->batch.requests[i];
    struct flight *f = &r->flights[i];
    struct rate_key *e = f->key;
    int64_t left = q->granted;
    int64_t backed = q->granted - q->over; /* by the shadow policies, too */
    list_for_each(at, &f->calls)
    {
        struct rate_call *call = container_of(at, struct rate_call, at);
        struct rate_answer a;
        if (left >= call->cost) {
            left -= call->cost;
            backed -= call->cost;
            a = rate_allowed(e, now_us, RATE_DATABASE);
            a.remaining += left;
            a.over = backed < 0;
        } else if (rate_key_take(e, call->cost, now_us)) {
            a = rate_allowed(e, now_us, RATE_LOCAL);
        } else {
            a = rate_denied(e, now_us, RATE_DATABASE, rate_key_denied_us(e, now_us, call->cost));
        }
        rate_call_answer(call, &a);
    }
    bool same = e->epoch == f->epoch && r->policies.epoch == f->epoch;
    if (q->status == RATE_DECIDED && q->life_ns > 0)
        metric_add(M_RATE_ADVANCE, left);
    if (q->status == RATE_DECIDED && q->life_ns > 0 && same)
        metric_add(M_RATE_LOST, rate_key_pool_add(e, left, f->pool_until_us, now_us));
}

/* Those that came while the batch was on its way: they may be answered by what it brought. */
static void answer_waiting(struct rates *r, struct rate_key *e, int64_t now_us)
{
    rate_key_resolve(e, &r->policies);
    list_for_each(at, &e->calls)
    {
        struct rate_call *call = container_of(at, struct rate_call, at);
        struct rate_answer a;
        if (!call->peek && !call->has_id && rate_answer_from_memory(r, e, call->cost, now_us, &a))
            rate_call_answer(call, &a);
    }
}

static bool is_single(const struct rate_request *q)
{
    return q->peek || q->id.p != NULL;
}

static void take_request(struct rates *r, size_t i, int64_t now_us)
{
    const struct rate_request *q = &r->batch.requests[i];
    struct rate_key *e = r->flights[i].key;
    if (q->status == RATE_LOCKED) {
        find_locked(r, i, now_us);
        return;
    }
    e->locked = 0;
    learn(r, i, now_us);
    e->missed = false;
    if (q->life_ns > 0 && q->granted < q->want)
        fall_short(r, e, now_us);
    if (is_single(q))
        answer_single(r, i, now_us);
    else
        answer_sum(r, i, now_us);
}

void rate_batch_take(struct rates *r)
{
    int64_t now_us = clock_mono_us();
    int64_t took_us = now_us - r->round_us;
    r->latency_us += (took_us - r->latency_us) / 8;
    r->share = r->s->o.settings->batch_max;
    metric_add(M_RATE_BATCHES, 1);
    for (size_t i = 0; i < r->batch.nrequests; i++)
        take_request(r, i, now_us);
    for (size_t i = 0; i < r->batch.nrequests; i++) {
        struct rate_key *e = r->flights[i].key;
        if (e->place != RATE_SENT)
            continue;
        answer_waiting(r, e, now_us);
        rate_move(r, e, list_empty(&e->calls) ? RATE_IDLE : RATE_DIRTY);
    }
    rate_batch_clear(&r->batch);
}

/* The server refused all of it: nothing was done. */
void rate_batch_refused(struct rates *r, const struct link_outcome *outcome)
{
    bool alone = r->batch.nrequests == 1;
    log_warn("rate_batch_refused", "sqlstate=%s requests=%zu message=%s", outcome->sqlstate,
             r->batch.nrequests, log_quote(str_of(outcome->message)));
    if (alone && sqlstate_meaning(outcome->sqlstate) == SQLSTATE_BUG) {
        struct rate_answer a = {.result = RATE_INTERNAL};
        list_for_each(at, &r->flights[0].calls)
            rate_call_answer(container_of(at, struct rate_call, at), &a);
    }
    r->share = r->batch.nrequests > 1 ? r->batch.nrequests / 2 : 1;
    rate_batch_return(r);
    ev_timer_set(&r->pause, RATE_PAUSE_MS / 1000.0, 0.);
    ev_timer_start(r->s->o.loop, &r->pause);
}

/* --- the interface --- */

void rate_batch_init(struct rates *r)
{
    r->share = r->s->o.settings->batch_max;
    r->seen = xcalloc(SEEN, sizeof(*r->seen));
    ev_timer_init(&r->short_look, on_short_look, 0., SHORT_MS / 1000.0);
    r->short_look.data = r;
}

void rate_batch_free_all(struct rates *r)
{
    ev_timer_stop(r->s->o.loop, &r->short_look);
    rate_batch_free(&r->batch);
    free(r->flights);
    free(r->seen);
}
