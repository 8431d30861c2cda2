/* UNLOCK, RENEW and TRANSFER: what holders do with leases, by token or by the id of their LOCK. */

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/internal.h"
#include "service/counts.h"
#include "service/locks.h"

enum { OWNER_BYTES_MAX = 256, ID_BYTES_MAX = 64 };

/* --- by token --- */

/*
 * Does the connection hold it now? An UNLOCK has made it forget the lease when it began; one that
 * was refused gives it back what it held, but not a lease that was another's all along.
 */
static void note_outcome(struct request *r, const struct call *call)
{
    struct conn *c = r->conn;
    bool renewed = call->op.kind == OP_RENEW;
    if (call->outcome == OUTCOME_LOST)
        conn_holds_not(c, call->op.resource, call->token);
    else if (renewed ? call->outcome == OUTCOME_OK : r->held && call->outcome != OUTCOME_OK)
        conn_holds(c, call->op.resource, call->token, renewed ? call->ttl_ms : 0, 0);
    if (renewed && call->outcome == OUTCOME_OK && call->bound)
        conn_bind(c, call->op.resource, call->token);
    else if (call->outcome == OUTCOME_LOST || (!renewed && call->outcome == OUTCOME_OK))
        conn_unbind(c, call->op.resource, call->token);
}

static void on_unlocked_or_renewed(struct call *call)
{
    struct request *r = lock_take_call(call);
    note_outcome(r, call);
    if (call->outcome == OUTCOME_LOST) {
        query_lost(r, call->op.resource, call->token);
    } else if (call->outcome == OUTCOME_OK) {
        struct json j = request_begin(r, STATUS_OK);
        if (call->op.kind == OP_RENEW)
            lease_put_ttl(&j, call->ttl_ms);
        else
            json_put_int(&j, "held_ms", call->held_ms);
        request_end(r, STATUS_OK, &j);
    } else {
        lock_refuse(r, call->outcome);
    }
}

static void start_release_or_renew(struct request *r)
{
    locks_release_or_renew(r->call);
}

static void by_token(struct request *r, const struct wire_request *w, enum op_kind kind,
                     int64_t ttl_ms)
{
    struct call_texts texts = {0};
    int64_t token;
    if (!arg_resource(r, w, 0, &texts.resource) || !arg_token(r, w, &token))
        return;
    struct call *call = lock_make_call(r, kind, &texts, on_unlocked_or_renewed);
    call->op.number = token;
    call->op.ttl_ms = ttl_ms;
    if (kind == OP_RELEASE)
        r->held = conn_holds_not(r->conn, texts.resource, token);
    request_start(r, false, start_release_or_renew);
}

/* --- by id: of all leases that a LOCK with it was granted, one after the other --- */

static void next_of_id(struct request *r);

/* The leases found stand in r->rows, each a token, the length of its name, and the name. */
struct found {
    int64_t token;
    size_t n;
};

/* The one at r->rows_at, which goes on to the next; its name is *resource. */
static struct found take_found(struct request *r, struct str *resource)
{
    struct found f;
    memcpy(&f, r->rows.data + r->rows_at, sizeof(f));
    *resource = (struct str){r->rows.data + r->rows_at + sizeof(f), f.n};
    r->rows_at += sizeof(f) + f.n;
    return f;
}

/* Of all leases, before anything is done to one of them. */
static bool may_all_found(struct request *r)
{
    struct str resource;
    for (r->rows_at = 0; r->rows_at < r->rows.len;) {
        take_found(r, &resource);
        if (!request_may(r, resource, false))
            return false;
    }
    r->rows_at = 0;
    return true;
}

static void on_id_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = container_of(a, struct request, ask);
    (void)question;
    for (int i = 0; i < link_rows_count(rows); i++) {
        struct str resource = link_text(rows, i, 0);
        struct found f = {link_int(rows, i, 1), resource.n};
        buf_put(&r->rows, &f, sizeof(f));
        buf_put(&r->rows, resource.p, resource.n);
    }
    r->total = link_rows_count(rows);
}

