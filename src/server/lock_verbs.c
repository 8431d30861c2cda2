#include <inttypes.h>

#include "base/clock.h"
#include "server/internal.h"
#include "service/locks.h"

/* --- replies --- */

/* What is said of an outcome that needs no look at the database. */
static const struct {
    enum status status;
    const char *code;
    const char *message;
} refusals[OUTCOMES] = {
    [OUTCOME_DENIED] = {STATUS_DENIED, "denied", "another identity holds that lease"},
    [OUTCOME_FENCED] = {STATUS_ERR, "fenced",
                        "a transaction on the database holds on to that lease; nothing was done, "
                        "try again when it has ended"},
    [OUTCOME_CANCELLED] = {STATUS_ERR, "cancelled", "the request was cancelled"},
    [OUTCOME_SUPERSEDED] = {STATUS_ERR, "cancelled",
                            "another request with the same id took this one's place in the queue"},
    [OUTCOME_ID_MISMATCH] = {STATUS_ERR, "id_mismatch",
                             "this id was used for other resources, another mode or session"},
    [OUTCOME_LIMIT_MISMATCH] = {STATUS_ERR, "limit_mismatch",
                                "the semaphore is held or waited for with another limit"},
    [OUTCOME_TOO_MANY] = {STATUS_ERR, "too_many_waiters",
                          "too many requests wait in this daemon, try again later"},
    [OUTCOME_TOO_MANY_OF_OWNER] = {STATUS_ERR, "too_many_waiters",
                                   "too many requests of this owner wait in this daemon, try again "
                                   "later"},
    [OUTCOME_TOO_MANY_OF_RESOURCE] = {STATUS_ERR, "too_many_waiters",
                                      "too many requests wait for this resource in this daemon, "
                                      "try again later"},
    [OUTCOME_TOO_MANY_LEASES] = {STATUS_ERR, "too_many_leases",
                                 "this owner would hold or wait for more resources than "
                                 "max_leases_per_owner allows: release some of them first"},
    [OUTCOME_DRAINING] = {STATUS_ERR, "unavailable",
                          "the daemon is stopping; nothing was done, ask another one"},
    [OUTCOME_UNAVAILABLE] = {STATUS_ERR, "unavailable",
                             "the database could not be asked in time; nothing was done"},
    [OUTCOME_UNKNOWN] = {STATUS_ERR, "outcome_unknown",
                         "it may have been done or not; repeat it, a LOCK with the same id"},
    [OUTCOME_INTERNAL] = {STATUS_ERR, "internal",
                          "the database refused it; the daemon's log says why"},
};

void lock_refuse(struct request *r, enum outcome outcome)
{
    request_fail(r, refusals[outcome].status, refusals[outcome].code, "%s",
                 refusals[outcome].message);
}

void lease_put_ttl(struct json *j, int64_t ttl_ms)
{
    json_key(j, "ttl_ms");
    if (ttl_ms == OP_TTL_NONE)
        json_null(j);
    else
        json_int(j, ttl_ms);
}

static void put_lock(struct json *j, struct str resource, int64_t token, bool exclusive, bool tree)
{
    json_begin_object(j);
    json_put_string(j, "resource", resource);
    json_put_int(j, "token", token);
    json_put_string(j, "mode", exclusive ? STR_LIT("exclusive") : STR_LIT("shared"));
    json_put_string(j, "scope", tree ? STR_LIT("tree") : STR_LIT("node"));
    json_end_object(j);
}

/* The elements of "locks", and what the connection holds from now on. */
static void put_locks(struct request *r, struct json *j, const struct call *call)
{
    const struct op *op = &call->op;
    for (size_t i = 0; i < op_resources(op); i++) {
        struct str resource = op_resource(op, i);
        int64_t token = op->nmembers > 0 ? op->members[i].token : call->token;
        put_lock(j, resource, token, op->nmembers > 0 ? op->members[i].exclusive : op->exclusive,
                 op->nmembers > 0 && op->members[i].tree);
        conn_holds(r->conn, resource, token, call->ttl_ms, op->session);
        /* A lease that is bound is bound to whoever changes its mode or repeats its LOCK, though
         * only the database knows which are; it also makes sure that no other ends with the
         * connection. */
        if (op->bound || op->upgrade != 0 || call->repeated)
            conn_bind(r->conn, resource, token);
    }
}

static void put_grant(struct json *j, const struct lock_grant *g)
{
    json_put_string(j, "resource", g->resource);
    json_put_int(j, "token", g->token);
    lease_put_ttl(j, g->ttl_ms);
    json_put_int(j, "waited_ms", g->waited_ms);
    if (g->repeated)
        json_put_bool(j, "repeated", true);
    if (g->slots > 0) {
        json_put_int(j, "limit", g->slots);
        json_put_int(j, "weight", g->weight);
    }
    if (g->session != 0)
        session_put(j, g->session);
}

void reply_locked(struct request *r, const struct lock_grant *g)
{
    struct json j = request_begin(r, STATUS_OK);
    json_key(&j, "locks");
    json_begin_array(&j);
    json_raw(&j, buf_str(&r->rows));
    json_end_array(&j);
    put_grant(&j, g);
    request_end(r, STATUS_OK, &j);
}

static struct lock_grant grant_of(const struct call *call)
{
    return (struct lock_grant){.resource = call->op.resource,
                               .token = call->token,
                               .ttl_ms = call->ttl_ms,
                               .waited_ms = call->waited_ms,
                               .repeated = call->repeated,
                               .slots = call->op.slots,
                               .weight = call->op.weight,
                               .session = call->op.session};
}

