#ifndef PGLOCKD_PG_BATCH_H
#define PGLOCKD_PG_BATCH_H

/*
 * A batch: operations that go to the database as one transaction, and how they become calls of the
 * array functions and their results become answers. Which operations may stand in one batch:
 *   - at most max of them, with at most about guards_max distinct resources and trees above them
 *     (each costs an advisory lock);
 *   - many LOCKs and many of other kinds do not go together: each kind is a call with a fixed cost,
 * and more of one kind in a batch pay it once;
 *   - no two that would make the result ambiguous: the same token or the same id twice;
 *   - a connection's own operations only in their order, and a batch carries kinds out in the order
 *     of enum op_kind: so an operation of an earlier kind waits for the next batch when one of a
 *     later kind of the same connection is already in.
 * Pure but for what it appends to link_params: no I/O, no clock.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "pg/link.h"
#include "pg/op.h"

struct batch_key;

struct batch {
    size_t max;
    size_t guards_max;
    size_t count;
    size_t guards; /* advisory locks that it will take, about */
    struct list ops[OP_KINDS];
    size_t counts[OP_KINDS];
    struct op **items; /* of one kind, in the order sent; scratch for the answers */
    struct batch_key *keys;
    size_t key_mask;
    uint32_t epoch;    /* keys of earlier batches are stale */
    struct str *above; /* what its resources lie beneath, each once; in the operations' bytes */
    size_t nabove;
};

void batch_init(struct batch *b, size_t max, size_t guards_max);
void batch_free(struct batch *b);

/*
 * Takes from queue what may go together, in order. Returns how many operations the batch has now;
 * without ahead, that is at least one of a queue that has any. ahead is the batch in flight, or
 * NULL: operations of its connections stay in the queue, since it may be refused and come back.
 */
size_t batch_fill(struct batch *b, struct list *queue, const struct batch *ahead);
/*
 * Puts the operations of a kind in the order of their resources' bytes; those of one resource keep
 * the order in which they came. pglockd.acquire_batch() then sees at once who is alone.
 */
void batch_sort(struct batch *b, enum op_kind kind);
/* Makes the batch empty; its operations go to the front of queue in the order of their kinds. */
void batch_return(struct batch *b, struct list *queue);

/* The statement of a kind; it answers with one record, which batch_answer() reads. */
const struct link_statement *batch_statement(enum op_kind kind);
/* How to go about a batch: a matter of speed, never of what is decided. */
struct batch_hints {
    bool careful; /* leases whose rows somebody has locked are passed over, instead of waited for */
    bool crowded; /* the resources of LOCKs are probably held: that is looked at first */
};

/* The parameters of the call for a kind that the batch has. */
void batch_params(const struct batch *b, enum op_kind kind, int32_t instance,
                  struct batch_hints hints, struct link_params *p);

/* A waiter of this daemon that was granted; the resource stands in the names of its news. */
struct batch_grant {
    uint64_t request_id;
    int64_t token;
    size_t name; /* offset */
};

/* What a batch's rows say beside the answers; true only once the batch is committed. */
struct batch_news {
    struct buf grants;  /* struct batch_grant, one after the other */
    struct buf wakes;   /* int32_t: other daemons with new grants */
    struct buf names;   /* resources of the grants, each with a NUL behind it */
    struct buf pending; /* resources to be promoted later, each with a NUL behind it */
};

void batch_news_clear(struct batch_news *news);
void batch_news_free(struct batch_news *news);

/*
 * Sets status and number of the operations of a kind from its row and adds to news. False: the row
 * is malformed.
 */
bool batch_answer(struct batch *b, enum op_kind kind, const struct link_rows *rows,
                  struct batch_news *news);

#endif
