#include "service/rate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "service/rate_state.h"

void rate_pump_later(struct rates *r)
{
    ev_feed_event(r->s->o.loop, &r->end_of_turn, EV_CUSTOM);
}

void rate_look_start(struct rates *r)
{
    if (!ev_is_active(&r->look))
        ev_timer_again(r->s->o.loop, &r->look);
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
    p->label = rate_label(r, row->name);
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
    r->confirmed_us = clock_mono_us() - RATE_FRESH_US - 1;
    rate_pump_later(r);
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
        rate_refunds_take(r, answered,
                          outcome->end == LINK_UNKNOWN || outcome->end == LINK_UNREPLICATED);
    else if (round == ROUND_BATCH && answered)
        rate_batch_take(r);
    else if (round == ROUND_BATCH && outcome->end == LINK_REFUSED)
        rate_batch_refused(r, outcome);
    else if (round == ROUND_BATCH)
        rate_batch_return(r);
    rate_pump_later(r);
}

static void start_round(struct rates *r, enum round round, int64_t now_us)
{
    r->round = round;
    r->round_us = now_us;
    r->was_refund = round == ROUND_REFUND;
}

/*
 * Permits in advance are asked for before they are needed: they wait a moment for others, since a
 * batch has a cost of its own. True while they wait.
 */
static bool may_wait(struct rates *r)
{
    if (r->ndirty == 0 || r->ndirty >= RATE_LAZY_MAX || r->lazy_over)
        return false;
    if (!ev_is_active(&r->lazy)) {
        ev_timer_set(&r->lazy, RATE_LAZY_MS / 1000.0, 0.);
        ev_timer_start(r->s->o.loop, &r->lazy);
    }
    return true;
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
        rate_refunds_send(r);
        return;
    }
    r->was_refund = false;
    if (!r->urgent && may_wait(r))
        return;
    rate_batch_make(r, now_us);
    ev_timer_stop(r->s->o.loop, &r->lazy);
    r->urgent = r->lazy_over = false;
    if (r->batch.nrequests > 0) {
        start_round(r, ROUND_BATCH, now_us);
        rate_link_decide(r->link, r->policies.epoch, &r->batch);
    } else if (now_us - r->confirmed_us > RATE_POLL_US && r->keys.count > 0) {
        start_round(r, ROUND_EPOCH, now_us);
        rate_link_ask_epoch(r->link);
    }
}

static void on_end_of_turn(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop, (void)revents;
    pump(w->data);
}

static void on_lazy_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct rates *r = w->data;
    (void)loop, (void)revents;
    r->lazy_over = true;
    pump(r);
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
        if (now_us - call->received_us <= rate_timeout_us(r))
            return;
        rate_key_resolve(call->key, &r->policies);
        struct rate_answer a;
        if (!rate_answer_plainly(call->key, call->cost, &a))
            a = rate_decide_away(call->key, now_us, call->cost);
        rate_call_answer(call, &a);
    }
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct rates *r = w->data;
    (void)revents;
    answer_late(r, clock_mono_us());
    while (!list_empty(&r->paused))
        rate_move(r, list_first(&r->paused, struct rate_key, at), RATE_DIRTY);
    if (!list_empty(&r->refunds))
        rate_pump_later(r);
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
    r->latency_us = 2000;
    r->down_us = clock_mono_us();
    rate_batch_init(r);
    rate_label(r, STR_LIT("(named)"));
    rate_label(r, STR_LIT("(other)"));
    ev_idle_init(&r->end_of_turn, on_end_of_turn);
    ev_set_priority(&r->end_of_turn, EV_MINPRI + 1); /* before replies are sent */
    r->end_of_turn.data = r;
    ev_timer_init(&r->look, on_look, 0., RATE_LOOK_MS / 1000.0);
    r->look.data = r;
    ev_init(&r->lazy, on_lazy_over);
    r->lazy.data = r;
    ev_init(&r->pause, on_pause_over);
    r->pause.data = r;
    struct rate_link_options options = {.loop = s->o.loop,
                                        .conninfo = s->o.conninfo,
                                        .seen = &s->seen,
                                        .state_changed = on_state,
                                        .notified = on_notified,
                                        .policy = on_policy,
                                        .done = on_done,
                                        .arg = r};
    r->link = rate_link_create(&options);
    return r;
}

void rates_destroy(struct rates *r)
{
    if (r == NULL)
        return;
    ev_clear_pending(r->s->o.loop, &r->end_of_turn);
    ev_timer_stop(r->s->o.loop, &r->look);
    ev_timer_stop(r->s->o.loop, &r->pause);
    ev_timer_stop(r->s->o.loop, &r->lazy);
    rate_link_destroy(r->link);
    list_for_each(at, &r->all) rate_call_free(container_of(at, struct rate_call, all));
    rate_refunds_free(r);
    rate_keys_free(&r->keys);
    rate_policies_free(&r->policies);
    rate_policies_free(&r->read);
    rate_batch_free_all(r);
    metrics_label_names(LABEL_POLICY, NULL, 0);
    for (size_t i = 0; i < r->nlabels; i++)
        free(r->labels[i]);
    free(r);
}

bool rates_are_loaded(const struct rates *r)
{
    return r->was_loaded;
}

bool rates_are_idle(const struct rates *r)
{
    return r->calls == 0 && (r->nrefunds == 0 || !r->up);
}

bool rates_limit_locks(const struct rates *r)
{
    return r->policies.for_locks;
}
