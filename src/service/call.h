#ifndef PGLOCKD_SERVICE_CALL_H
#define PGLOCKD_SERVICE_CALL_H

/*
 * One request of a client to the lock service: what it asks, and how it ended. Made by call_new(),
 * given its arguments, started with one of the functions of locks.h, and answered exactly once by
 * answered(), unless it is abandoned first. The service frees it after the answer.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "pg/op.h"

struct service;

/* How a call ended, seen from the client. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_BUSY,    /* no wait was asked: held by others */
    OUTCOME_QUIET,   /* no wait was asked: nothing is granted for now */
    OUTCOME_GUARDED, /* no wait was asked: somebody has kept the guard for long */
    OUTCOME_TIMEOUT, /* the wait ran out */
    OUTCOME_LOST,   /* that token holds no longer; of a LOCK of something new: its session has ended
                     */
    OUTCOME_DENIED, /* another identity holds it */
    OUTCOME_FENCED, /* a transaction keeps it by assert_fence(): surely not done */
    OUTCOME_CANCELLED,      /* the waiting was ended at the client's wish */
    OUTCOME_SUPERSEDED,     /* another request with the same id took the place over */
    OUTCOME_ID_MISMATCH,    /* the id was used with other arguments */
    OUTCOME_LIMIT_MISMATCH, /* the semaphore has another limit */
    OUTCOME_DEADLOCK, /* waiting for ever was refused; deadlock_cycle() of the database says why */
    OUTCOME_TOO_MANY, /* the bound on waiters is reached */
    OUTCOME_TOO_MANY_OF_OWNER,
    OUTCOME_TOO_MANY_OF_RESOURCE,
    OUTCOME_TOO_MANY_LEASES, /* of its owner */
    OUTCOME_DRAINING,        /* surely not done: the daemon is stopping */
    OUTCOME_UNAVAILABLE,     /* surely not done */
    OUTCOME_UNKNOWN,         /* done or not: asking again could not tell */
    OUTCOME_INTERNAL,        /* the database refused it: a fault of pglockd or its schema */
    OUTCOMES
};

enum call_state {
    CALL_NEW,
    CALL_SUBMITTED,  /* its operation is with a lane */
    CALL_PAUSED,     /* the guard was held elsewhere: tried again soon */
    CALL_WAITING,    /* in the queue of its resource */
    CALL_WITHDRAWING /* its waiter is being taken out of the queue */
};

enum call_end {
    END_NONE,
    END_TIMEOUT,
    END_CANCEL,
    END_INPUT,
    END_DRAIN,
    END_SESSION,  /* its session has ended */
    END_DEADLOCK, /* it would have waited for ever */
    END_LEASE     /* the lease whose mode was to change has ended */
};

struct call {
    struct op op; /* op.request_id is the call's id */
    struct service *service;
    enum call_state state;
    bool abandoned;      /* nobody waits for the answer: what it gets is given back */
    bool answered_early; /* answered as unknown while its operation was with the lane */
    enum call_end end;   /* why its wait is being ended */
    int64_t granted; /* token of a grant that came while an operation was with the lane; 0: none */
    int64_t granted_us;  /* and when the batch that made it was sent */
    int64_t wait_ms;     /* 0: do not wait; DURATION_INF: for ever */
    int64_t received_us; /* clock_mono_us() when its line was read */
    int64_t waiting_since_us;
    ev_timer timer;            /* end of the wait */
    struct places *places;     /* in queues that are limited; NULL: none */
    enum outcome may_not_wait; /* how it ends where it would have to, though it asked to */
    struct list at;            /* in the service's paused or waiters */
    int64_t ticket;            /* place in the queue, while it waits */
    /* The answer. */
    enum outcome outcome;
    bool repeated;     /* an earlier LOCK with the same id has got this grant */
    int64_t token;     /* fencing token */
    int64_t ttl_ms;    /* of the lease, from the decision on; OP_TTL_NONE: it has none */
    int64_t waited_ms; /* never more than passed from reading the line to the decision */
    int64_t held_ms;
    bool bound; /* of a renewal: the lease is bound to the connection now */
    void (*answered)(struct call *call);
    void *user;
    char *text; /* where op's members and strings lie when they do not fit in small */
    _Alignas(8) char small[160];
};

/*
 * The texts are copied; note and id with p NULL are not given. The resource is that of the first
 * member where there are members.
 */
struct call_texts {
    struct str resource;
    const struct op_member *members;
    size_t nmembers;
    struct str identity;
    struct str owner;
    struct str note;
    struct str id;
};

struct call *call_new(struct service *s, enum op_kind kind, uint64_t conn_id,
                      const struct call_texts *texts);

#endif
