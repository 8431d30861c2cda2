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
    OP_KINDS
};

enum { OP_KEEP_NONE = -1, OP_TTL_SAME = -1 };

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
    OP_LOST = 'l',        /* no such lease, no such waiter */
    OP_DENIED = 'd',      /* another identity holds it */
    OP_MISMATCH = 'm',    /* the id was used with other arguments */
    OP_UNAVAILABLE = 'U', /* surely not done: the database could not be asked */
    OP_UNKNOWN = '?',     /* done or not: asking again could not tell */
    OP_FAILED = 'F',      /* the server refused it, see the log: not done */
};

enum op_place { OP_IDLE, OP_QUEUED, OP_SENT };

struct op {
    struct list link;
    enum op_kind kind;
    enum op_place place;
    bool exclusive;
    bool wait;
    bool lazy;    /* it will only join a queue: it may wait a moment for others to go with */
    bool patient; /* of the daemon itself: lane_expire() leaves it alone */
    uint32_t batch_order; /* the batch's */
    bool was_unknown;     /* sent before over a connection that was lost */
    struct str resource;
    struct str owner;
    struct str note; /* p NULL: none */
    struct str id;   /* p NULL: none */
    int64_t session; /* that the lease is bound to; 0: none */
    int64_t ttl_ms;
    int64_t keep_ms;
    int64_t number;      /* token or ticket, in and out */
    uint64_t request_id; /* by which a waiter is found again */
    uint64_t conn_id;    /* operations of one connection keep their order; 0: of none */
    int64_t queued_us;   /* clock_mono_us() at lane_submit() */
    uint64_t order;      /* of lane_submit() */
    int64_t sent_number; /* number as it was sent */
    int64_t sent_us;     /* clock_mono_us() when its batch was sent */
    enum op_status status;
    /* The answer is in status and number. Must not destroy the lane; may submit operations. */
    void (*done)(struct op *op);
};

#endif
