#ifndef PGLOCKD_WIRE_DURATION_H
#define PGLOCKD_WIRE_DURATION_H

#include <stdint.h>

#include "base/str.h"

enum { DURATION_MAX_DAYS = 3650 };
#define DURATION_INF INT64_MAX /* what "inf" parses to */

/*
 * A whole number with a unit: 500ms 30s 5m 2h 1d. Writes milliseconds to *ms and returns NULL, or
 * returns one sentence (static). A bare number is an error that names the unit. "inf" is accepted
 * only when allow_inf is not 0 and gives DURATION_INF. Above ten years is an error.
 */
const char *duration_parse(struct str s, int allow_inf, int64_t *ms);

/* The shortest exact form ("30s", "1500ms", "inf") into out, NUL-terminated; returns out. */
char *duration_format(int64_t ms, char out[static 24]);

#endif
