#ifndef PGLOCKD_PGLOCKCTL_FORCE_MANY_H
#define PGLOCKD_PGLOCKCTL_FORCE_MANY_H

/* pglockctl force for what an owner, a session or a prefix has: on the database. */

#include "pglockctl/ctl.h"

/* Do the words name an owner, a session or a prefix? Else they are for a daemon. */
bool force_many_is_meant(const struct opt_words *words);

/*
 * Ends the locks that owner=, session= or prefix= names, in as many transactions as it takes, and
 * prints how many. Returns the exit status: CTL_LOST where there was nothing to end, the one for
 * busy where a transaction keeps some of them.
 */
int force_many(const struct ctl *ctl, const struct opt_words *words);

#endif
