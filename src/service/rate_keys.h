#ifndef PGLOCKD_SERVICE_RATE_KEYS_H
#define PGLOCKD_SERVICE_RATE_KEYS_H

/*
 * What a daemon remembers of the keys that are asked about: which counters a key has, where they
 * stood when the database decided last, permits that were taken in advance. Bounded: who was not
 * asked about for longest is forgotten, and nothing but speed is lost by that. Pure: times are
 * passed in; clock_mono_us() where the unit is us.
 */

#include "base/list.h"
#include "service/rate.h"
#include "service/rate_policy.h"

enum { RATE_RULE_MAX = 72, RATE_POOLS = 2 };

/* A counter of a key, as the database knows it. */
struct rate_ref {
    struct rate_limit limit;
    int64_t tat_ns;       /* at the last decision, on the database's clock */
    int64_t local_tat_ns; /* of what this daemon gives by itself while the database is away */
    struct str key;
    bool shadow;
    enum rate_away away;
    int away_percent;
    unsigned label;
    char rule[RATE_RULE_MAX];
};

enum rate_place { RATE_IDLE, RATE_DIRTY, RATE_PAUSED, RATE_SENT };

struct rate_key {
    struct rate_key *next; /* in its bucket */
    struct list used;      /* in the order of use */
    struct list at;     /* where it waits for the next batch, or for its counters to be unlocked */
    struct list shorts; /* where it waits to ask again, short of permits */
    enum rate_place place;
    struct list calls; /* that wait for the next batch */
    int64_t epoch;     /* of the policies by which its counters were found; 0: to be done */
    struct rate_ref *refs;
    size_t nrefs;
    bool borrow;      /* permits may be taken in advance */
    int64_t cost_max; /* what can ever pass: the least burst */
    struct {
        int64_t permits;
        int64_t until_us;
    } pools[RATE_POOLS]; /* in advance; the one that ends first comes first */
    struct rate_demand demand;
    int64_t life_us;        /* of the last charge in advance */
    int64_t advance;        /* permits that it wanted in advance at the last charge */
    bool missed;            /* a request found too little since the last decision */
    int64_t again_us;       /* when it asks again by itself */
    int locked;             /* how often in a row its counters were locked by others */
    int64_t pause_until_us; /* it was short: not to be asked for before */
    int64_t seen_us;        /* when the last decision came; 0: none */
    int64_t seen_ns;        /* and what the database's clock said */
    /* What it is: see struct rate_ask. */
    uint32_t hash;
    enum rate_use use;
    int64_t quota, period_ms, burst;
    struct str name, owner, policy; /* in text */
    char text[];
};

struct rate_keys {
    struct rate_key **buckets;
    size_t nbuckets; /* a power of two */
    size_t count;
    uint32_t seed;
    struct list used; /* least recently first */
};

void rate_keys_init(struct rate_keys *k, uint32_t seed);
void rate_keys_free(struct rate_keys *k);
/*
 * The key that is asked about, made where it is not there. max bounds how many are kept; those that
 * have something on the way stay all the same.
 */
struct rate_key *rate_keys_get(struct rate_keys *k, const struct rate_ask *ask, size_t max);

/* Finds the key's counters where the policies are others than when it was done last. */
void rate_key_resolve(struct rate_key *e, const struct rate_policies *policies);

/* Permits that it has in advance. */
int64_t rate_key_pool(struct rate_key *e, int64_t now_us);
/* Adds permits to be used before until_us; returns how many are lost, because their time is over.
 */
int64_t rate_key_pool_add(struct rate_key *e, int64_t permits, int64_t until_us, int64_t now_us);
/* Takes permits from the pool, all or none. */
bool rate_key_take(struct rate_key *e, int64_t permits, int64_t now_us);
/* Should more be fetched, before they run out or end? latency_us: how long that takes. */
bool rate_key_is_low(struct rate_key *e, int64_t now_us, int64_t latency_us);

/* What is known to be denied: how long for, in microseconds; 0: nothing is known. */
int64_t rate_key_denied_us(const struct rate_key *e, int64_t now_us, int64_t cost);
/* Decides as the policies say for the time without a database. */
bool rate_key_decide_away(struct rate_key *e, int64_t now_us, int64_t cost);

/* Fills in limit, remaining, reset and policy: those of the counter that has least left. */
void rate_key_describe(struct rate_key *e, int64_t now_us, struct rate_answer *a);

#endif
