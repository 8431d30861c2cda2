#ifndef PGLOCKD_SERVICE_ROUTE_H
#define PGLOCKD_SERVICE_ROUTE_H

#include <stdint.h>

#include "base/str.h"

/*
 * The lane of a resource, 0 to lanes - 1: all beneath one first path segment go the same way, so
 * that what may conflict is decided in one batch. Pure.
 */
int route_lane(struct str resource, int lanes);

/* FNV-1a, 32 bits (Fowler, Noll, Vo). */
uint32_t route_hash(struct str s);

#endif
