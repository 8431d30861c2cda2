#ifndef PGLOCKD_PGLOCKCTL_PATH_RESOLVE_H
#define PGLOCKD_PGLOCKCTL_PATH_RESOLVE_H

/*
 * Absolute paths of files. A path here is a NUL-terminated buffer that begins with a slash and has
 * none at its end, no ".", no ".." and no two in a row; the root of the file system is "".
 */

#include <stdbool.h>

#include "base/buf.h"

/*
 * Makes *path, the directory that relative names begin at, the path of file. With follow, symlinks
 * are followed where the kernel would, also one whose target is not there; what does not exist, or
 * lies beneath what is no directory, is taken as it is written. Without, nothing is looked at.
 * False: one sentence in err, without the file's name.
 */
bool path_resolve(struct buf *path, const char *file, bool follow, struct buf *err);

/* The working directory as a path. False: one sentence in err. */
bool path_working_directory(struct buf *path, struct buf *err);

/* Takes the last segment away; that of "" is "". */
void path_pop(struct buf *path);

/* Is it a directory now? */
bool path_is_directory(struct buf *path);

#endif
