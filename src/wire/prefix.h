#ifndef PGLOCKD_WIRE_PREFIX_H
#define PGLOCKD_WIRE_PREFIX_H

/* PREFIX=DURATION: what holds for a resource and all beneath it. Pure. */

#include <stdint.h>

#include "base/str.h"

/*
 * Parts one item. The prefix is a resource, or / for all. Returns NULL, or one sentence (static)
 * that says what is wrong; prefix points into item.
 */
const char *prefix_duration_parse(struct str item, struct str *prefix, int64_t *ms);

/*
 * The duration of the longest prefix among n items that covers the resource; 0 where none does.
 * The items have been parsed before.
 */
int64_t prefix_duration_of(char *const *items, size_t n, struct str resource);

#endif
