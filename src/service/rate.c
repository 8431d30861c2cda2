#include "service/rate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/rate_link.h"
#include "pg/sqlstate.h"
#include "service/rate_keys.h"
#include "service/state.h"

/*
 * A request's way:
 *
 *   rates_ask ──▶ permits in advance, or a denial that is remembered ──▶ answered
 *       │
 *       ▼
 *   key->calls ──▶ batch (one at a time) ──▶ pglockd.rate_decide() ──▶ answered
 *       ▲              │ counter locked by somebody, connection lost, policies changed
 *       └──────────────┘
 *   after request_timeout ──▶ what the policy says for the time without a database
 *
 * What is decided from memory holds only for policies that the database has confirmed within
 * FRESH_US. A charge whose outcome is unknown is lost: it is never used, and the request is charged
 * again.
 */

enum {
    FRESH_US = 900000,       /* how old the policies may be by which memory decides */
    POLL_US = 300000,        /* when they are asked about again, where requests come */
    SHORT_MS = 2,            /* between looks at keys that are short of permits */
    LOOK_MS = 20,            /* for what takes too long, and counters that were locked */
    PAUSE_MS = 100,          /* after a round that the server could not serve */
    COUNTERS_MADE_MAX = 512, /* in one batch: each is an entry of PostgreSQL's lock table */
    REFUNDS_MAX = 10000,
    REFUNDS_SENT_MAX = 256,
    REFUND_TRIES = 100,
    AWAY_RETRY_US = 1000000, /* what a denial says while nobody knows */
    LABELS = 64,             /* policies that metrics name; the rest is one */
    LABEL_NAMED = 0,         /* limits that requests name */
    LABEL_OTHER = 1,
};

struct rate_call {
    struct list at;  /* in its key's calls, or in a flight's */
    struct list all; /* in the order in which they came */
    struct rates *rates;
    struct rate_key *key;
    int64_t cost;
    bool peek;
    bool has_id;
    bool abandoned; /* nobody waits for it; what it gets is given back */
    int64_t received_us;
    void (*answered)(void *user, const struct rate_answer *answer);
    void *user;
    size_t id_n, identity_n;
    char text[]; /* id, identity */
};

/* A request of the batch on its way: what it is for. */
struct flight {
    struct rate_key *key;
    struct list calls;
    int64_t epoch;
    int64_t pool_until_us;
};

struct refund {
    struct list at;
    int64_t permits;
    int tries;
    size_t key_n;
    char rule[RATE_RULE_MAX];
    char key[];
};

enum round { ROUND_NONE, ROUND_BATCH, ROUND_REFUND, ROUND_POLICIES, ROUND_EPOCH };

struct rates {
    struct service *s;
    struct rate_link *link;
    struct rate_policies policies, read; /* in force; being read */
    struct rate_keys keys;
    struct list dirty;  /* keys with something for the next batch */
    struct list paused; /* keys whose counters somebody had locked */
    struct list shorts; /* keys that did not get all they wanted, until they ask again */
    struct list all;    /* calls that are not answered */
    size_t calls;
    struct list refunds;
    size_t nrefunds;
    struct list refunds_sent;
    enum round round; /* on its way */
    bool was_refund;  /* the round before was one of refunds */
    bool stale;       /* the policies are to be read */
    bool was_loaded;
    bool up;
    int64_t round_us;     /* when the round was sent */
    int64_t confirmed_us; /* when a round was sent that saw our policies */
    int64_t down_us;      /* since when it is not connected */
    int64_t latency_us;   /* of a batch, a mean */
    size_t share;         /* requests in the next batch at most: halved while the server refuses */
    struct rate_batch batch;
    struct flight *flights; /* one for each request of the batch */
    size_t flights_size;
    struct {
        uint32_t hash;
        uint32_t batch;
        int32_t index;
    } * seen; /* counters of the batch that is being made, by hash */
    uint32_t batches;
    uint32_t random;
    ev_idle end_of_turn; /* never started: fed when there is something to send */
    ev_timer look, pause, short_look;
    char *labels[LABELS];
    size_t nlabels;
};

