#include "service/counts.h"

enum renewal_end { RENEWAL_DONE, RENEWAL_LOST, RENEWAL_DENIED, RENEWAL_FAILED, RENEWAL_END_COUNT };

void counts_register_metrics(void)
{
    static const char *const ends[LEASE_END_COUNT] = {
#define X(id, name) [LEASE_##id] = name,
        LEASE_ENDS(X)
#undef X
    };
    static const char *const reclaimers[RECLAIMER_COUNT] = {
        [RECLAIMER_JANITOR] = "janitor",
        [RECLAIMER_LOCK] = "lock",
    };
    static const char *const renewals[RENEWED_COUNT * RENEWAL_END_COUNT] = {
        "lease,renewed",   "lease,lost",   "lease,denied",   "lease,failed",
        "session,renewed", "session,lost", "session,denied", "session,failed",
    };
    static const char *const limits[LIMIT_COUNT] = {
#define X(id, name) [LIMIT_##id] = name,
        LIMITS(X)
#undef X
    };
    metrics_label_names(LABEL_LIMIT, limits, LIMIT_COUNT);
    metrics_label_names(LABEL_LEASE_END, ends, LEASE_END_COUNT);
    metrics_label_names(LABEL_RECLAIM, reclaimers, RECLAIMER_COUNT);
    metrics_label_names(LABEL_RENEWAL, renewals, RENEWED_COUNT * RENEWAL_END_COUNT);
}

void count_reclaimed(enum reclaimer by, int64_t leases)
{
    metric_add1(M_LEASES_RECLAIMED, by, leases);
    count_ended(LEASE_EXPIRED, leases);
}

static enum renewal_end renewal_end(enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_OK:
        return RENEWAL_DONE;
    case OUTCOME_LOST:
        return RENEWAL_LOST;
    case OUTCOME_DENIED:
        return RENEWAL_DENIED;
    default:
        return RENEWAL_FAILED;
    }
}

void count_renewal(enum renewed what, enum outcome outcome)
{
    metric_add1(M_RENEWALS, what * RENEWAL_END_COUNT + renewal_end(outcome), 1);
}
