#ifndef PGLOCKD_PGLOCKCTL_PATH_ROOT_H
#define PGLOCKD_PGLOCKCTL_PATH_ROOT_H

/*
 * Where the names of files begin, and how they are made. A root is the directory that --root or
 * PGLOCKCTL_ROOT names; else the nearest one, at or above the file, with a file .pglockd; else the
 * top of the file system. What is set comes from the command line, the environment or the root's
 * .pglockd, in that order.
 */

#include "pglockctl/path_name.h"

/* As the command line gave them; NULL: not given. */
struct path_settings {
    const char *root;
    const char *prefix;
    const char *letter_case;
    const char *unicode;
};
extern struct path_settings path_settings;

/* Zeroed: none yet. */
struct path_root {
    struct buf dir; /* a path of path_resolve.h */
    struct buf prefix;
    struct path_rules rules; /* its prefix is the one above */
    bool loaded;
};

/*
 * Makes *root the one for what is in the directory from; one that it has already is not read again.
 * Returns CTL_OK; or says why not and returns the exit status.
 */
int path_root_find(struct path_root *root, struct buf *from);
void path_root_free(struct path_root *root);

#endif
