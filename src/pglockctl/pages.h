#ifndef PGLOCKD_PGLOCKCTL_PAGES_H
#define PGLOCKD_PGLOCKCTL_PAGES_H

/* LIST from its first page to its last, for the commands that show leases. */

#include <cjson/cJSON.h>

#include "pglockctl/ctl.h"
#include "pglockctl/fields.h"

enum { LOCK_FIELDS = 7 };
extern const struct field lock_fields[LOCK_FIELDS];

/*
 * Asks for all pages that words select; one page alone where they name limit=. Returns CTL_OK with
 * the leases as one array in *locks, which the caller deletes; else says why not, returns the exit
 * status and leaves *locks NULL.
 */
int pages_ask(const struct ctl *ctl, const struct opt_words *words, cJSON **locks);

#endif
