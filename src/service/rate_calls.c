#include <stdlib.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "service/rate_state.h"

enum {
    AWAY_RETRY_US = 1000000, /* what a denial says while nobody knows */
    LABEL_OTHER = 1,
};

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

unsigned rate_label(struct rates *r, struct str name)
{
    for (size_t i = 0; i < r->nlabels; i++)
        if (str_is(name, r->labels[i]))
            return (unsigned)i;
    if (r->nlabels == RATE_LABELS)
        return LABEL_OTHER;
    r->labels[r->nlabels++] = xstrndup(name.p, name.n);
    metrics_label_names(LABEL_POLICY, (const char *const *)r->labels, r->nlabels);
    return (unsigned)r->nlabels - 1;
}

/* cost: what was charged where it is allowed; 0 for who only looks. */
static void count(const struct rate_key *e, const struct rate_answer *a, int64_t cost)
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
        if (d == DECISION_ALLOWED && !would && !a->repeated)
            metric_add1(M_RATE_PERMITS, ref->label, cost);
    }
}

/* --- calls --- */

void rate_call_free(struct rate_call *call)
{
    list_remove(&call->at);
    list_remove(&call->all);
    call->rates->calls--;
    free(call);
}

void rate_call_answer(struct rate_call *call, const struct rate_answer *a)
{
    void (*answered)(void *, const struct rate_answer *) = call->answered;
    void *user = call->user;
    bool abandoned = call->abandoned;
    count(call->key, a, call->peek ? 0 : call->cost);
    if (abandoned && a->result == RATE_ALLOWED && a->source != RATE_FALLBACK)
        rate_refund_key(call->rates, call->key, call->cost);
    rate_call_free(call);
    if (!abandoned)
        answered(user, a);
}

void rate_move(struct rates *r, struct rate_key *e, enum rate_place place)
{
    r->ndirty -= e->place == RATE_DIRTY;
    list_remove(&e->at);
    e->place = place;
    if (place == RATE_DIRTY) {
        list_append(&r->dirty, &e->at);
        r->ndirty++;
        r->urgent |= !list_empty(&e->calls);
        rate_pump_later(r);
    } else if (place == RATE_PAUSED) {
        list_append(&r->paused, &e->at);
        rate_look_start(r);
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
    rate_look_start(r);
    if (e->place == RATE_IDLE) {
        rate_move(r, e, RATE_DIRTY);
    } else if (e->place == RATE_DIRTY) {
        r->urgent = true;
        rate_pump_later(r);
    }
    return call;
}

void rates_abandon(struct rate_call *call)
{
    if (call->key->use == RATE_USE_GRANT)
        call->abandoned = true;
    else
        rate_call_free(call);
}

/* --- answers from memory --- */

struct rate_answer rate_allowed(struct rate_key *e, int64_t now_us, enum rate_source source)
{
    struct rate_answer a = {.result = RATE_ALLOWED, .source = source};
    rate_key_describe(e, now_us, &a);
    return a;
}

struct rate_answer rate_denied(struct rate_key *e, int64_t now_us, enum rate_source source,
                               int64_t retry_us)
{
    struct rate_answer a = rate_allowed(e, now_us, source);
    a.result = RATE_DENIED;
    a.retry_after_ms = retry_us > 0 ? (retry_us + 999) / 1000 : 1;
    return a;
}

struct rate_answer rate_decide_away(struct rate_key *e, int64_t now_us, int64_t cost)
{
    if (rate_key_decide_away(e, now_us, cost))
        return rate_allowed(e, now_us, RATE_FALLBACK);
    return rate_denied(e, now_us, RATE_FALLBACK, AWAY_RETRY_US);
}

int64_t rate_timeout_us(const struct rates *r)
{
    return 1000 * r->s->o.settings->request_timeout_ms;
}

/* Nobody has answered for so long that waiting for it makes no sense. */
static bool is_away(const struct rates *r, int64_t now_us)
{
    if (!r->up)
        return now_us - r->down_us > rate_timeout_us(r);
    return r->round != ROUND_NONE && now_us - r->round_us > rate_timeout_us(r);
}

/* What needs no counter: there is none, or never enough. */
bool rate_answer_plainly(const struct rate_key *e, int64_t cost, struct rate_answer *a)
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

bool rate_answer_from_memory(struct rates *r, struct rate_key *e, int64_t cost, int64_t now_us,
                             struct rate_answer *a)
{
    if (e->nrefs == 0)
        return false;
    if (now_us - r->confirmed_us > RATE_FRESH_US)
        return false;
    if (now_us - r->confirmed_us > RATE_POLL_US)
        rate_pump_later(r);
    if (rate_key_take(e, cost, now_us)) {
        if (e->place == RATE_IDLE &&
            rate_key_is_low(e, now_us, r->latency_us + 1000 * RATE_LAZY_MS))
            rate_move(r, e, RATE_DIRTY);
        *a = rate_allowed(e, now_us, RATE_LOCAL);
        return true;
    }
    e->missed = true;
    int64_t denied_us = rate_key_denied_us(e, now_us, cost);
    if (denied_us <= 0)
        return false;
    *a = rate_denied(e, now_us, RATE_LOCAL, denied_us);
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
    if (rate_answer_plainly(e, ask->cost, a) && !ask_policies_first(r, e, a))
        return NULL;
    if (plain && e->nrefs > 0)
        rate_demand_add(&e->demand, now_us, ask->cost);
    if (plain && ask->cost <= e->cost_max && rate_answer_from_memory(r, e, ask->cost, now_us, a)) {
        count(e, a, ask->peek ? 0 : ask->cost);
        return NULL;
    }
    if (is_away(r, now_us)) {
        if (!rate_answer_plainly(e, ask->cost, a))
            *a = rate_decide_away(e, now_us, ask->cost);
        count(e, a, ask->peek ? 0 : ask->cost);
        return NULL;
    }
    struct rate_call *call = ask_new(r, e, ask);
    call->answered = answered;
    call->user = user;
    return call;
}
