#ifndef PGLOCKD_PG_LANE_H
#define PGLOCKD_PG_LANE_H

/*
 * A lane: one connection to PostgreSQL over which batches of operations go, two in flight at most.
 * What is submitted while a batch is in flight goes together in the next one, so that batches grow
 * with the load and an idle lane adds no delay. All operations of one resource use one lane.
 *
 * Life of an operation: lane_submit() -> queued -> sent -> done(). It is done exactly once, with a
 * true answer:
 *   - the batch was committed: what the database said;
 *   - the connection broke: what a new connection finds out, after it has ended the old one's
 *     session; what was surely not done is sent again;
 *   - the server refused the batch: it is tried again in halves, so that one operation cannot fail
 *     its neighbours.
 * What nobody waits for any more (op->unwanted) is not sent again, nor after a time in which
 * nothing could be sent: it ends as OP_UNAVAILABLE, or as OP_UNKNOWN. lane_expire() gives up on
 * what took too long.
 */

#include <ev.h>

#include "pg/batch.h"
#include "pg/link.h"
#include "pg/op.h"

/* What happened in committed batches beside the answers to their operations. */
struct lane_sink {
    /* decided_us: the decision was made after it, clock_mono_us(). */
    void (*granted)(void *arg, uint64_t request_id, struct str resource, int64_t token,
                    int64_t decided_us);
    void (*wake)(void *arg, int32_t instance);
    void (*pending)(void *arg, struct str resource);
    void *arg;
};

struct lane_options {
    struct ev_loop *loop;
    const char *conninfo;   /* lives as long as the lane */
    struct link_seen *seen; /* likewise */
    int number;             /* 0 to LANES_MAX - 1 */
    int32_t instance;       /* of this daemon */
    size_t batch_max;       /* operations in one batch */
    const char *history;    /* as in struct link_options */
    struct lane_sink sink;
    void (*state_changed)(void *arg, int number, bool up);
    void *arg;
};

enum { LANES_MAX = 8 };

struct lane;

struct lane *lane_create(const struct lane_options *options);
/* Operations that are not done are forgotten without an answer. */
void lane_destroy(struct lane *lane);

/*
 * Puts op into the queue; it is sent at the end of this turn of the loop at the earliest. A lazy
 * one waits for one that is not, but LAZY_MS at most.
 */
void lane_submit(struct lane *lane, struct op *op);
/* Takes a queued operation back, without calling done(). False when it was sent already. */
bool lane_remove(struct lane *lane, struct op *op);
/*
 * Ends what has been queued since before queued_before_us (and is not patient): as OP_UNAVAILABLE,
 * or as OP_UNKNOWN what was sent once over a connection that was lost and may have been done.
 * Operations in flight are not touched: see lane_sent_since_us().
 */
void lane_expire(struct lane *lane, int64_t queued_before_us);
/* When the oldest batch in flight was sent, clock_mono_us(); 0 when there is none. */
int64_t lane_sent_since_us(const struct lane *lane);
/* Calls fn for each operation of the batches in flight. */
void lane_each_sent(struct lane *lane, void (*fn)(void *arg, struct op *op), void *arg);

/* Calls fn for each queued operation. */
void lane_each_queued(struct lane *lane, void (*fn)(void *arg, struct op *op), void *arg);

bool lane_is_up(const struct lane *lane);
bool lane_is_idle(const struct lane *lane); /* nothing queued, nothing sent */
size_t lane_queued(const struct lane *lane);

/* For each outcome of a batch, the names of the metric label BATCH_END. */
void lane_register_metrics(void);

#endif