static void on_id_found(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        request_fail(r, STATUS_ERR, "unavailable",
                     "the database could not be asked in time; nothing was done");
    } else if (r->total == 0) {
        struct buf message = {0};
        buf_printf(&message, "nothing is held by a LOCK with id %s", log_quote(buf_str(&r->text)));
        struct json j = request_begin(r, STATUS_LOST);
        json_put_string(&j, "code", STR_LIT("lost"));
        json_put_string(&j, "message", buf_str(&message));
        json_put_string(&j, "reason", STR_LIT("unknown"));
        buf_free(&message);
        request_end(r, STATUS_LOST, &j);
    } else if (may_all_found(r)) {
        r->total = 0;
        next_of_id(r);
    }
}

/* All were asked for: the worst that was said of any counts, and is said. */
static void answer_id(struct request *r)
{
    if (r->outcome == OUTCOME_LOST) {
        buf_clear(&r->rows); /* of what was found: what is said of the loss is gathered there */
        query_lost_again(r);
        return;
    }
    if (r->outcome != OUTCOME_OK) {
        lock_refuse(r, (enum outcome)r->outcome);
        return;
    }
    struct json j = request_begin(r, STATUS_OK);
    const char *what = r->id_kind == OP_RENEW ? "ttl_ms" : "held_ms";
    json_put_int(&j, what, r->limit);
    json_put_int(&j, "locks", r->total);
    request_end(r, STATUS_OK, &j);
}

static void on_one_of_id(struct call *call)
{
    struct request *r = lock_take_call(call);
    int64_t number = call->op.kind == OP_RENEW ? call->ttl_ms : call->held_ms;
    note_outcome(r, call);
    if (call->outcome == OUTCOME_OK) {
        r->limit = r->total == 0 || number < r->limit ? number : r->limit;
        r->total++;
    } else if (r->outcome == OUTCOME_OK) {
        r->outcome = (int)call->outcome;
        r->token = call->token;
        buf_clear(&r->text);
        buf_put(&r->text, call->op.resource.p, call->op.resource.n);
        r->resource = buf_str(&r->text);
    }
    next_of_id(r);
}

static void next_of_id(struct request *r)
{
    struct call_texts texts = {0};
    if (r->rows_at == r->rows.len) {
        answer_id(r);
        return;
    }
    struct found f = take_found(r, &texts.resource);
    struct call *call = lock_make_call(r, r->id_kind, &texts, on_one_of_id);
    call->op.number = f.token;
    call->op.ttl_ms = r->waited_ms; /* the TTL that was asked for */
    if (call->op.kind == OP_RELEASE)
        r->held = conn_holds_not(r->conn, texts.resource, f.token);
    locks_release_or_renew(call);
}

static void find_id(struct request *r)
{
    query_ask(r);
}

static void by_id(struct request *r, const struct wire_request *w, enum op_kind kind,
                  int64_t ttl_ms)
{
    struct str id, owner;
    if (!arg_text(r, w, "id", 1, ID_BYTES_MAX, &id) ||
        !arg_text(r, w, "owner", 0, OWNER_BYTES_MAX, &owner))
        return;
    r->id_kind = kind;
    r->outcome = OUTCOME_OK;
    r->waited_ms = ttl_ms;
    buf_put(&r->text, id.p, id.n);
    r->ask = (struct ask){
        .questions = 1, .question = {ASK_BY_ID}, .rows = on_id_rows, .done = on_id_found};
    link_param_text(&r->ask.params[0], id);
    link_param_text(&r->ask.params[0], owner.p ? owner : buf_str(&r->conn->name));
    link_param_text(&r->ask.params[0], conn_identity(r->conn));
    request_start(r, true, find_id);
}

