#ifndef PGLOCKD_PGLOCKCTL_TEXT_H
#define PGLOCKD_PGLOCKCTL_TEXT_H

/* Text for people: what comes from others is made harmless, columns are aligned. */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * s with everything that could steer a terminal or reorder the line written as \xNN or \u{N}:
 * control characters, direction marks, invalid UTF-8. The rest is kept as it is.
 */
void text_put_safe(struct buf *out, const char *s);

/* As much of s, which is harmless, as fits into so many columns of a terminal; "…" ends what is
 * cut. */
void text_put_cut(struct buf *out, const char *s, size_t columns);

/* A duration as people read it: "250ms", "28.4s", "3m05s", "2h10m", "3d04h". */
void text_put_duration(struct buf *out, int64_t ms);

/* Rows of cells, all owned by the table; a zeroed struct with ncols set is an empty table. */
struct table {
    size_t ncols;
    size_t ncells;
    size_t cap;
    char **cells;
};

/* Adds a cell, row by row; s is made harmless. An empty text becomes "-". */
void table_add(struct table *t, const char *s);
void table_add_blank(struct table *t);
void table_add_duration(struct table *t, int64_t ms);
void table_add_int(struct table *t, int64_t n);
/* Every line begins with indent; no line ends with spaces. */
void table_put(const struct table *t, const char *indent, struct buf *out);
void table_free(struct table *t);

#endif
