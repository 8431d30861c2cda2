#ifndef PGLOCKD_PG_TURNS_H
#define PGLOCKD_PG_TURNS_H

/*
 * The queue of a lane, in which connections take turns. While more than one connection asks, each
 * has at most a share of operations in line; what it asks beyond that waits behind the line, in its
 * order, and moves up when its earlier ones leave. So an operation stands behind a share of each
 * other connection, not behind all that they have asked for. A connection that is alone has no
 * share.
 *
 * Batches are taken from the line. Pure: no I/O, no clock but op->queued_us.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "pg/op.h"

struct turn; /* of one connection, while it has operations in the queue */

struct turns {
    struct list line; /* the operations that may go, in the order in which they go */
    size_t lined;
    size_t queued; /* in line and behind it */
    size_t share;
    uint64_t last_conn; /* that asked */
    int64_t mixed_until_us;
    int64_t now_us;
    struct turn **buckets;
    struct list all; /* struct turn */
};

void turns_init(struct turns *t, size_t share);
void turns_free(struct turns *t); /* not the operations */

/* At the end: op->queued_us is now. Operations without a connection are never held back. */
void turns_add(struct turns *t, struct op *op);
/* The operation has been taken out of the line, or out of what waits behind it. */
void turns_leave(struct turns *t, struct op *op);
/* It has been put back into the line, ahead of later ones. */
void turns_return(struct turns *t, struct op *op);

/* Calls fn for each operation; it may take that one out. */
void turns_each(struct turns *t, void (*fn)(void *arg, struct op *op), void *arg);

#endif