static void release_or_renew(struct request *r, const struct wire_request *w, enum op_kind kind)
{
    int64_t ttl_ms = OP_TTL_SAME;
    bool has_id = wire_value(w, "id") != NULL;
    if (kind == OP_RENEW && !arg_ttl(r, w, OP_TTL_SAME, &ttl_ms))
        return;
    if (has_id == (w->nargs == 1) || (has_id && wire_value(w, "token")) ||
        (!has_id && wire_value(w, "owner")))
        request_fail(r, STATUS_ERR, "bad_request", "usage: %s", verb_usage(r->verb));
    else if (has_id)
        by_id(r, w, kind, ttl_ms);
    else
        by_token(r, w, kind, ttl_ms);
}

void verb_unlock(struct request *r, const struct wire_request *w)
{
    release_or_renew(r, w, OP_RELEASE);
}

void verb_renew(struct request *r, const struct wire_request *w)
{
    release_or_renew(r, w, OP_RENEW);
}

/* --- TRANSFER --- */

static void on_transfer_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = container_of(a, struct request, ask);
    struct str status = link_text(rows, 0, 0);
    (void)question;
    r->total = status.n == 1 ? status.p[0] : 0;
    r->limit = link_int(rows, 0, 1);
}

static void on_transferred(struct ask *a, bool ok)
{
    if (ok && container_of(a, struct request, ask)->total == 'g')
        count_ended(LEASE_SUPERSEDED, 1);
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        request_fail(r, STATUS_ERR, "outcome_unknown",
                     "it may have been done or not: LOST at the next RENEW tells that it was");
    } else if (r->total == 'g') {
        service_saw(r->conn->server->o.service, r->limit, r->conn->server->o.settings->ttl_ms, 0);
        conn_holds_not(r->conn, r->resource, r->token);
        conn_unbind(r->conn, r->resource, r->token);
        struct json j = request_begin(r, STATUS_OK);
        json_put_int(&j, "token", r->limit);
        request_end(r, STATUS_OK, &j);
    } else if (r->total == 'd') {
        lock_refuse(r, OUTCOME_DENIED);
    } else if (r->total == 's') {
        session_lost(r, r->session, (struct str){0}, -1);
    } else if (r->total == 'r') {
        lock_refuse(r, OUTCOME_UNAVAILABLE);
    } else if (r->total == 'f') {
        lock_refuse(r, OUTCOME_FENCED);
    } else {
        query_lost_again(r);
    }
}

static void transfer_start(struct request *r)
{
    query_ask_writer(r);
}

/* to= is an owner, or session=ID: a lock that leaves its own hands for another's. */
void verb_transfer(struct request *r, const struct wire_request *w)
{
    const struct str as_it_is = {0};
    struct str resource, to;
    if (!arg_resource(r, w, 0, &resource) || !arg_token(r, w, &r->token) ||
        !arg_text(r, w, "to", 1, OWNER_BYTES_MAX, &to))
        return;
    const struct str in_session = STR_LIT("session=");
    bool session = to.p && to.n > in_session.n && memcmp(to.p, in_session.p, in_session.n) == 0;
    if (to.p == NULL) {
        request_fail(r, STATUS_ERR, "bad_request", "usage: %s", verb_usage(r->verb));
        return;
    }
    if (session &&
        !arg_session(r, (struct str){to.p + in_session.n, to.n - in_session.n}, &r->session))
        return;
    buf_put(&r->text, resource.p, resource.n);
    r->resource = buf_str(&r->text);
    r->ask = (struct ask){.questions = 1,
                          .question = {ASK_TRANSFER},
                          .rows = on_transfer_rows,
                          .done = on_transferred};
    struct link_params *p = &r->ask.params[0];
    link_param_text(p, resource);
    link_param_int8(p, r->token);
    link_param_text(p, session ? as_it_is : to);
    if (session)
        link_param_int8(p, r->session);
    else
        link_param_null(p);
    link_param_text(p, conn_identity(r->conn));
    link_param_int8(p, r->conn->server->o.settings->ttl_ms);
    request_start(r, true, transfer_start);
}
