#include "pglockctl/run_leases.h"

#include <stdlib.h>

#include "base/xalloc.h"

struct run_leases run_leases_new(size_t n)
{
    return (struct run_leases){xcalloc(n, sizeof(pglockd_lease *)), n};
}

void run_leases_free(struct run_leases *l)
{
    for (size_t i = 0; i < l->n; i++)
        pglockd_lease_free(l->at[i]);
    free(l->at);
    *l = (struct run_leases){0};
}

pglockd_lease *run_leases_first_to_end(const struct run_leases *l)
{
    pglockd_lease *first = l->at[0];

    for (size_t i = 1; i < l->n; i++)
        if (pglockd_lease_deadline_us(l->at[i]) < pglockd_lease_deadline_us(first))
            first = l->at[i];
    return first;
}

int64_t run_leases_deadline_us(const struct run_leases *l)
{
    return pglockd_lease_deadline_us(run_leases_first_to_end(l));
}

int64_t run_leases_ttl_ms(const struct run_leases *l)
{
    return pglockd_lease_ttl_ms(l->at[0]);
}

struct run_leases run_leases_adopt(const struct run_leases *l, int64_t deadline_us)
{
    struct run_leases copy = run_leases_new(l->n);

    for (size_t i = 0; i < l->n; i++) {
        copy.at[i] =
            pglockd_lease_adopt(pglockd_lease_resource(l->at[i]), pglockd_lease_token(l->at[i]),
                                pglockd_lease_ttl_ms(l->at[i]), deadline_us);
        if (!copy.at[i]) {
            run_leases_free(&copy);
            break;
        }
    }
    return copy;
}

bool run_leases_keep(pglockd *c, const struct run_leases *l, int64_t lead_ms, pglockd_lost_fn *fn,
                     void *arg)
{
    for (size_t i = 0; i < l->n; i++)
        if (pglockd_keep(c, l->at[i], lead_ms, fn, arg) != PGLOCKD_OK)
            return false;
    return true;
}

void run_leases_unkeep(pglockd *c, const struct run_leases *l)
{
    for (size_t i = 0; i < l->n; i++)
        pglockd_unkeep(c, l->at[i]);
}
