#ifndef PGLOCKD_SERVICE_RATE_H
#define PGLOCKD_SERVICE_RATE_H

/*
 * Rate limits: permits for keys, decided by counters in the database that all daemons and SQL
 * share. What can be answered from memory is answered at once: permits that were taken in advance,
 * and denials until the time that they named.
 */

#include "service/rate_policy.h"
#include "service/service.h"

/* A request. The strings are copied where they are kept. */
struct rate_ask {
    enum rate_use use;
    struct str key;                  /* for RATE; the resource for LOCK */
    struct str owner;                /* for LOCK; else empty */
    struct str policy;               /* named by the request; n 0: none */
    int64_t quota, period_ms, burst; /* named by the request; quota 0: none */
    int64_t cost;
    bool peek;     /* look only */
    struct str id; /* p NULL: none */
    struct str identity;
    int64_t received_us; /* clock_mono_us() after its line was read */
};

enum rate_result {
    RATE_ALLOWED,
    RATE_DENIED,
    RATE_NO_POLICY,   /* none matches, none has that name; for LOCK never */
    RATE_NEVER,       /* more than the burst: it can never pass */
    RATE_ID_MISMATCH, /* the id was used with other arguments */
    RATE_INTERNAL,    /* the database refused it: a fault of pglockd or its schema */
};

enum rate_source { RATE_DATABASE, RATE_LOCAL, RATE_FALLBACK, RATE_SOURCES };

struct rate_answer {
    enum rate_result result;
    enum rate_source source;
    int64_t limit;
    int64_t burst;
    int64_t remaining;
    int64_t reset_ms;
    int64_t retry_after_ms; /* 0 where it was allowed */
    const char
        *policy;   /* or the limit as =LIMIT/MS/BURST; valid until the service is asked again */
    bool repeated; /* an earlier request with the same id was allowed */
    bool over;     /* a shadow policy would have denied it */
};

struct rates;
struct rate_call;

struct rates *service_rates(struct service *s);

/* Are there policies for LOCK? */
bool rates_limit_locks(const struct rates *r);

/*
 * Asks for permits. NULL: *answer is the answer. Else answered() is called once, later, unless the
 * call is abandoned before.
 */
struct rate_call *rates_ask(struct rates *r, const struct rate_ask *ask, struct rate_answer *answer,
                            void (*answered)(void *user, const struct rate_answer *answer),
                            void *user);
/* The client is gone: what it is granted is lost. */
void rates_abandon(struct rate_call *call);
/* Gives back what ask was allowed and what was not used; not where the answer was RATE_FALLBACK. */
void rates_refund(struct rates *r, const struct rate_ask *ask);

#endif
