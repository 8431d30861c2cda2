#include "service/rate_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/xalloc.h"

enum { BUCKETS_FIRST = 1024, LOW_MORE = 4 /* chance may bring so many more than the mean */ };

/* --- the table --- */

void rate_keys_init(struct rate_keys *k, uint32_t seed)
{
    *k = (struct rate_keys){.nbuckets = BUCKETS_FIRST, .seed = seed};
    k->buckets = xcalloc(k->nbuckets, sizeof(struct rate_key *));
    list_init(&k->used);
}

static void key_free(struct rate_key *e)
{
    list_remove(&e->used);
    list_remove(&e->at);
    list_remove(&e->shorts);
    free(e->refs);
    free(e);
}

void rate_keys_free(struct rate_keys *k)
{
    list_for_each(at, &k->used) key_free(container_of(at, struct rate_key, used));
    free(k->buckets);
}

static void double_buckets(struct rate_keys *k)
{
    size_t n = 2 * k->nbuckets;
    struct rate_key **buckets = xcalloc(n, sizeof(struct rate_key *));
    list_for_each(at, &k->used)
    {
        struct rate_key *e = container_of(at, struct rate_key, used);
        e->next = buckets[e->hash & (n - 1)];
        buckets[e->hash & (n - 1)] = e;
    }
    free(k->buckets);
    k->buckets = buckets;
    k->nbuckets = n;
}

static void forget(struct rate_keys *k, struct rate_key *e)
{
    struct rate_key **at = &k->buckets[e->hash & (k->nbuckets - 1)];
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    k->count--;
    key_free(e);
}

/* Looks at a few only: those that have something on the way are few beside the bound. */
static void make_room(struct rate_keys *k, size_t max)
{
    int looks = 8;
    list_for_each(at, &k->used)
    {
        struct rate_key *e = container_of(at, struct rate_key, used);
        if (k->count < max || looks-- == 0)
            return;
        if (e->place == RATE_IDLE)
            forget(k, e);
    }
}

/* FNV-1a with a secret start, so that nobody can choose keys that collide by their text alone. */
static uint32_t hash_more(uint32_t h, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 16777619U;
    return h * 31U + (uint32_t)s.n;
}

static uint32_t hash_of(const struct rate_keys *k, const struct rate_ask *ask)
{
    uint32_t h = hash_more(k->seed + (uint32_t)ask->use, ask->key);
    h = hash_more(h, ask->owner);
    h = hash_more(h, ask->policy);
    h = h * 31U + (uint32_t)ask->quota + (uint32_t)ask->period_ms + (uint32_t)ask->burst;
    return h ^ h >> 15;
}

static bool is_asked(const struct rate_key *e, uint32_t hash, const struct rate_ask *ask)
{
    return e->hash == hash && e->use == ask->use && e->quota == ask->quota &&
           e->period_ms == ask->period_ms && e->burst == ask->burst && str_eq(e->name, ask->key) &&
           str_eq(e->owner, ask->owner) && str_eq(e->policy, ask->policy);
}

static char *place_text(char *at, struct str from, struct str *to)
{
    *to = (struct str){at, from.n};
    if (from.n > 0)
        memcpy(at, from.p, from.n);
    return at + from.n;
}

static struct rate_key *key_new(uint32_t hash, const struct rate_ask *ask)
{
    struct rate_key *e = xcalloc(1, sizeof(*e) + ask->key.n + ask->owner.n + ask->policy.n);
    char *at = place_text(e->text, ask->key, &e->name);
    at = place_text(at, ask->owner, &e->owner);
    place_text(at, ask->policy, &e->policy);
    e->hash = hash;
    e->use = ask->use;
    e->quota = ask->quota;
    e->period_ms = ask->period_ms;
    e->burst = ask->burst;
    list_init(&e->used);
    list_init(&e->at);
    list_init(&e->shorts);
    list_init(&e->calls);
    return e;
}

