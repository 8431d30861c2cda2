#ifndef PGLOCKD_SERVER_TREND_H
#define PGLOCKD_SERVER_TREND_H

/*
 * How things went in the last half an hour, for the plots of the status page: a point every few
 * seconds in a ring in memory. What this daemon answered is counted here; what the whole service
 * holds and waits for comes with the answer of whoever asked the database.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

enum { TREND_STEP_MS = 5000, TREND_POINTS = 360 };

struct trend;

/* due(arg) is called for each point, to have trend_know() called for it. */
struct trend *trend_create(struct ev_loop *loop, void (*due)(void *arg), void *arg);
void trend_destroy(struct trend *t); /* NULL is allowed */

/* What there is of the whole service now; a point that nobody knows it for shows null. */
void trend_know(struct trend *t, int64_t held, int64_t waiting);

/*
 * Puts the value: {"step_ms", "requests", "grants", "held", "waiting"}, arrays with the oldest
 * point first; requests and grants are how many there were in the step, by this daemon.
 */
void trend_put(const struct trend *t, struct json *j);

#endif
