#ifndef PGLOCKD_PGLOCKCTL_PATH_NAME_H
#define PGLOCKD_PGLOCKCTL_PATH_NAME_H

/*
 * Paths as resources. Pure: nothing here looks at a file system.
 *
 * Each segment of a path becomes one segment of the resource by itself, so what is beneath a
 * directory is beneath its resource. A segment that is UTF-8 is first brought into the form that
 * the rules name; one that is not is left as it is. Then '%', each byte of a control character and
 * each byte that is not UTF-8 are written as %XX, which can be undone.
 */

#include <stdbool.h>

#include "base/buf.h"

struct path_rules {
    struct str prefix; /* a resource that stands before every name; may be empty */
    bool fold_case;    /* names that differ in case alone are one */
    bool nfc;          /* names that differ in their Unicode normalisation alone are one */
};

/*
 * Appends the name of a path beneath the root: segments parted by "/", none of them empty, "." or
 * ".."; "" is the root itself. The name may be more than a resource can be: see path_check().
 */
void path_encode(struct buf *out, const struct path_rules *rules, struct str path);

/* NULL when a name of path_encode() is a resource; else one sentence in scratch that says why not.
 */
const char *path_check(struct str name, struct buf *scratch);

/*
 * Appends the path of a name without its prefix, normalised as it is. False: path_encode() makes no
 * such name, and what was appended means nothing.
 */
bool path_decode(struct buf *out, struct str name);

/* The part of path beneath top, "" for top itself; p is NULL where it is not beneath. */
struct str path_under(struct str top, struct str path);

/* As strcmp() with '/' before every other byte, so that what is beneath a name follows it. */
int path_compare(const char *a, const char *b);

#endif
