#ifndef PGLOCKD_SERVICE_ROUTE_H
#define PGLOCKD_SERVICE_ROUTE_H

#include "base/str.h"

/*
 * The lane of a resource, 0 to lanes - 1: all beneath one first path segment go the same way, so
 * that what may conflict is decided in one batch. Pure.
 */
int route_lane(struct str resource, int lanes);

#endif
