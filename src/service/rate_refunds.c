#include <stdlib.h>

#include "base/xalloc.h"
#include "service/rate_state.h"

enum {
    REFUNDS_MAX = 10000,
    REFUNDS_SENT_MAX = 256,
    REFUND_TRIES = 100,
};

struct refund {
    struct list at;
    int64_t permits;
    int tries;
    size_t key_n;
    char rule[RATE_RULE_MAX];
    char key[];
};

void rate_refund_key(struct rates *r, struct rate_key *e, int64_t permits)
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
    rate_pump_later(r);
}

void rates_refund(struct rates *r, const struct rate_ask *ask)
{
    struct rate_key *e = rate_keys_get(&r->keys, ask, r->s->o.settings->rate_keys_max);
    rate_key_resolve(e, &r->policies);
    rate_refund_key(r, e, ask->cost);
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

void rate_refunds_send(struct rates *r)
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
void rate_refunds_take(struct rates *r, bool answered, bool maybe)
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
            rate_look_start(r);
        }
    }
    rate_batch_clear(&r->batch);
}

static void free_list(struct list *refunds)
{
    list_for_each(at, refunds) free(container_of(at, struct refund, at));
}

void rate_refunds_free(struct rates *r)
{
    free_list(&r->refunds);
    free_list(&r->refunds_sent);
}
