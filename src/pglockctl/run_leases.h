#ifndef PGLOCKD_PGLOCKCTL_RUN_LEASES_H
#define PGLOCKD_PGLOCKCTL_RUN_LEASES_H

/* The leases that a command runs under: they were granted together, and one lost is all lost. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/pglockd.h"

struct run_leases {
    pglockd_lease **at; /* n of them, at least one, all of one TTL */
    size_t n;
};

/* Room for n leases, none of which is there yet. */
struct run_leases run_leases_new(size_t n);
/* Frees the memory; unlocks nothing. */
void run_leases_free(struct run_leases *l);

/* The one that can expire first. */
pglockd_lease *run_leases_first_to_end(const struct run_leases *l);
/* Before this moment none of them can have expired. */
int64_t run_leases_deadline_us(const struct run_leases *l);
int64_t run_leases_ttl_ms(const struct run_leases *l);

/* The same leases for another handle or process, with one deadline; n is 0 where memory ran out. */
struct run_leases run_leases_adopt(const struct run_leases *l, int64_t deadline_us);

/* pglockd_keep() and pglockd_unkeep() for all. False: one could not be kept, pglockd_error(c). */
bool run_leases_keep(pglockd *c, const struct run_leases *l, int64_t lead_ms, pglockd_lost_fn *fn,
                     void *arg);
void run_leases_unkeep(pglockd *c, const struct run_leases *l);

#endif
