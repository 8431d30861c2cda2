#ifndef PGLOCKD_PGLOCKCTL_RATE_POLICY_H
#define PGLOCKD_PGLOCKCTL_RATE_POLICY_H

/* What pglockctl rate does on the database itself; each returns the exit status. */

#include "pglockctl/ctl.h"

/* words: policy, then set, ls or rm and what belongs to it. */
int rate_policy_main(const struct ctl *ctl, const struct opt_words *words);
/* words: reset, a key, and policy=NAME where only that counter is meant. */
int rate_reset_main(const struct opt_words *words);

#endif
