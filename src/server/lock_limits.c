#include "server/internal.h"

/*
 * Policies for LOCK. Those that charge attempts are asked first and cost a permit whatever becomes of
 * the LOCK. Those that charge grants are asked next, and give the permit back where the LOCK was not
 * granted: so a client has the lock and has paid for it, or neither. A daemon that dies between the
 * two loses the permit; the limit holds all the same.
 */

/* A LOCK on its way through its limits. */
static struct rate_ask ask_of(struct request *r, enum rate_use use)
{
    return (struct rate_ask){.use = use,
                             .key = r->call->op.resource,
                             .owner = r->call->op.owner,
                             .cost = 1,
                             .received_us = r->received_us};
}

static void go_on(struct request *r, const struct rate_answer *a);

static void on_answered(void *user, const struct rate_answer *a)
{
    struct request *r = user;
    r->rate_call = NULL;
    go_on(r, a);
}

static void ask(struct request *r, enum rate_use use)
{
    struct rate_answer a;
    struct rate_ask question = ask_of(r, use);
    r->limit_use = use;
    r->rate_call = rates_ask(service_rates(r->conn->server->o.service), &question, &a, on_answered, r);
    if (r->rate_call == NULL)
        go_on(r, &a);
}