enum { SEEN = 2 * RATE_COUNTERS_MAX };

/* --- metrics --- */

enum decision { DECISION_ALLOWED, DECISION_DENIED, DECISION_SHADOW_DENIED, DECISIONS };

void rates_register_metrics(void)
{
    static const char *const ends[DECISIONS * RATE_SOURCES] = {
        "allowed,database",       "allowed,local",       "allowed,fallback",
        "denied,database",        "denied,local",        "denied,fallback",
        "shadow_denied,database", "shadow_denied,local", "shadow_denied,fallback",
    };
    metrics_label_names(LABEL_RATE_END, ends, DECISIONS * RATE_SOURCES);
}

static unsigned label_of(struct rates *r, struct str name)
{
    for (size_t i = 0; i < r->nlabels; i++)
        if (str_is(name, r->labels[i]))
            return (unsigned)i;
    if (r->nlabels == LABELS)
        return LABEL_OTHER;
    r->labels[r->nlabels++] = xstrndup(name.p, name.n);
    metrics_label_names(LABEL_POLICY, (const char *const *)r->labels, r->nlabels);
    return (unsigned)r->nlabels - 1;
}

static void count(const struct rate_key *e, const struct rate_answer *a)
{
    if (a->result > RATE_DENIED || e->nrefs == 0)
        return;
    enum decision d = a->result == RATE_ALLOWED ? DECISION_ALLOWED : DECISION_DENIED;
    for (size_t i = 0; i < e->nrefs; i++) {
        const struct rate_ref *ref = &e->refs[i];
        bool would = ref->shadow && a->over && d == DECISION_ALLOWED;
        if (e->nrefs == 1 || ref->shadow || ref->rule == a->policy)
            metric_add2(M_RATE_DECISIONS, ref->label,
                        (would ? DECISION_SHADOW_DENIED : d) * RATE_SOURCES + a->source, 1);
    }
}

/* --- calls --- */

static void pump_later(struct rates *r)
{
    ev_feed_event(r->s->o.loop, &r->end_of_turn, EV_CUSTOM);
}

static void start_look(struct rates *r)
{
    if (!ev_is_active(&r->look))
        ev_timer_again(r->s->o.loop, &r->look);
}

static void ask_free(struct rate_call *call)
{
    list_remove(&call->at);
    list_remove(&call->all);
    call->rates->calls--;
    free(call);
}

static void refund_key(struct rates *r, struct rate_key *e, int64_t permits);

static void answer(struct rate_call *call, const struct rate_answer *a)
{
    void (*answered)(void *, const struct rate_answer *) = call->answered;
    void *user = call->user;
    bool abandoned = call->abandoned;
    count(call->key, a);
    if (abandoned && a->result == RATE_ALLOWED && a->source != RATE_FALLBACK)
        refund_key(call->rates, call->key, call->cost);
    ask_free(call);
    if (!abandoned)
        answered(user, a);
}

static void move_to(struct rates *r, struct rate_key *e, enum rate_place place)
{
    list_remove(&e->at);
    e->place = place;
    if (place == RATE_DIRTY) {
        list_append(&r->dirty, &e->at);
        pump_later(r);
    } else if (place == RATE_PAUSED) {
        list_append(&r->paused, &e->at);
        start_look(r);
    }
}

static struct rate_call *ask_new(struct rates *r, struct rate_key *e, const struct rate_ask *ask)
{
    struct rate_call *call = xcalloc(1, sizeof(*call) + ask->id.n + ask->identity.n);
    call->rates = r;
    call->key = e;
    call->cost = ask->cost;
    call->peek = ask->peek;
    call->has_id = ask->id.p != NULL;
    call->received_us = ask->received_us;
    call->id_n = ask->id.n;
    call->identity_n = ask->identity.n;
    if (ask->id.n > 0)
        memcpy(call->text, ask->id.p, ask->id.n);
    if (ask->identity.n > 0)
        memcpy(call->text + ask->id.n, ask->identity.p, ask->identity.n);
    list_init(&call->at);
    list_init(&call->all);
    list_append(&e->calls, &call->at);
    list_append(&r->all, &call->all);
    r->calls++;
    start_look(r);
    if (e->place == RATE_IDLE)
        move_to(r, e, RATE_DIRTY);
    return call;
}