struct rate_key *rate_keys_get(struct rate_keys *k, const struct rate_ask *ask, size_t max)
{
    uint32_t hash = hash_of(k, ask);
    struct rate_key *e = k->buckets[hash & (k->nbuckets - 1)];
    while (e && !is_asked(e, hash, ask))
        e = e->next;
    if (e == NULL) {
        make_room(k, max);
        if (k->count >= k->nbuckets)
            double_buckets(k);
        e = key_new(hash, ask);
        e->next = k->buckets[hash & (k->nbuckets - 1)];
        k->buckets[hash & (k->nbuckets - 1)] = e;
        k->count++;
    }
    list_remove(&e->used);
    list_append(&k->used, &e->used);
    return e;
}

/* --- its counters --- */

static struct rate_ref *add_ref(struct rate_key *e, const struct rate_limit *limit)
{
    e->refs = xrealloc(e->refs, (e->nrefs + 1) * sizeof(*e->refs));
    struct rate_ref *ref = &e->refs[e->nrefs++];
    *ref = (struct rate_ref){.limit = *limit};
    return ref;
}

static void add_policy(struct rate_key *e, const struct rate_policy *p)
{
    struct rate_ref *ref = add_ref(e, &p->limit);
    ref->key = p->counted == RATE_BY_KEY     ? e->name
               : p->counted == RATE_BY_OWNER ? e->owner
                                             : (struct str){"", 0};
    ref->shadow = p->shadow;
    ref->away = p->away;
    ref->away_percent = p->away_percent;
    ref->label = p->label;
    snprintf(ref->rule, sizeof(ref->rule), "%s", p->name);
    /* What a shadow policy would have denied is counted request by request. */
    e->borrow = e->borrow && p->borrow && !p->shadow;
}

static void add_named_limit(struct rate_key *e)
{
    struct rate_limit limit;
    if (!rate_limit_set(&limit, e->quota, 1000000 * e->period_ms, e->burst))
        return;
    struct rate_ref *ref = add_ref(e, &limit);
    ref->key = e->name;
    ref->away = RATE_AWAY_DENY;
    snprintf(ref->rule, sizeof(ref->rule), "=%" PRId64 "/%" PRId64 "/%" PRId64, e->quota,
             e->period_ms, e->burst);
}

static bool is_for(const struct rate_policy *p, const struct rate_key *e)
{
    return p->use == e->use &&
           (e->policy.n > 0 ? str_is(e->policy, p->name) : rate_policy_matches(p, e->name));
}

void rate_key_resolve(struct rate_key *e, const struct rate_policies *policies)
{
    if (e->epoch == policies->epoch)
        return;
    e->nrefs = 0;
    e->borrow = true;
    memset(e->pools, 0, sizeof(e->pools));
    e->seen_us = e->pause_until_us = 0;
    e->epoch = policies->epoch;
    e->cost_max = RATE_PERMITS_MAX;
    if (e->quota > 0)
        add_named_limit(e);
    else
        for (size_t i = 0; i < policies->n; i++)
            if (is_for(&policies->list[i], e))
                add_policy(e, &policies->list[i]);
    for (size_t i = 0; i < e->nrefs; i++)
        if (!e->refs[i].shadow && e->refs[i].limit.burst < e->cost_max)
            e->cost_max = e->refs[i].limit.burst;
}

/* --- permits in advance --- */

int64_t rate_key_pool(struct rate_key *e, int64_t now_us)
{
    int64_t permits = 0;
    for (int i = 0; i < RATE_POOLS; i++)
        if (e->pools[i].until_us > now_us)
            permits += e->pools[i].permits;
    return permits;
}

/* The permits of a pool, which is empty then. */
static int64_t empty_pool(struct rate_key *e, int i)
{
    int64_t permits = e->pools[i].permits;
    e->pools[i].permits = 0;
    return permits;
}

int64_t rate_key_pool_add(struct rate_key *e, int64_t permits, int64_t until_us, int64_t now_us)
{
    int64_t lost = 0;
    for (int i = 0; i < RATE_POOLS; i++)
        if (e->pools[i].until_us <= now_us)
            lost += empty_pool(e, i);
    if (until_us <= now_us)
        return lost + permits;
    if (permits == 0)
        return lost;
    if (e->pools[1].permits > 0) {
        lost += empty_pool(e, 0);
        e->pools[0] = e->pools[1];
    }
    e->pools[1].permits = permits;
    e->pools[1].until_us = until_us;
    return lost;
}

