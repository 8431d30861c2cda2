#ifndef PGLOCKD_PG_OP_H
#define PGLOCKD_PG_OP_H

/*
 * One operation on a resource that a lane puts into a batch. The service makes it and owns it; a
 * lane borrows it from lane_submit() until its done() is called or lane_remove() took it back.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/str.h"

/* In the order in which a batch carries them out: what frees comes before what takes. */
enum op_kind {
    OP_COLLECT,  /* accept the grants that other daemons made for this one; no resource */
    OP_RESYNC,   /* put a waiter back into the queue after its loss (number: ticket) */
    OP_WITHDRAW, /* take a waiter out of the queue (number: ticket, request_id, keep_ms) */
    OP_RELEASE,  /* end a lease (number: token) */
    OP_PROMOTE,  /* grant what can be granted of a resource */
    OP_RENEW,    /* set a lease's remaining time (number: token, ttl_ms) */
    OP_ACQUIRE,  /* grant a lease or queue a waiter */
    OP_CLAIM,    /* the same for members: several resources, trees, a semaphore */
    OP_CHANGE,   /* change a lease's mode (number: token) */
    OP_KINDS
};

/* OP_TTL_NONE: what is said of a lease of pglockd.hold(). */
enum { OP_KEEP_NONE = -1, OP_TTL_SAME = -1, OP_TTL_NONE = -1 };

/* The TTL of a lease that is bound to a session: one that never runs out, 285 years. */
#define OP_TTL_SESSION INT64_C(9000000000000)

/* How the database answered; the letters are those of the batch functions in sql/functions. */
enum op_status {
    OP_DONE = 'g',        /* granted, released, renewed, withdrawn */
    OP_AGAIN = 'a',       /* granted before (number: token) */
    OP_WAITS = 'w',       /* in the queue (number: ticket) */
    OP_WAITS_TELL = 'W',  /* the same, and a holder wants to hear of it */
    OP_KEPT = 'k',        /* withdrawn, its place kept */
    OP_BUSY = 'b',        /* somebody holds it */
    OP_QUIET = 'q',       /* nothing is granted for now */
    OP_GUARDED = 'r',     /* the guard is held elsewhere: nothing was done */
    OP_FENCED = 'f',      /* a transaction keeps the lease by assert_fence(): nothing was done */
    OP_LOST = 'l',        /* no such lease, no such waiter */
    OP_NO_SESSION = 's',  /* the session that it was to be bound to has ended */
    OP_DENIED = 'd',      /* another identity holds it */
    OP_MISMATCH = 'm',    /* the id was used with other arguments */
    OP_DEADLOCK = 'D',    /* refused: it would wait for ever */
    OP_OTHER_LIMIT = 'n', /* the semaphore has another limit */
    OP_TOO_MANY = 'o',    /* its owner holds and waits for as much as it may */
    OP_BOUND = 'G',       /* renewed, and bound to the connection from now on */
    OP_UNAVAILABLE = 'U', /* surely not done: the database could not be asked, or not again */
    OP_UNKNOWN = '?',     /* done or not: asking again could not tell */
    OP_FAILED = 'F',      /* the server refused it, see the log: not done */
};

enum op_place { OP_IDLE, OP_QUEUED, OP_SENT };

/* One resource of a claim, and what it was granted. */
struct op_member {
    struct str resource;
    bool exclusive;
    bool tree;
    int64_t token; /* 0: none yet */
};

struct op {
    struct list link;
    enum op_kind kind;
    enum op_place place;
    bool exclusive;
    bool wait;
    bool lazy;    /* it will only join a queue: it may wait a moment for others to go with */
    bool patient; /* of the daemon itself: lane_expire() leaves it alone */
    uint32_t batch_order; /* the batch's */
    struct turn *turn;    /* the lane's queue's, as is held */
    bool held;
    bool was_unknown;    /* sent before over a connection that was lost */
    bool unwanted;       /* nobody waits for this LOCK or RENEW any more: it is not sent late */
    bool bound;          /* the lease ends with its connection */
    struct str resource; /* of a claim the first member's */
    struct op_member *members; /* of a claim, and of what it becomes; the owner's */
    size_t nmembers;           /* 0: no claim, the resource alone */
    int32_t slots;             /* of the semaphore; 0: it is none */
    int32_t weight;
    int32_t leases_max; /* its owner may hold and wait for so many; 0: any number */
    struct str owner;
    struct str identity;
    struct str note; /* p NULL: none */
    struct str id;   /* p NULL: none */
    int64_t session; /* that the lease is bound to; 0: none */
    int64_t ttl_ms;
    int64_t grace_ms; /* 0: none */
    int64_t keep_ms;
    int64_t number;      /* token or ticket, in and out */
    uint64_t request_id; /* by which a waiter is found again */
    int64_t closed_conn; /* OP_RELEASE: only what is bound to this connection, which has closed */
    uint64_t granted_to; /* OP_RELEASE: only what no other request has been given since; 0: any */
    uint64_t conn_id;    /* operations of one connection keep their order; 0: of none */
    int64_t queued_us;   /* clock_mono_us() at lane_submit() */
    uint64_t order;      /* of lane_submit() */
    int64_t sent_number; /* number as it was sent */
    int64_t upgrade;     /* token of the lease whose mode is to change; 0: none */
    int64_t sent_us;     /* clock_mono_us() when its batch was sent */
    enum op_status status;
    /* The answer is in status and number. Must not destroy the lane; may submit operations. */
    void (*done)(struct op *op);
};

/* How many resources it is about, and which: its members' or its own. */
static inline size_t op_resources(const struct op *op)
{
    return op->nmembers > 0 ? op->nmembers : 1;
}

static inline struct str op_resource(const struct op *op, size_t i)
{
    return op->nmembers > 0 ? op->members[i].resource : op->resource;
}

#endif