void rates_abandon(struct rate_call *call)
{
    if (call->key->use == RATE_USE_GRANT)
        call->abandoned = true;
    else
        ask_free(call);
}

/* --- answers from memory --- */

static struct rate_answer allowed(struct rate_key *e, int64_t now_us, enum rate_source source)
{
    struct rate_answer a = {.result = RATE_ALLOWED, .source = source};
    rate_key_describe(e, now_us, &a);
    return a;
}

static struct rate_answer denied(struct rate_key *e, int64_t now_us, enum rate_source source,
                                 int64_t retry_us)
{
    struct rate_answer a = allowed(e, now_us, source);
    a.result = RATE_DENIED;
    a.retry_after_ms = retry_us > 0 ? (retry_us + 999) / 1000 : 1;
    return a;
}

static struct rate_answer decide_away(struct rate_key *e, int64_t now_us, int64_t cost)
{
    if (rate_key_decide_away(e, now_us, cost))
        return allowed(e, now_us, RATE_FALLBACK);
    return denied(e, now_us, RATE_FALLBACK, AWAY_RETRY_US);
}

static int64_t timeout_us(const struct rates *r)
{
    return 1000 * r->s->o.settings->request_timeout_ms;
}

/* Nobody has answered for so long that waiting for it makes no sense. */
static bool is_away(const struct rates *r, int64_t now_us)
{
    if (!r->up)
        return now_us - r->down_us > timeout_us(r);
    return r->round != ROUND_NONE && now_us - r->round_us > timeout_us(r);
}

/* What needs no counter: there is none, or never enough. */
static bool answer_plainly(const struct rate_key *e, int64_t cost, struct rate_answer *a)
{
    if (e->nrefs == 0)
        *a =
            (struct rate_answer){.result = e->use == RATE_USE_RATE ? RATE_NO_POLICY : RATE_ALLOWED};
    else if (cost > e->cost_max)
        *a = (struct rate_answer){.result = RATE_NEVER, .burst = e->cost_max};
    else
        return false;
    return true;
}

/* An error is not said by old policies: who has just made one counts on it. */
static bool ask_policies_first(struct rates *r, const struct rate_key *e,
                               const struct rate_answer *a)
{
    if (e->quota > 0 || a->result == RATE_ALLOWED || !r->up)
        return false;
    r->stale = true;
    return true;
}

static bool answer_from_memory(struct rates *r, struct rate_key *e, int64_t cost, int64_t now_us,
                               struct rate_answer *a)
{
    if (e->nrefs == 0)
        return false;
    if (now_us - r->confirmed_us > FRESH_US)
        return false;
    if (now_us - r->confirmed_us > POLL_US)
        pump_later(r);
    if (rate_key_take(e, cost, now_us)) {
        if (e->place == RATE_IDLE && rate_key_is_low(e, now_us, r->latency_us))
            move_to(r, e, RATE_DIRTY);
        *a = allowed(e, now_us, RATE_LOCAL);
        return true;
    }
    int64_t denied_us = rate_key_denied_us(e, now_us, cost);
    if (denied_us <= 0)
        return false;
    *a = denied(e, now_us, RATE_LOCAL, denied_us);
    return true;
}

struct rate_call *rates_ask(struct rates *r, const struct rate_ask *ask, struct rate_answer *a,
                            void (*answered)(void *user, const struct rate_answer *answer),
                            void *user)
{
    int64_t now_us = ask->received_us;
    struct rate_key *e = rate_keys_get(&r->keys, ask, r->s->o.settings->rate_keys_max);
    bool plain = !ask->peek && ask->id.p == NULL;
    rate_key_resolve(e, &r->policies);
    if (answer_plainly(e, ask->cost, a) && !ask_policies_first(r, e, a))
        return NULL;
    if (plain && e->nrefs > 0) {
        rate_demand_add(&e->demand, now_us, ask->cost);
        e->last_cost = ask->cost;
    }
    if (plain && ask->cost <= e->cost_max && answer_from_memory(r, e, ask->cost, now_us, a)) {
        count(e, a);
        return NULL;
    }
    if (is_away(r, now_us)) {
        if (!answer_plainly(e, ask->cost, a))
            *a = decide_away(e, now_us, ask->cost);
        count(e, a);
        return NULL;
    }
    struct rate_call *call = ask_new(r, e, ask);
    call->answered = answered;
    call->user = user;
    return call;
}

