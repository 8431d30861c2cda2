#include "service/places.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "service/counts.h"

/* An owner's and those of its resources; fewer while they are being taken. */
struct places {
    struct tally_entry *owner;
    size_t n;
    struct tally_entry *resources[];
};

/* Who is authenticated counts by that name, whatever owner it gives. */
static struct str owner_of(const struct op *op)
{
    return op->identity.n > 0 ? op->identity : op->owner;
}

static bool take_owner(struct places *p, const struct call *call)
{
    struct service *s = call->service;
    size_t max = s->o.settings->max_waiters_per_owner;
    if (max > 0)
        p->owner = tally_add(s->owners_waiting, owner_of(&call->op), max);
    return max == 0 || p->owner;
}

static bool take_resources(struct places *p, const struct call *call)
{
    struct service *s = call->service;
    size_t max = s->o.settings->max_waiters_per_resource;
    while (max > 0 && p->n < op_resources(&call->op)) {
        struct str resource = op_resource(&call->op, p->n);
        p->resources[p->n] = tally_add(s->resources_waiting, resource, max);
        if (p->resources[p->n] == NULL)
            return false;
        p->n++;
    }
    return true;
}

static bool refuse(struct call *call, enum outcome outcome, enum outcome *why)
{
    places_leave(call);
    *why = outcome;
    return false;
}

bool places_take(struct call *call, enum outcome *why)
{
    struct service *s = call->service;
    const struct settings *st = s->o.settings;
    if (s->waiting >= (int64_t)st->max_waiters)
        return refuse(call, OUTCOME_TOO_MANY, why);
    if ((st->max_waiters_per_owner | st->max_waiters_per_resource) == 0)
        return true;
    call->places =
        xcalloc(1, sizeof(struct places) + op_resources(&call->op) * sizeof(struct tally_entry *));
    if (!take_owner(call->places, call))
        return refuse(call, OUTCOME_TOO_MANY_OF_OWNER, why);
    if (!take_resources(call->places, call))
        return refuse(call, OUTCOME_TOO_MANY_OF_RESOURCE, why);
    return true;
}

void places_leave(struct call *call)
{
    struct places *p = call->places;
    if (p == NULL)
        return;
    tally_drop(call->service->owners_waiting, p->owner);
    for (size_t i = 0; i < p->n; i++)
        tally_drop(call->service->resources_waiting, p->resources[i]);
    free(p);
    call->places = NULL;
}
