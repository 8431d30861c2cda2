#ifndef PGLOCKD_BASE_TALLY_H
#define PGLOCKD_BASE_TALLY_H

/*
 * How many there are of each name, for limits per address, name, owner or resource. A name costs
 * memory only while something counts under it. Clients choose names, so the hash is keyed: nobody
 * can make names that fall together.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct tally;

/* One name; there as long as its count is not 0. */
struct tally_entry {
    struct tally_entry *next;
    size_t count;
    int64_t tat_us; /* whoever counts may keep a rate there: pace.h */
    uint64_t hash;
    size_t n;
    char name[];
};

struct tally *tally_new(void);
void tally_free(struct tally *t);

/* One more of that name, or NULL where there are max of it already (max 0: any number). */
struct tally_entry *tally_add(struct tally *t, struct str name, size_t max);
/* One less; e may be gone afterwards. NULL is allowed. */
void tally_drop(struct tally *t, struct tally_entry *e);

/* How many of that name. */
size_t tally_count(const struct tally *t, struct str name);

#endif