/* --- keys that are short of permits --- */

/*
 * The next question of a hot key does not wait for a request: daemons would be led by the order in
 * which requests reach them, and one would always find what came since the other.
 */
static void fall_short(struct rates *r, struct rate_key *e, int64_t now_us)
{
    r->random = r->random * 1664525U + 1013904223U;
    e->pause_until_us = now_us + rate_pause_us(&e->refs[0].limit, r->random >> 8);
    list_remove(&e->shorts);
    list_append(&r->shorts, &e->shorts);
    if (!ev_is_active(&r->short_look))
        ev_timer_again(r->s->o.loop, &r->short_look);
}

static void on_short_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct rates *r = w->data;
    int64_t soon_us = clock_mono_us() + 1000 * (SHORT_MS + 1);
    (void)revents;
    list_for_each(at, &r->shorts)
    {
        struct rate_key *e = container_of(at, struct rate_key, shorts);
        if (e->pause_until_us > soon_us)
            continue;
        list_remove(&e->shorts);
        if (e->place == RATE_IDLE)
            move_to(r, e, RATE_DIRTY);
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
    return e->life_us > 0 ? advance : 0;
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
        if (answer_plainly(e, call->cost, &a))
            answer(call, &a);
    }
    return e->nrefs > 0 && (!list_empty(&e->calls) || e->borrow);
}

static void add_key(struct rates *r, struct rate_key *e, int64_t now_us)
{
    move_to(r, e, RATE_IDLE);
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
        move_to(r, e, RATE_DIRTY);
}

static void make_batch(struct rates *r, int64_t now_us)
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
        move_to(r, e, place);
    else
        move_to(r, e, RATE_IDLE);
}

static void return_batch(struct rates *r)
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
        a = allowed(f->key, now_us, RATE_DATABASE);
        a.repeated = q->status == RATE_AGAIN;
        a.over = q->over > 0;
    } else {
        a = denied(f->key, now_us, RATE_DATABASE, rate_key_denied_us(f->key, now_us, call->cost));
    }
    answer(call, &a);
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
            a = allowed(e, now_us, RATE_DATABASE);
            a.remaining += left;
            a.over = backed < 0;
        } else if (rate_key_take(e, call->cost, now_us)) {
            a = allowed(e, now_us, RATE_LOCAL);
        } else {
            a = denied(e, now_us, RATE_DATABASE, rate_key_denied_us(e, now_us, call->cost));
        }
        answer(call, &a);
    }
    bool same = e->epoch == f->epoch && r->policies.epoch == f->epoch;
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
        if (!call->peek && !call->has_id && answer_from_memory(r, e, call->cost, now_us, &a))
            answer(call, &a);
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
        e->pause_until_us = now_us + 1000 * LOOK_MS;
        return_calls(r, &r->flights[i], RATE_PAUSED);
        return;
    }
    learn(r, i, now_us);
    if (q->life_ns > 0 && q->granted < q->want)
        fall_short(r, e, now_us);
    if (is_single(q))
        answer_single(r, i, now_us);
    else
        answer_sum(r, i, now_us);
}

static void take_batch(struct rates *r)
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
        move_to(r, e, list_empty(&e->calls) ? RATE_IDLE : RATE_DIRTY);
    }
    rate_batch_clear(&r->batch);
}