static void reply_granted(struct request *r, const struct call *call)
{
    struct lock_grant g = grant_of(call);
    if (call->op.upgrade != 0 && call->op.upgrade != call->token) {
        conn_holds_not(r->conn, call->op.resource, call->op.upgrade);
        conn_unbind(r->conn, call->op.resource, call->op.upgrade);
    }
    if (g.session != 0 || call->op.upgrade != 0) { /* the time that is left is asked for first */
        struct json rows = json_to(&r->rows);
        put_locks(r, &rows, call);
        query_locked(r, &g);
        return;
    }
    struct json j = request_begin(r, STATUS_OK);
    json_key(&j, "locks");
    json_begin_array(&j);
    put_locks(r, &j, call);
    json_end_array(&j);
    put_grant(&j, &g);
    request_end(r, STATUS_OK, &j);
}

struct request *lock_take_call(struct call *call)
{
    struct request *r = call->user;
    r->call = NULL;
    if (call->waiting_since_us > 0)
        r->queued_us += clock_mono_us() - call->waiting_since_us;
    slow_log_look(r, call->op.resource);
    return r;
}

static void on_locked(struct call *call)
{
    struct request *r = lock_take_call(call);
    lock_limits_end(r, call);
    if (call->op.upgrade != 0)
        conn_changes_mode(r->conn, call->op.resource, call->op.upgrade, false);
    switch (call->outcome) {
    case OUTCOME_OK:
        reply_granted(r, call);
        break;
    case OUTCOME_LOST:
        if (call->op.upgrade != 0)
            query_lost(r, call->op.resource, call->op.upgrade);
        else
            session_lost(r, call->op.session, (struct str){0}, -1);
        break;
    case OUTCOME_BUSY:
        query_refusal(r, STATUS_BUSY, "busy", &call->op);
        break;
    case OUTCOME_GUARDED:
        query_refusal(r, STATUS_BUSY, "guarded", &call->op);
        break;
    case OUTCOME_QUIET:
        query_refusal(r, STATUS_BUSY, "quiet", &call->op);
        break;
    case OUTCOME_TIMEOUT:
        query_refusal(r, STATUS_TIMEOUT, "timeout", &call->op);
        break;
    case OUTCOME_DEADLOCK:
        query_deadlock(r, &call->op);
        break;
    case OUTCOME_ID_MISMATCH:
        if (call->op.upgrade != 0) {
            request_fail(r, STATUS_ERR, "bad_request",
                         "a slot of a semaphore has no mode that could change");
            break;
        }
        lock_refuse(r, call->outcome);
        break;
    case OUTCOME_CANCELLED:
        if (r->right_lost)
            request_deny_lost_right(r);
        else
            lock_refuse(r, call->outcome);
        break;
    default:
        lock_refuse(r, call->outcome);
    }
}

/* --- requests --- */

struct call *lock_make_call(struct request *r, enum op_kind kind, struct call_texts *texts,
                            void (*answered)(struct call *call))
{
    if (r->conn->identity)
        texts->identity = r->conn->identity->name;
    struct call *call = call_new(r->conn->server->o.service, kind, r->conn->id, texts);
    call->received_us = r->received_us;
    call->answered = answered;
    call->user = r;
    r->call = call;
    return call;
}

static void start_acquire(struct request *r)
{
    lock_limits_start(r);
}

static void start_change(struct request *r)
{
    conn_changes_mode(r->conn, r->call->op.resource, r->call->op.upgrade, true);
    locks_acquire(r->call);
}

static void start_bound(struct request *r)
{
    session_check(r, r->call->op.session, start_acquire);
}

static struct call *make_lock(struct request *r, const struct lock_args *a)
{
    bool alone = a->nmembers == 1 && !a->members[0].tree && a->slots == 0;
    struct call_texts texts = {.resource = a->members[0].resource,
                               .owner = a->owner.p ? a->owner : buf_str(&r->conn->name),
                               .note = a->note,
                               .id = a->id};
    enum op_kind kind = a->token ? OP_CHANGE : alone ? OP_ACQUIRE : OP_CLAIM;
    if (kind != OP_ACQUIRE) {
        texts.members = a->members;
        texts.nmembers = a->nmembers;
    }
    struct call *call = lock_make_call(r, kind, &texts, on_locked);
    call->op.exclusive = a->members[0].exclusive;
    call->op.slots = a->slots;
    call->op.weight = a->slots > 0 ? a->weight : 0;
    call->op.ttl_ms = a->session ? OP_TTL_SESSION : a->ttl_ms;
    call->op.grace_ms = a->grace_ms;
    call->op.bound = a->bound;
    call->op.session = a->session;
    call->op.upgrade = a->token;
    call->wait_ms = a->wait_ms;
    return call;
}

void verb_lock(struct request *r, const struct wire_request *w)
{
    struct lock_args a;
    if (!lock_args_take(r, w, &a))
        return;
    make_lock(r, &a);
    if (a.token != 0) {
        request_start(r, false, start_change);
    } else if (a.session == 0 || conn_has_session(r->conn, a.session)) {
        request_start(r, false, start_acquire);
    } else {
        buf_put(&r->text, a.secret.p, a.secret.n);
        request_start(r, true, start_bound);
    }
}

void verb_cancel(struct request *r, const struct wire_request *w)
{
    const struct str *tag = wire_value(w, "tag");
    if (tag == NULL) {
        request_fail(r, STATUS_ERR, "bad_request", "usage: CANCEL tag=T");
        return;
    }
    const struct request *other = request_by_tag(r->conn, *tag);
    bool cancelled = other && other != r && other->call && locks_cancel(other->call);
    struct json j = request_begin(r, STATUS_OK);
    json_put_bool(&j, "cancelled", cancelled);
    request_end(r, STATUS_OK, &j);
}
