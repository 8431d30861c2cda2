#include "service/rate_math.h"

enum {
    WINDOW_US = 50000,      /* of the demand */
    WINDOW_SHORT_US = 5000, /* the least that says something */
    RISE_REQUESTS = 8,
    FORGET_US = 1000000, /* a mean that is older says nothing */
    LIFE_MIN_US = 5000,  /* shorter is not worth a charge of its own */
    PAUSE_US = 20000,
    ADVANCE_MIN = 2,
};

bool rate_limit_set(struct rate_limit *l, int64_t quota, int64_t period_ns, int64_t burst)
{
    __int128 full_ns = (__int128)burst * period_ns / quota;
    *l = (struct rate_limit){.quota = quota, .period_ns = period_ns, .burst = burst};
    if (full_ns > RATE_FULL_MAX_NS)
        return false;
    l->burst_ns = rate_cost_ns(l, burst);
    return true;
}

int64_t rate_cost_ns(const struct rate_limit *l, int64_t permits)
{
    __int128 product = (__int128)permits * l->period_ns;
    return (int64_t)((product + l->quota - 1) / l->quota);
}

int64_t rate_fit(const struct rate_limit *l, int64_t room_ns)
{
    if (room_ns <= 0)
        return 0;
    if (room_ns <= INT64_MAX / l->quota)
        return room_ns * l->quota / l->period_ns;
    return (int64_t)((__int128)room_ns * l->quota / l->period_ns);
}

static int64_t room_ns(const struct rate_limit *l, int64_t tat_ns, int64_t now_ns)
{
    return l->burst_ns - (tat_ns > now_ns ? tat_ns - now_ns : 0);
}

int64_t rate_remaining(const struct rate_limit *l, int64_t tat_ns, int64_t now_ns)
{
    return rate_fit(l, room_ns(l, tat_ns, now_ns));
}

int64_t rate_retry_ns(const struct rate_limit *l, int64_t tat_ns, int64_t now_ns, int64_t permits)
{
    if (permits > l->burst)
        return -1;
    int64_t missing_ns = rate_cost_ns(l, permits) - room_ns(l, tat_ns, now_ns);
    return missing_ns > 0 ? missing_ns : 0;
}

bool rate_charge(const struct rate_limit *l, int64_t *tat_ns, int64_t now_ns, int64_t permits)
{
    if (rate_retry_ns(l, *tat_ns, now_ns, permits) != 0)
        return false;
    *tat_ns = (*tat_ns > now_ns ? *tat_ns : now_ns) + rate_cost_ns(l, permits);
    return true;
}

void rate_demand_add(struct rate_demand *d, int64_t now_us, int64_t permits)
{
    if (now_us - d->since_us >= WINDOW_US) {
        d->per_s = rate_demand_per_s(d, now_us);
        d->since_us = now_us;
        d->permits = d->requests = 0;
    }
    d->permits += permits;
    d->requests++;
}

int64_t rate_demand_per_s(const struct rate_demand *d, int64_t now_us)
{
    int64_t elapsed_us = now_us - d->since_us;
    int64_t counted_us = elapsed_us > WINDOW_SHORT_US ? elapsed_us : WINDOW_SHORT_US;
    /* A single request is no demand that goes on. */
    int64_t now_per_s = d->requests > 1 ? d->permits * 1000000 / counted_us : 0;
    if (elapsed_us >= FORGET_US)
        return now_per_s;
    if (elapsed_us >= WINDOW_US)
        return (d->per_s + now_per_s) / 2;
    /* A window that has just begun may show a rise, by many requests, and never a fall. */
    return d->requests >= RISE_REQUESTS && now_per_s > d->per_s ? now_per_s : d->per_s;
}

int64_t rate_life_us(const struct rate_limit *l, int64_t demand_per_s)
{
    int64_t limit_per_s = rate_fit(l, 1000000000);
    int64_t part = demand_per_s < limit_per_s / 1024 ? 2
                   : demand_per_s < limit_per_s / 64 ? 4
                   : demand_per_s < limit_per_s / 4  ? 10
                                                     : 20;
    int64_t life_us = l->burst_ns / 1000 / part;
    if (life_us > RATE_LIFE_MAX_US)
        life_us = RATE_LIFE_MAX_US;
    return life_us < LIFE_MIN_US ? 0 : life_us;
}

int64_t rate_advance(const struct rate_limit *l, int64_t demand_per_s, int64_t life_us)
{
    int64_t permits = demand_per_s * (life_us / 1000) * 9 / 10000;
    int64_t most = l->burst / 8;
    if (permits > most)
        permits = most;
    return permits < ADVANCE_MIN ? 0 : permits;
}

int64_t rate_pause_us(const struct rate_limit *l, uint32_t random)
{
    int64_t mean_us = l->burst_ns / 1000 / 4;
    if (mean_us > PAUSE_US)
        mean_us = PAUSE_US;
    return mean_us / 2 + mean_us * (random & 1023) / 1024;
}