/* The server refused all of it: nothing was done. */
static void refused(struct rates *r, const struct link_outcome *outcome)
{
    bool alone = r->batch.nrequests == 1;
    log_warn("rate_batch_refused", "sqlstate=%s requests=%zu message=%s", outcome->sqlstate,
             r->batch.nrequests, log_quote(str_of(outcome->message)));
    if (alone && sqlstate_meaning(outcome->sqlstate) == SQLSTATE_BUG) {
        struct rate_answer a = {.result = RATE_INTERNAL};
        list_for_each(at, &r->flights[0].calls) answer(container_of(at, struct rate_call, at), &a);
    }
    r->share = r->batch.nrequests > 1 ? r->batch.nrequests / 2 : 1;
    return_batch(r);
    ev_timer_set(&r->pause, PAUSE_MS / 1000.0, 0.);
    ev_timer_start(r->s->o.loop, &r->pause);
}

/* --- refunds --- */

static void refund_key(struct rates *r, struct rate_key *e, int64_t permits)
{
    for (size_t i = 0; i < e->nrefs && r->nrefunds < REFUNDS_MAX; i++) {
        const struct rate_ref *ref = &e->refs[i];
        if (ref->shadow)
            continue;
        struct refund *f = xcalloc(1, sizeof(*f) + ref->key.n);
        memcpy(f->rule, ref->rule, sizeof(f->rule));
        if (ref->key.n > 0)
            memcpy(f->key, ref->key.p, ref->key.n);
        f->key_n = ref->key.n;
        f->permits = permits;
        list_init(&f->at);
        list_append(&r->refunds, &f->at);
        r->nrefunds++;
    }
    /* What is remembered of denials is not true any more. */
    e->seen_us = e->pause_until_us = 0;
    pump_later(r);
}

void rates_refund(struct rates *r, const struct rate_ask *ask)
{
    struct rate_key *e = rate_keys_get(&r->keys, ask, r->s->o.settings->rate_keys_max);
    rate_key_resolve(e, &r->policies);
    refund_key(r, e, ask->cost);
}

/* Refunds to one counter are one. */
static bool add_to_refund(struct rates *r, const struct refund *f)
{
    for (size_t i = 0; i < r->batch.ncounters; i++) {
        const struct rate_counter *c = &r->batch.counters[i];
        if (str_is(c->rule, f->rule) && str_eq(c->key, (struct str){f->key, f->key_n})) {
            r->batch.requests[i].want += f->permits;
            return true;
        }
    }
    return false;
}

static void send_refunds(struct rates *r)
{
    rate_batch_clear(&r->batch);
    list_for_each(at, &r->refunds)
    {
        struct refund *f = container_of(at, struct refund, at);
        if (r->batch.nrequests == REFUNDS_SENT_MAX)
            break;
        list_remove(&f->at);
        list_append(&r->refunds_sent, &f->at);
        if (add_to_refund(r, f))
            continue;
        struct rate_counter *c = rate_batch_counter(&r->batch);
        c->key = (struct str){f->key, f->key_n};
        c->rule = str_of(f->rule);
        rate_batch_request(&r->batch)->want = f->permits;
        rate_batch_index(&r->batch, r->batch.ncounters - 1);
    }
    rate_link_refund(r->link, &r->batch);
}

static bool is_done(const struct rates *r, const struct refund *f, bool answered)
{
    for (size_t i = 0; answered && i < r->batch.ncounters; i++) {
        const struct rate_counter *c = &r->batch.counters[i];
        if (str_is(c->rule, f->rule) && str_eq(c->key, (struct str){f->key, f->key_n}))
            return r->batch.requests[i].status != RATE_LOCKED;
    }
    return false;
}

/* maybe: it was done or not, and is not done twice. */
static void take_refunds(struct rates *r, bool answered, bool maybe)
{
    list_for_each(at, &r->refunds_sent)
    {
        struct refund *f = container_of(at, struct refund, at);
        list_remove(&f->at);
        if (maybe || is_done(r, f, answered) || ++f->tries == REFUND_TRIES) {
            free(f);
            r->nrefunds--;
        } else {
            list_append(&r->refunds, &f->at);
            start_look(r);
        }
    }
    rate_batch_clear(&r->batch);
}

/* --- policies --- */

