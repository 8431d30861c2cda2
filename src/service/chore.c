#include <stdlib.h>

#include "base/xalloc.h"
#include "service/state.h"

struct chore *chore_new(struct service *s, enum op_kind kind, struct str resource)
{
    struct chore *c = xcalloc(1, sizeof(*c) + resource.n + 1);
    memcpy(c->resource, resource.p, resource.n);
    c->service = s;
    c->op.kind = kind;
    c->op.patient = true;
    c->op.resource = (struct str){c->resource, resource.n};
    list_append(&s->chores, &c->at);
    return c;
}

struct chore *chore_of(struct op *op)
{
    return container_of(op, struct chore, op);
}

void chore_free(struct chore *c)
{
    list_remove(&c->at);
    free(c);
}
