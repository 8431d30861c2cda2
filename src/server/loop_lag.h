#ifndef PGLOCKD_SERVER_LOOP_LAG_H
#define PGLOCKD_SERVER_LOOP_LAG_H

/*
 * Observes how long each turn of the loop works, from waking up to going back to sleep: whatever
 * became ready meanwhile waited that long. It wakes nothing up itself, so an idle loop stays idle.
 */

#include <ev.h>

/* For one loop of the process. Does not keep the loop alive. */
void loop_lag_start(struct ev_loop *loop);
void loop_lag_stop(struct ev_loop *loop);

#endif