static void on_policy(void *arg, const struct rate_policy_row *row)
{
    struct rates *r = arg;
    struct rate_policy *p = rate_policies_add(&r->read);
    p->name = xstrndup(row->name.p, row->name.n);
    p->pattern = xstrndup(row->pattern.p, row->pattern.n);
    p->use = !row->for_lock ? RATE_USE_RATE : row->on_grant ? RATE_USE_GRANT : RATE_USE_ATTEMPT;
    p->counted = str_is(row->counter, "key")     ? RATE_BY_KEY
                 : str_is(row->counter, "owner") ? RATE_BY_OWNER
                                                 : RATE_BY_PATTERN;
    p->away = str_is(row->away, "allow")   ? RATE_AWAY_ALLOW
              : str_is(row->away, "local") ? RATE_AWAY_LOCAL
                                           : RATE_AWAY_DENY;
    p->away_percent = (int)row->away_percent;
    p->prefix = row->prefix;
    p->shadow = row->shadow;
    p->borrow = row->borrow;
    p->label = label_of(r, row->name);
    rate_limit_set(&p->limit, row->quota, row->period_ns, row->burst);
    r->read.for_locks |= row->for_lock;
}

static void take_policies(struct rates *r, int64_t epoch)
{
    if (epoch == 0) {
        rate_policies_free(&r->read);
        return;
    }
    r->stale = false;
    if (epoch != r->policies.epoch) {
        rate_policies_free(&r->policies);
        r->policies = r->read;
        r->policies.epoch = epoch;
        r->read = (struct rate_policies){0};
        log_info("rate_policies", "epoch=%" PRId64 " policies=%zu", epoch, r->policies.n);
    } else {
        rate_policies_free(&r->read);
    }
    if (!r->was_loaded) {
        r->was_loaded = true;
        service_check_ready(r->s);
    }
}

static void on_notified(void *arg)
{
    struct rates *r = arg;
    /* Until they are read, nothing is answered by the old ones. */
    r->stale = true;
    r->confirmed_us = clock_mono_us() - FRESH_US - 1;
    pump_later(r);
}

/* --- rounds --- */

static void on_done(void *arg, const struct link_outcome *outcome, int64_t epoch, bool answered)
{
    struct rates *r = arg;
    enum round round = r->round;
    r->round = ROUND_NONE;
    if (round == ROUND_POLICIES)
        take_policies(r, epoch);
    if (epoch != 0 && epoch != r->policies.epoch)
        r->stale = true;
    else if (epoch != 0 && !r->stale)
        r->confirmed_us = r->round_us;
    if (round == ROUND_REFUND)
        take_refunds(r, answered, outcome->end == LINK_UNKNOWN);
    else if (round == ROUND_BATCH && answered)
        take_batch(r);
    else if (round == ROUND_BATCH && outcome->end == LINK_REFUSED)
        refused(r, outcome);
    else if (round == ROUND_BATCH)
        return_batch(r);
    pump_later(r);
}

static void start_round(struct rates *r, enum round round, int64_t now_us)
{
    r->round = round;
    r->round_us = now_us;
    r->was_refund = round == ROUND_REFUND;
}

static void pump(struct rates *r)
{
    int64_t now_us = clock_mono_us();
    metric_set(M_RATE_KEYS, (int64_t)r->keys.count);
    if (r->round != ROUND_NONE || !rate_link_is_free(r->link) || ev_is_active(&r->pause))
        return;
    if (r->stale) {
        start_round(r, ROUND_POLICIES, now_us);
        rate_link_ask_policies(r->link);
        return;
    }
    if (!list_empty(&r->refunds) && !r->was_refund) {
        start_round(r, ROUND_REFUND, now_us);
        send_refunds(r);
        return;
    }
    r->was_refund = false;
    make_batch(r, now_us);
    if (r->batch.nrequests > 0) {
        start_round(r, ROUND_BATCH, now_us);
        rate_link_decide(r->link, r->policies.epoch, &r->batch);
    } else if (now_us - r->confirmed_us > POLL_US && r->keys.count > 0) {
        start_round(r, ROUND_EPOCH, now_us);
        rate_link_ask_epoch(r->link);
    }
}

static void on_end_of_turn(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop, (void)revents;
    pump(w->data);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    pump(w->data);
}

