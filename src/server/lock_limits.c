#include "server/internal.h"
#include "service/locks.h"

/*
 * Policies for LOCK. Those that charge attempts are asked first and cost a permit whatever becomes
 * of the LOCK. Those that charge grants are asked next, and give the permit back where the LOCK was
 * not granted: so a client has the lock and has paid for it, or neither. A daemon that dies between
 * the two loses the permit; the limit holds all the same.
 */

static struct rates *rates_of(const struct request *r)
{
    return service_rates(r->conn->server->o.service);
}

/* Of the member whose turn it is. */
static struct rate_ask ask_of(const struct request *r, enum rate_use use)
{
    return (struct rate_ask){.use = use,
                             .key = op_resource(&r->call->op, r->limited),
                             .owner = r->call->op.owner,
                             .cost = 1,
                             .received_us = r->received_us};
}

/* The call has not been started: nothing is to be undone. */
static void drop_call(struct request *r)
{
    struct call *call = r->call;
    r->call = NULL;
    locks_abandon(call);
}

static void limited(struct request *r, const struct rate_answer *a)
{
    struct buf resource = {0};
    struct str member = op_resource(&r->call->op, r->limited);
    buf_put(&resource, member.p, member.n);
    drop_call(r);
    struct json j = request_begin(r, STATUS_LIMITED);
    rate_put_limited(&j, buf_cstr(&resource), a);
    json_put_string(&j, "resource", buf_str(&resource));
    buf_free(&resource);
    request_end(r, STATUS_LIMITED, &j);
}

static void ask(struct request *r, enum rate_use use);

/* Gives back the permits of the first n members that were paid for a grant. */
static void refund(struct request *r, const struct op *op, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct rate_ask back = {
            .use = RATE_USE_GRANT, .key = op_resource(op, i), .owner = op->owner, .cost = 1};
        rates_refund(rates_of(r), &back);
    }
}

static void refused(struct request *r, enum rate_use use, const struct rate_answer *a)
{
    if (use == RATE_USE_GRANT && r->permit_taken)
        refund(r, &r->call->op, r->limited);
    r->permit_taken = false;
    if (a->result == RATE_DENIED) {
        limited(r, a);
    } else {
        drop_call(r);
        rate_refuse(r, a);
    }
}

/* The limits of all members on attempts first, then those on grants. */
static void go_on(struct request *r, enum rate_use use, const struct rate_answer *a)
{
    if (a->result != RATE_ALLOWED) {
        refused(r, use, a);
        return;
    }
    if (use == RATE_USE_GRANT)
        r->permit_taken |= a->policy != NULL && a->source != RATE_FALLBACK;
    if (++r->limited < op_resources(&r->call->op)) {
        ask(r, use);
    } else if (use == RATE_USE_ATTEMPT) {
        r->limited = 0;
        ask(r, RATE_USE_GRANT);
    } else {
        locks_acquire(r->call);
    }
}

static void on_attempt(void *user, const struct rate_answer *a)
{
    struct request *r = user;
    r->rate_call = NULL;
    go_on(r, RATE_USE_ATTEMPT, a);
}

static void on_grant(void *user, const struct rate_answer *a)
{
    struct request *r = user;
    r->rate_call = NULL;
    go_on(r, RATE_USE_GRANT, a);
}

static void ask(struct request *r, enum rate_use use)
{
    struct rate_answer a;
    struct rate_ask question = ask_of(r, use);
    r->rate_call =
        rates_ask(rates_of(r), &question, &a, use == RATE_USE_ATTEMPT ? on_attempt : on_grant, r);
    if (r->rate_call == NULL)
        go_on(r, use, &a);
}

void lock_limits_start(struct request *r)
{
    if (rates_limit_locks(rates_of(r)))
        ask(r, RATE_USE_ATTEMPT);
    else
        locks_acquire(r->call);
}

void lock_limits_end(struct request *r, const struct call *call)
{
    if (r->rate_call) { /* cancelled before the lock was asked for */
        rates_abandon(r->rate_call);
        r->rate_call = NULL;
    }
    bool paid =
        call->outcome == OUTCOME_UNKNOWN || (call->outcome == OUTCOME_OK && !call->repeated);
    if (!r->permit_taken || paid)
        return;
    r->permit_taken = false;
    refund(r, &call->op, op_resources(&call->op));
}

void lock_limits_orphan(struct request *r)
{
    if (r->call == NULL || !r->permit_taken)
        return;
    r->permit_taken = false;
    refund(r, &r->call->op, r->limited);
}
