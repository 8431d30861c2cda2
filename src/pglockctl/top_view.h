#ifndef PGLOCKD_PGLOCKCTL_TOP_VIEW_H
#define PGLOCKD_PGLOCKCTL_TOP_VIEW_H

/* An answer of STATUS as lines for a person. */

#include <cjson/cJSON.h>
#include <stddef.h>

#include "base/buf.h"

/*
 * Appends lines, harmless for a terminal: as many as fit into rows and columns, all of them where
 * rows is 0. status is changed. note is what stands in the first line, or NULL.
 */
void top_view_put(struct buf *out, cJSON *status, const char *note, size_t rows, size_t columns);

#endif