bool rate_key_take(struct rate_key *e, int64_t permits, int64_t now_us)
{
    if (rate_key_pool(e, now_us) < permits)
        return false;
    for (int i = 0; i < RATE_POOLS && permits > 0; i++) {
        if (e->pools[i].until_us <= now_us)
            continue;
        int64_t n = e->pools[i].permits < permits ? e->pools[i].permits : permits;
        e->pools[i].permits -= n;
        permits -= n;
    }
    return true;
}

bool rate_key_is_low(struct rate_key *e, int64_t now_us, int64_t latency_us)
{
    if (!e->borrow || e->life_us == 0 || e->pause_until_us > now_us)
        return false;
    int64_t low = LOW_MORE + rate_demand_per_s(&e->demand, now_us) * 2 * latency_us / 1000000;
    if (low > e->advance / 3)
        low = e->advance / 3;
    return rate_key_pool(e, now_us) <= low || e->pools[1].until_us - now_us < e->life_us / 4;
}

/* --- decisions without the database --- */

static int64_t estimated_ns(const struct rate_key *e, int64_t now_us)
{
    return e->seen_ns + 1000 * (now_us - e->seen_us);
}

int64_t rate_key_denied_us(const struct rate_key *e, int64_t now_us, int64_t cost)
{
    int64_t longest_us = 0;
    if (e->seen_us == 0)
        return 0;
    for (size_t i = 0; i < e->nrefs; i++) {
        const struct rate_ref *ref = &e->refs[i];
        if (ref->shadow)
            continue;
        int64_t ns = rate_retry_ns(&ref->limit, ref->tat_ns, estimated_ns(e, now_us), cost);
        if ((ns + 999) / 1000 > longest_us)
            longest_us = (ns + 999) / 1000;
    }
    if (e->pause_until_us - now_us > longest_us)
        longest_us = e->pause_until_us - now_us;
    return longest_us;
}

/* The part of a limit that a daemon gives by itself. */
static struct rate_limit part_of(const struct rate_ref *ref)
{
    struct rate_limit part;
    int64_t burst = ref->limit.burst * ref->away_percent / 100;
    rate_limit_set(&part, ref->limit.quota, ref->limit.period_ns * 100 / ref->away_percent,
                   burst > 0 ? burst : 1);
    return part;
}

bool rate_key_decide_away(struct rate_key *e, int64_t now_us, int64_t cost)
{
    for (size_t i = 0; i < e->nrefs; i++) {
        const struct rate_ref *ref = &e->refs[i];
        if (ref->shadow || ref->away == RATE_AWAY_ALLOW)
            continue;
        if (ref->away == RATE_AWAY_DENY)
            return false;
        struct rate_limit part = part_of(ref);
        if (rate_retry_ns(&part, ref->local_tat_ns, 1000 * now_us, cost) != 0)
            return false;
    }
    for (size_t i = 0; i < e->nrefs; i++) {
        struct rate_ref *ref = &e->refs[i];
        struct rate_limit part = part_of(ref);
        if (!ref->shadow && ref->away == RATE_AWAY_LOCAL)
            rate_charge(&part, &ref->local_tat_ns, 1000 * now_us, cost);
    }
    return true;
}

/* --- what replies say --- */

void rate_key_describe(struct rate_key *e, int64_t now_us, struct rate_answer *a)
{
    int64_t now_ns = estimated_ns(e, now_us);
    const struct rate_ref *least = NULL;
    int64_t remaining = 0;
    for (size_t i = 0; i < e->nrefs; i++) {
        const struct rate_ref *ref = &e->refs[i];
        int64_t left =
            e->seen_us == 0 ? ref->limit.burst : rate_remaining(&ref->limit, ref->tat_ns, now_ns);
        if (least == NULL || (least->shadow && !ref->shadow) ||
            (least->shadow == ref->shadow && left < remaining)) {
            least = ref;
            remaining = left;
        }
    }
    if (least == NULL)
        return;
    int64_t used_ns = e->seen_us != 0 && least->tat_ns > now_ns ? least->tat_ns - now_ns : 0;
    int64_t with_pool = remaining + rate_key_pool(e, now_us);
    a->limit = least->limit.quota;
    a->burst = least->limit.burst;
    a->remaining = with_pool < a->burst ? with_pool : a->burst;
    a->reset_ms = (used_ns + 999999) / 1000000;
    a->policy = least->rule;
}
