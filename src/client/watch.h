#ifndef PGLOCKD_CLIENT_WATCH_H
#define PGLOCKD_CLIENT_WATCH_H

/* The prefixes that a handle watches; what its connections need to know of them. */

#include <stdint.h>

#include "client/pglockd.h"

struct watch;

/* An event was told: those of a prefix move its number on. */
void watch_take_event(struct watch *list, const char *json);

/* Has a new connection watch everything from where it was left. */
pglockd_status watch_resume(struct pglockd *c, int64_t until_us);

void watch_free_all(struct watch *list);

#endif
