#include <inttypes.h>

#include "base/clock.h"
#include "server/internal.h"
#include "service/locks.h"
#include "wire/duration.h"
#include "wire/resource.h"

enum {
    OWNER_BYTES_MAX = 256,
    NOTE_BYTES_MAX = 1024,
    ID_BYTES_MAX = 64,
};

/* --- replies --- */

/* What is said of an outcome that needs no look at the database. */
static const struct {
    enum status status;
    const char *code;
    const char *message;
} refusals[OUTCOMES] = {
    [OUTCOME_DENIED] = {STATUS_DENIED, "denied", "another identity holds that lease"},
    [OUTCOME_CANCELLED] = {STATUS_ERR, "cancelled", "the request was cancelled"},
    [OUTCOME_SUPERSEDED] = {STATUS_ERR, "cancelled",
                            "another request with the same id took this one's place in the queue"},
    [OUTCOME_ID_MISMATCH] = {STATUS_ERR, "id_mismatch",
                             "this id was used with another resource, mode or session"},
    [OUTCOME_TOO_MANY] = {STATUS_ERR, "too_many_waiters",
                          "too many requests wait in this daemon, try again later"},
    [OUTCOME_DRAINING] = {STATUS_ERR, "unavailable",
                          "the daemon is stopping; nothing was done, ask another one"},
    [OUTCOME_UNAVAILABLE] = {STATUS_ERR, "unavailable",
                             "the database could not be asked in time; nothing was done"},
    [OUTCOME_UNKNOWN] = {STATUS_ERR, "outcome_unknown",
                         "it may have been done or not; repeat it, a LOCK with the same id"},
    [OUTCOME_INTERNAL] = {STATUS_ERR, "internal",
                          "the database refused it; the daemon's log says why"},
};

static void refuse(struct request *r, enum outcome outcome)
{
    request_fail(r, refusals[outcome].status, refusals[outcome].code, "%s",
                 refusals[outcome].message);
}

void reply_locked(struct request *r, const struct lock_grant *g)
{
    conn_holds(r->conn, g->resource, g->token, g->ttl_ms);
    struct json j = request_begin(r, STATUS_OK);
    json_key(&j, "locks");
    json_begin_array(&j);
    json_begin_object(&j);
    json_put_string(&j, "resource", g->resource);
    json_put_int(&j, "token", g->token);
    json_put_string(&j, "mode", g->exclusive ? STR_LIT("exclusive") : STR_LIT("shared"));
    json_put_string(&j, "scope", STR_LIT("node"));
    json_end_object(&j);
    json_end_array(&j);
    json_put_string(&j, "resource", g->resource);
    json_put_int(&j, "token", g->token);
    json_put_int(&j, "ttl_ms", g->ttl_ms);
    json_put_int(&j, "waited_ms", g->waited_ms);
    if (g->repeated)
        json_put_bool(&j, "repeated", true);
    if (g->session != 0)
        session_put(&j, g->session);
    request_end(r, STATUS_OK, &j);
}

static void reply_granted(struct request *r, const struct call *call)
{
    struct lock_grant grant = {call->op.resource,
                               call->token,
                               call->op.exclusive,
                               call->ttl_ms,
                               call->waited_ms,
                               call->repeated,
                               0};
    if (call->op.session != 0)
        query_locked(r, call);
    else
        reply_locked(r, &grant);
}

/* The request takes its answer; the call ends with this. */
static struct request *take_call(struct call *call)
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
    struct request *r = take_call(call);
    lock_limits_end(r, call);
    switch (call->outcome) {
    case OUTCOME_OK:
        reply_granted(r, call);
        break;
    case OUTCOME_LOST:
        session_lost(r, call->op.session, (struct str){0}, -1);
        break;
    case OUTCOME_BUSY:
        query_refusal(r, STATUS_BUSY, "busy", call->op.resource);
        break;
    case OUTCOME_GUARDED:
        query_refusal(r, STATUS_BUSY, "guarded", call->op.resource);
        break;
    case OUTCOME_QUIET:
        query_refusal(r, STATUS_BUSY, "quiet", call->op.resource);
        break;
    case OUTCOME_TIMEOUT:
        query_refusal(r, STATUS_TIMEOUT, "timeout", call->op.resource);
        break;
    default:
        refuse(r, call->outcome);
    }
}

/* Does the connection hold it now? An UNLOCK has made it forget the lease when it began. */
static void note_outcome(struct conn *c, const struct call *call)
{
    bool renewed = call->op.kind == OP_RENEW;
    if (call->outcome == OUTCOME_LOST)
        conn_holds_not(c, call->op.resource, call->token);
    else if (renewed ? call->outcome == OUTCOME_OK : call->outcome != OUTCOME_OK)
        conn_holds(c, call->op.resource, call->token, renewed ? call->ttl_ms : 0);
}

static void on_unlocked_or_renewed(struct call *call)
{
    struct request *r = take_call(call);
    note_outcome(r->conn, call);
    if (call->outcome == OUTCOME_LOST) {
        query_lost(r, call->op.resource, call->token);
    } else if (call->outcome == OUTCOME_OK) {
        struct json j = request_begin(r, STATUS_OK);
        if (call->op.kind == OP_RENEW)
            json_put_int(&j, "ttl_ms", call->ttl_ms);
        else
            json_put_int(&j, "held_ms", call->held_ms);
        request_end(r, STATUS_OK, &j);
    } else {
        refuse(r, call->outcome);
    }
}

