#ifndef PGLOCKD_SERVICE_PLACES_H
#define PGLOCKD_SERVICE_PLACES_H

/*
 * The limits on who waits: max_waiters, max_waiters_per_resource, max_waiters_per_owner. They count
 * the LOCKs of this daemon that may come to wait, from the moment that they are asked for until
 * they are answered, so no number of them in flight goes past a limit. A limit that is off costs
 * nothing, and one that is turned on counts from then on.
 */

#include "service/state.h"

struct places; /* what one call takes */

/* True: it may wait. False: it may not, and *why is how it ends where it would have to. */
bool places_take(struct call *call, enum outcome *why);
void places_leave(struct call *call);

#endif
