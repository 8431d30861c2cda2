#ifndef PGLOCKD_SERVICE_LOCKS_H
#define PGLOCKD_SERVICE_LOCKS_H

/*
 * Locks: what LOCK, UNLOCK, RENEW and CANCEL ask of the service. Each function starts a call; its
 * answered() comes later, never during the function. All of them copy nothing: the call owns its
 * texts.
 */

#include "service/call.h"

/*
 * op: exclusive, ttl_ms (OP_TTL_SESSION with a session), session; call: wait_ms, received_us.
 * OUTCOME_LOST: the session has ended.
 */
void locks_acquire(struct call *call);
/* op: number is the token; for OP_RENEW also ttl_ms, the new TTL or OP_TTL_SAME. */
void locks_release_or_renew(struct call *call);
/*
 * The connection has closed to which the lease was bound, if it still is: ends it. Nobody is told.
 * After everything else that the connection has asked for.
 */
void locks_release_bound(struct service *s, uint64_t conn_id, struct str resource, int64_t token);

/*
 * Ends a LOCK that waits, or will wait: it is answered OUTCOME_CANCELLED. False when there is
 * nothing to end: it is about to be answered anyway.
 */
bool locks_cancel(struct call *call);

/* The client will send no more: the LOCK is answered as it can be now, a wait is withdrawn. */
void locks_end_input(struct call *call);

/*
 * The client is gone: there will be no answer. A grant that it cannot get any more is released at
 * once. A waiter with an id keeps its place for requeue_grace, so that its client may come back.
 */
void locks_abandon(struct call *call);

#endif
