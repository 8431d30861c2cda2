#ifndef PGLOCKD_SERVICE_RATE_MATH_H
#define PGLOCKD_SERVICE_RATE_MATH_H

/*
 * The arithmetic of rate limits: the generic cell rate algorithm in integers, and how much of a hot
 * key is taken in advance. Pure. pglockd.rate_cost_ns() and its kin do the same in the database.
 */

#include <stdbool.h>
#include <stdint.h>

enum {
    RATE_PERMITS_MAX = 1000000000, /* of a quota, a burst, a cost */
    RATE_LIFE_MAX_US = 400000,     /* how long permits may be kept */
};
#define RATE_PERIOD_MAX_MS (INT64_C(366) * 86400 * 1000)
#define RATE_FULL_MAX_NS (INT64_C(3650) * 86400 * 1000000000)

/* quota permits for each period, at most burst of them at once. */
struct rate_limit {
    int64_t quota;
    int64_t period_ns;
    int64_t burst;
    int64_t burst_ns; /* what the burst is worth: until all of it has come back */
};

/*
 * quota and burst from 1 to RATE_PERMITS_MAX, period_ns up to RATE_PERIOD_MAX_MS. False where the
 * burst would take more than RATE_FULL_MAX_NS to come back.
 */
bool rate_limit_set(struct rate_limit *l, int64_t quota, int64_t period_ns, int64_t burst);

/* How far permits move a counter, rounded up; permits up to the burst. */
int64_t rate_cost_ns(const struct rate_limit *l, int64_t permits);
/* How many permits fit into a room, 0 where it is negative. */
int64_t rate_fit(const struct rate_limit *l, int64_t room_ns);
/* How many permits could be taken at now_ns of a counter at tat_ns. */
int64_t rate_remaining(const struct rate_limit *l, int64_t tat_ns, int64_t now_ns);
/* How long until permits fit, 0 where they do; -1: never, they are more than the burst. */
int64_t rate_retry_ns(const struct rate_limit *l, int64_t tat_ns, int64_t now_ns, int64_t permits);
/* Charges a counter if permits fit; false where they do not. */
bool rate_charge(const struct rate_limit *l, int64_t *tat_ns, int64_t now_ns, int64_t permits);

/* How many permits a second are asked for, by a mean over some 100 ms. */
struct rate_demand {
    int64_t since_us; /* begin of the time that is being counted */
    int64_t permits;  /* asked for since then */
    int64_t requests; /* by so many */
    int64_t per_s;    /* the mean before */
};

void rate_demand_add(struct rate_demand *d, int64_t now_us, int64_t permits);
int64_t rate_demand_per_s(const struct rate_demand *d, int64_t now_us);

/*
 * How long permits may be kept that are taken in advance. A charge in advance keeps that much of
 * the burst out of use for as long, so it is short beside the time that the burst takes to come
 * back: the shorter the more of the limit this demand is. 0: take none in advance.
 */
int64_t rate_life_us(const struct rate_limit *l, int64_t demand_per_s);

/*
 * How many permits to take in advance, to last for most of life_us; never more than an eighth of
 * the burst, so that one daemon does not take all of it.
 */
int64_t rate_advance(const struct rate_limit *l, int64_t demand_per_s, int64_t life_us);

/*
 * How long to leave a key alone of which not all was had that was asked for. random is any number:
 * daemons that share a key must not ask in a fixed order, or one would always find what came since
 * the other. In the mean 20 ms, less where the burst comes back sooner.
 */
int64_t rate_pause_us(const struct rate_limit *l, uint32_t random);

#endif
