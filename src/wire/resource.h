#ifndef PGLOCKD_WIRE_RESOURCE_H
#define PGLOCKD_WIRE_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

enum {
    RESOURCE_BYTES_MAX = 512,
    RESOURCE_DEPTH_MAX = 32, /* segments */
};

/*
 * Checks the resource grammar: 1 to 512 bytes of UTF-8, segments parted by '/', none of them empty,
 * "." or "..", at most 32, no control character. Returns NULL when s is a resource, else one
 * sentence (static) that says which rule it breaks. "/" alone is not accepted here; it is a
 * resource only for tree requests, which check for it themselves.
 */
const char *resource_check(struct str s);

/* Is s the prefix itself or beneath it ("a/b" covers "a/b" and "a/b/c", never "a/bc")? */
bool resource_covers(struct str prefix, struct str s);

/* The first path segment; requests of one segment keep to one lane. */
struct str resource_first_segment(struct str s);

#endif