static void on_state(void *arg, bool up)
{
    struct rates *r = arg;
    r->up = up;
    if (up)
        on_notified(r); /* what changed meanwhile was not heard */
    else
        r->down_us = clock_mono_us();
}

/* --- what takes too long --- */

static void answer_late(struct rates *r, int64_t now_us)
{
    while (!list_empty(&r->all)) {
        struct rate_call *call = list_first(&r->all, struct rate_call, all);
        if (now_us - call->received_us <= timeout_us(r))
            return;
        rate_key_resolve(call->key, &r->policies);
        struct rate_answer a;
        if (!answer_plainly(call->key, call->cost, &a))
            a = decide_away(call->key, now_us, call->cost);
        answer(call, &a);
    }
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct rates *r = w->data;
    (void)revents;
    answer_late(r, clock_mono_us());
    while (!list_empty(&r->paused))
        move_to(r, list_first(&r->paused, struct rate_key, at), RATE_DIRTY);
    if (!list_empty(&r->refunds))
        pump_later(r);
    if (r->calls == 0 && list_empty(&r->refunds))
        ev_timer_stop(loop, w);
}

/* --- the interface --- */

struct rates *rates_create(struct service *s)
{
    struct rates *r = xcalloc(1, sizeof(*r));
    uint32_t seed = 2166136261U;
    r->s = s;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
        seed ^= (uint32_t)clock_wall_us();
    r->random = seed;
    rate_keys_init(&r->keys, seed);
    list_init(&r->dirty);
    list_init(&r->paused);
    list_init(&r->shorts);
    list_init(&r->all);
    list_init(&r->refunds);
    list_init(&r->refunds_sent);
    r->share = s->o.settings->batch_max;
    r->latency_us = 2000;
    r->down_us = clock_mono_us();
    r->seen = xcalloc(SEEN, sizeof(*r->seen));
    label_of(r, STR_LIT("(named)"));
    label_of(r, STR_LIT("(other)"));
    ev_idle_init(&r->end_of_turn, on_end_of_turn);
    ev_set_priority(&r->end_of_turn, EV_MINPRI + 1); /* before replies are sent */
    r->end_of_turn.data = r;
    ev_timer_init(&r->look, on_look, 0., LOOK_MS / 1000.0);
    r->look.data = r;
    ev_timer_init(&r->short_look, on_short_look, 0., SHORT_MS / 1000.0);
    r->short_look.data = r;
    ev_init(&r->pause, on_pause_over);
    r->pause.data = r;
    struct rate_link_options options = {.loop = s->o.loop,
                                        .conninfo = s->o.conninfo,
                                        .state_changed = on_state,
                                        .notified = on_notified,
                                        .policy = on_policy,
                                        .done = on_done,
                                        .arg = r};
    r->link = rate_link_create(&options);
    return r;
}

static void free_refunds(struct list *refunds)
{
    list_for_each(at, refunds) free(container_of(at, struct refund, at));
}

void rates_destroy(struct rates *r)
{
    if (r == NULL)
        return;
    ev_clear_pending(r->s->o.loop, &r->end_of_turn);
    ev_timer_stop(r->s->o.loop, &r->look);
    ev_timer_stop(r->s->o.loop, &r->pause);
    ev_timer_stop(r->s->o.loop, &r->short_look);
    rate_link_destroy(r->link);
    list_for_each(at, &r->all) ask_free(container_of(at, struct rate_call, all));
    free_refunds(&r->refunds);
    free_refunds(&r->refunds_sent);
    rate_keys_free(&r->keys);
    rate_policies_free(&r->policies);
    rate_policies_free(&r->read);
    rate_batch_free(&r->batch);
    metrics_label_names(LABEL_POLICY, NULL, 0);
    for (size_t i = 0; i < r->nlabels; i++)
        free(r->labels[i]);
    free(r->flights);
    free(r->seen);
    free(r);
}

bool rates_are_loaded(const struct rates *r)
{
    return r->was_loaded;
}

bool rates_are_idle(const struct rates *r)
{
    return r->calls == 0 && r->nrefunds == 0;
}

bool rates_limit_locks(const struct rates *r)
{
    return r->policies.for_locks;
}
