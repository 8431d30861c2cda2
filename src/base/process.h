#ifndef PGLOCKD_BASE_PROCESS_H
#define PGLOCKD_BASE_PROCESS_H

/* What the process may do, given up for good. */

#include <stdbool.h>

#include "base/buf.h"

/*
 * From now on no program that it runs gains rights by being run (no_new_privs), and unless
 * core_dumps its memory, which holds private keys and connection strings, is left in no core file
 * and cannot be read by other processes of its user.
 */
void process_harden(bool core_dumps);

/*
 * Becomes user, with that user's groups alone, where root has started it; else it must be that user
 * already. False and one sentence in err where that cannot be.
 */
bool process_become(const char *user, struct buf *err);

/* Makes dir for user, closed to all others, where it is missing and root has started the process.
 */
bool process_give_directory(const char *dir, const char *user, struct buf *err);

#endif
