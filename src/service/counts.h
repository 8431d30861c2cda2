#ifndef PGLOCKD_SERVICE_COUNTS_H
#define PGLOCKD_SERVICE_COUNTS_H

/* Counters that several files of the service and of the server add to, and their labels. */

#include <stdint.h>

#include "base/metrics.h"
#include "service/call.h"

/* Why a lease ended: the type pglockd.end_reason, the one list for replies, events and metrics. */
#define LEASE_ENDS(X)                                                                              \
    X(RELEASED, "released")                                                                        \
    X(EXPIRED, "expired")                                                                          \
    X(FORCED, "forced")                                                                            \
    X(CONNECTION_CLOSED, "connection_closed")                                                      \
    X(SESSION_CLOSED, "session_closed")                                                            \
    X(SUPERSEDED, "superseded")                                                                    \
    X(FAILOVER, "failover")                                                                        \
    X(UNKNOWN, "unknown")

enum lease_end {
#define X(id, name) LEASE_##id,
    LEASE_ENDS(X)
#undef X
        LEASE_END_COUNT
};

/* Who removed a lease that had run out. */
enum reclaimer { RECLAIMER_JANITOR, RECLAIMER_LOCK, RECLAIMER_COUNT };

/* What was renewed. */
enum renewed { RENEWED_LEASE, RENEWED_SESSION, RENEWED_COUNT };

/*
 * Limits whose meeting refuses a request, or has reading pause. Those that close or refuse a
 * connection are counted by its reason.
 */
#define LIMITS(X)                                                                                  \
    X(LINE_BYTES, "line_max")                                                                      \
    X(INFLIGHT, "max_inflight")                                                                    \
    X(INPUT, "max_input")                                                                          \
    X(TTL_MIN, "ttl_min")                                                                          \
    X(TTL_MAX, "ttl_max")                                                                          \
    X(SET, "set_max")                                                                              \
    X(LIST, "list_max")                                                                            \
    X(WATCHES, "max_watches")                                                                      \
    X(REQUEST_RATE, "max_request_rate")                                                            \
    X(REQUEST_RATE_PER_NAME, "max_request_rate_per_name")                                          \
    X(WAITERS, "max_waiters")                                                                      \
    X(WAITERS_PER_RESOURCE, "max_waiters_per_resource")                                            \
    X(WAITERS_PER_OWNER, "max_waiters_per_owner")                                                  \
    X(LEASES_PER_OWNER, "max_leases_per_owner")                                                    \
    X(SESSIONS_PER_OWNER, "max_sessions_per_owner")

enum limit {
#define X(id, name) LIMIT_##id,
    LIMITS(X)
#undef X
        LIMIT_COUNT
};

static inline void count_limit_met(enum limit which)
{
    metric_add1(M_LIMITS_MET, which, 1);
}

static inline void count_ended(enum lease_end why, int64_t leases)
{
    metric_add1(M_LEASES_ENDED, why, leases);
}

/* Leases that had expired: they count as ended, too. */
void count_reclaimed(enum reclaimer by, int64_t leases);

/* A renewal that was answered. */
void count_renewal(enum renewed what, enum outcome outcome);

void counts_register_metrics(void);

#endif