/* --- requests --- */

static struct call *make_call(struct request *r, enum op_kind kind, const struct call_texts *texts,
                              void (*answered)(struct call *call))
{
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

static void start_release_or_renew(struct request *r)
{
    locks_release_or_renew(r->call);
}

bool arg_ttl(struct request *r, const struct wire_request *w, int64_t standard, int64_t *out)
{
    const struct settings *st = r->conn->server->o.settings;
    char min[24], max[24];
    if (!arg_duration(r, w, "ttl", false, standard, out))
        return false;
    if (*out == OP_TTL_SAME || (*out >= st->ttl_min_ms && *out <= st->ttl_max_ms))
        return true;
    request_fail(r, STATUS_ERR, "ttl_out_of_range", "ttl must be between %s and %s",
                 duration_format(st->ttl_min_ms, min), duration_format(st->ttl_max_ms, max));
    return false;
}

/* Values of known keys whose other values a later version brings. */
static bool check_later(struct request *r, bool node, bool lease, int64_t grace_ms)
{
    const char *what = !node           ? "scope=tree"
                       : !lease        ? "bind=connection"
                       : grace_ms != 0 ? "grace="
                                       : NULL;
    if (what == NULL)
        return true;
    request_fail(r, STATUS_ERR, "not_supported", "%s is not supported in this version", what);
    return false;
}

/* session= and secret=, and what cannot go with them. */
static bool arg_bound(struct request *r, const struct wire_request *w, const struct str *id,
                      int64_t *session, struct str *secret)
{
    if (!arg_text(r, w, "secret", 1, SECRET_BYTES_MAX, secret) ||
        (id && !arg_session(r, *id, session)))
        return false;
    if (id == NULL && secret->p) {
        request_fail(r, STATUS_ERR, "bad_request", "secret= needs session=");
    } else if (id && wire_value(w, "ttl")) {
        request_fail(r, STATUS_ERR, "bad_request",
                     "a lock in a session has the session's ttl: leave ttl= out");
    } else if (id && secret->p == NULL && !conn_has_session(r->conn, *session)) {
        request_fail(
            r, STATUS_DENIED, "denied",
            "secret= is needed: this connection has not opened or resumed session %" PRId64,
            *session);
    } else {
        return true;
    }
    return false;
}

static void start_bound(struct request *r)
{
    session_check(r, r->call->op.session, start_acquire);
}

void verb_lock(struct request *r, const struct wire_request *w)
{
    struct call_texts texts;
    bool exclusive, node, lease;
    int64_t ttl_ms, wait_ms, grace_ms, session = 0;
    struct str secret;
    const struct str *of_session = wire_value(w, "session");
    const struct conn *c = r->conn;
    if (!arg_choice(r, w, "mode", "exclusive", "shared", &exclusive) ||
        !arg_choice(r, w, "scope", "node", "tree", &node) ||
        !arg_choice(r, w, "bind", "lease", "connection", &lease) ||
        !arg_duration(r, w, "grace", false, 0, &grace_ms) ||
        !check_later(r, node, lease, grace_ms) || !arg_resource(r, w, 0, &texts.resource) ||
        !arg_ttl(r, w, c->server->o.settings->ttl_ms, &ttl_ms) ||
        !arg_duration(r, w, "wait", true, 0, &wait_ms) ||
        !arg_text(r, w, "owner", 0, OWNER_BYTES_MAX, &texts.owner) ||
        !arg_text(r, w, "note", 0, NOTE_BYTES_MAX, &texts.note) ||
        !arg_text(r, w, "id", 1, ID_BYTES_MAX, &texts.id) ||
        !arg_bound(r, w, of_session, &session, &secret))
        return;
    if (texts.owner.p == NULL)
        texts.owner = buf_str(&c->name);
    struct call *call = make_call(r, OP_ACQUIRE, &texts, on_locked);
    call->op.exclusive = exclusive;
    call->op.ttl_ms = session ? OP_TTL_SESSION : ttl_ms;
    call->op.session = session;
    call->wait_ms = wait_ms;
    if (session == 0 || conn_has_session(c, session)) {
        request_start(r, false, start_acquire);
    } else {
        buf_put(&r->text, secret.p, secret.n);
        request_start(r, true, start_bound);
    }
}

static void release_or_renew(struct request *r, const struct wire_request *w, enum op_kind kind)
{
    struct call_texts texts = {0};
    int64_t token, ttl_ms = OP_TTL_SAME;
    if (!arg_resource(r, w, 0, &texts.resource) || !arg_token(r, w, &token) ||
        (kind == OP_RENEW && !arg_ttl(r, w, OP_TTL_SAME, &ttl_ms)))
        return;
    struct call *call = make_call(r, kind, &texts, on_unlocked_or_renewed);
    call->op.number = token;
    call->op.ttl_ms = ttl_ms;
    if (kind == OP_RELEASE)
        conn_holds_not(r->conn, texts.resource, token);
    request_start(r, false, start_release_or_renew);
}

void verb_unlock(struct request *r, const struct wire_request *w)
{
    release_or_renew(r, w, OP_RELEASE);
}

void verb_renew(struct request *r, const struct wire_request *w)
{
    release_or_renew(r, w, OP_RENEW);
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
