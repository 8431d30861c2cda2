#ifndef PGLOCKD_PGLOCKCTL_OTHERS_H
#define PGLOCKD_PGLOCKCTL_OTHERS_H

/*
 * What others hold of some resources: leases of the resources, of trees above them and, beneath
 * what is a tree itself, of anything. A lease is ours when its owner is our name; or when it is
 * exclusive and PGLOCK_TOKENS, which pglockctl run sets, has the token that holds it.
 */

#include "pglockctl/path_files.h"

/*
 * Prints the leases of others as a table, or with --json all replies. CTL_OK: there are none; the
 * status for busy: there are some; else says what went wrong and returns the exit status. A name
 * that is more than a resource can be is held by nobody, but trees above it may be.
 */
int others_print(const struct ctl *ctl, const struct path_name *names, size_t n);

#endif
