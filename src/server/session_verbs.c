#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "pg/array.h"
#include "server/internal.h"
#include "service/counts.h"
#include "service/locks.h"

/*
 * SESSION. A connection that has opened or resumed a session need not show its secret again; what
 * it knows is forgotten when it closes, the session stands.
 */

enum {
    SECRET_RANDOM_BYTES = 16,
    SESSIONS_A_CONN = 1024, /* whose secret a connection need not show; the oldest is forgotten */
    LOCKS_SHOWN_MAX = 10000,
    OWNER_BYTES_MAX = 256,
    NOTE_BYTES_MAX = 1024,
    ID_BYTES_MAX = 64,
};

/* --- which sessions a connection may use without their secret --- */

static size_t sessions_of(const struct conn *c)
{
    return c->sessions.len / sizeof(int64_t);
}

static int64_t session_at(const struct conn *c, size_t i)
{
    int64_t session;
    memcpy(&session, c->sessions.data + i * sizeof(session), sizeof(session));
    return session;
}

bool conn_has_session(const struct conn *c, int64_t session)
{
    for (size_t i = 0; session != 0 && i < sessions_of(c); i++)
        if (session_at(c, i) == session)
            return true;
    return false;
}

static void conn_add_session(struct conn *c, int64_t session)
{
    if (conn_has_session(c, session))
        return;
    if (sessions_of(c) >= SESSIONS_A_CONN)
        buf_drop(&c->sessions, sizeof(session));
    buf_put(&c->sessions, &session, sizeof(session));
}

static void conn_drop_session(struct conn *c, int64_t session)
{
    struct buf left = {0};
    for (size_t i = 0; i < sessions_of(c); i++) {
        int64_t other = session_at(c, i);
        if (other != session)
            buf_put(&left, &other, sizeof(other));
    }
    buf_free(&c->sessions);
    c->sessions = left;
}

/* --- replies --- */

void session_put(struct json *j, int64_t session)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, session);
    json_put_string(j, "session", str_of(text));
}

void session_lost(struct request *r, int64_t session, struct str reason, int64_t lost_ms)
{
    struct buf message = {0};
    conn_drop_session(r->conn, session);
    buf_printf(&message, "session %" PRId64 " has ended, and all its locks with it", session);
    struct json j = request_begin(r, STATUS_LOST);
    json_put_string(&j, "code", STR_LIT("lost"));
    json_put_string(&j, "message", buf_str(&message));
    session_put(&j, session);
    json_put_string(&j, "reason", reason.p ? reason : STR_LIT("unknown"));
    if (lost_ms >= 0)
        json_put_int(&j, "lost_ms", lost_ms);
    buf_free(&message);
    request_end(r, STATUS_LOST, &j);
}

/* The secret is another one, or the session somebody else's: which, nobody is told. */
static void deny_secret(struct request *r)
{
    request_fail(r, STATUS_DENIED, "denied", "that is not the secret of session %" PRId64 "%s",
                 r->session, r->conn->identity ? ", or the session is another identity's" : "");
}

/* Without a secret, on a connection that has opened the session, nothing was guessed. */
static void deny(struct request *r)
{
    if (r->doubted)
        auth_refuse_secret(r, deny_secret);
    else
        deny_secret(r);
}

static void unknown(struct request *r)
{
    request_fail(r, STATUS_ERR, "outcome_unknown",
                 "the database did not answer in time: it may have been done or not; repeat it");
}

static void ask(struct request *r, struct reader *reader)
{
    if (r->shows_secret)
        auth_doubt(r);
    r->asking = true;
    reader_ask(reader, &r->ask, r->conn->server->o.settings->request_timeout_ms);
}

static void ask_writer(struct request *r)
{
    ask(r, service_writer(r->conn->server->o.service));
}

/* What came of it, and in the columns from reason_column on why not and since when. */
static void keep_status(struct request *r, const struct link_rows *rows, int reason_column)
{
    struct str status = link_text(rows, 0, 0);
    struct str reason = link_text(rows, 0, reason_column);
    r->total = status.n == 1 ? status.p[0] : 0;
    buf_clear(&r->text2);
    buf_put(&r->text2, reason.p, reason.n);
    r->waited_ms =
        link_is_null(rows, 0, reason_column + 1) ? -1 : link_int(rows, 0, reason_column + 1);
}

/* Answers all that is not done; true when it is. */
static bool was_done(struct request *r, bool ok)
{
    int64_t status = ok ? r->total : 0; /* r may be gone once it is answered */
    if (status != 'd')
        auth_clear(r);
    if (!ok)
        unknown(r);
    else if (status == 'd')
        deny(r);
    else if (status == 'f')
        request_fail(r, STATUS_ERR, "fenced",
                     "a transaction on the database holds on to a lock of session %" PRId64
                     "; nothing was done, try again when it has ended",
                     r->session);
    else if (status != 'g')
        session_lost(r, r->session, buf_str(&r->text2), r->waited_ms);
    return status == 'g';
}

/* --- OPEN --- */

static void on_open_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = container_of(a, struct request, ask);
    (void)question;
    r->session = link_is_null(rows, 0, 0) ? 0 : link_int(rows, 0, 0);
    r->repeated = link_int(rows, 0, 1) != 0;
}

static void on_opened(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        unknown(r);
        return;
    }
    if (r->session == 0) {
        count_limit_met(LIMIT_SESSIONS_PER_OWNER);
        request_fail(r, STATUS_ERR, "too_many_sessions",
                     "this owner has as many sessions as max_sessions_per_owner allows: close one "
                     "of them first");
        return;
    }
    conn_add_session(r->conn, r->session);
    struct json j = request_begin(r, STATUS_OK);
    session_put(&j, r->session);
    json_put_string(&j, "secret", buf_str(&r->text));
    json_put_int(&j, "ttl_ms", r->limit);
    if (r->repeated)
        json_put_bool(&j, "repeated", true);
    request_end(r, STATUS_OK, &j);
}

static bool make_secret(struct buf *out)
{
    unsigned char bytes[SECRET_RANDOM_BYTES];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return false;
    for (size_t i = 0; i < sizeof(bytes); i++)
        buf_printf(out, "%02x", bytes[i]);
    return true;
}

static bool arg_open(struct request *r, const struct wire_request *w, struct str *owner,
                     struct str *note, struct str *id)
{
    if (wire_value(w, "secret")) {
        request_fail(r, STATUS_ERR, "unknown_key",
                     "SESSION OPEN has no key secret=: it answers one");
        return false;
    }
    return arg_ttl(r, w, r->conn->server->o.settings->ttl_ms, &r->limit) &&
           arg_text(r, w, "owner", 0, OWNER_BYTES_MAX, owner) &&
           arg_text(r, w, "note", 0, NOTE_BYTES_MAX, note) &&
           arg_text(r, w, "id", 1, ID_BYTES_MAX, id);
}

static void verb_open(struct request *r, const struct wire_request *w)
{
    struct str owner, note, id;
    size_t max = r->conn->server->o.settings->max_sessions_per_owner;
    if (!arg_open(r, w, &owner, &note, &id))
        return;
    if (!make_secret(&r->text)) {
        request_fail(r, STATUS_ERR, "internal", "no random bytes for a secret");
        return;
    }
    r->ask = (struct ask){
        .questions = 1, .question = {ASK_SESSION_OPEN}, .rows = on_open_rows, .done = on_opened};
    struct link_params *p = &r->ask.params[0];
    service_saw(r->conn->server->o.service, 0, r->limit, 0);
    link_param_int8(p, r->limit);
    link_param_text(p, owner.p ? owner : buf_str(&r->conn->name));
    link_param_text(p, conn_identity(r->conn));
    link_param_text(p, note);
    link_param_text(p, id);
    link_param_text(p, buf_str(&r->text));
    if (max > 0)
        link_param_int4(p, (int32_t)max);
    else
        link_param_null(p);
    request_start(r, true, ask_writer);
}

/* --- KEEPALIVE --- */

static void on_renewed_rows(struct request *r, const struct link_rows *rows)
{
    keep_status(r, rows, 3);
    r->limit = link_int(rows, 0, 1);
    r->waiting = link_int(rows, 0, 2);
}

static void on_keepalive_rows(struct ask *a, int question, const struct link_rows *rows)
{
    (void)question;
    on_renewed_rows(container_of(a, struct request, ask), rows);
}

static void count_session_renewal(const struct ask *a, bool ok)
{
    int64_t status = container_of(a, struct request, ask)->total;
    count_renewal(RENEWED_SESSION, !ok             ? OUTCOME_UNKNOWN
                                   : status == 'g' ? OUTCOME_OK
                                   : status == 'd' ? OUTCOME_DENIED
                                                   : OUTCOME_LOST);
}

static void on_kept_alive(struct ask *a, bool ok)
{
    count_session_renewal(a, ok);
    struct request *r = query_take_ask(a);
    if (r == NULL || !was_done(r, ok))
        return;
    struct json j = request_begin(r, STATUS_OK);
    json_put_int(&j, "ttl_ms", r->limit);
    json_put_int(&j, "locks", r->waiting);
    request_end(r, STATUS_OK, &j);
}

/* --- CLOSE --- */

static void on_close_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = container_of(a, struct request, ask);
    struct array_reader pending;
    struct str resource;
    int length;
    (void)question;
    keep_status(r, rows, 2);
    r->limit = link_int(rows, 0, 1);
    const void *value = link_bytes(rows, 0, 4, &length);
    if (r->conn == NULL || !array_open(&pending, value, length))
        return; /* the janitor finds what is forgotten */
    while (array_next_text(&pending, &resource)) {
        buf_put(&r->more_rows, resource.p, resource.n);
        buf_putc(&r->more_rows, '\0');
    }
}

static void on_session_closed(struct ask *a, bool ok)
{
    const struct request *asked = container_of(a, struct request, ask);
    if (ok && asked->total == 'g')
        count_ended(LEASE_SESSION_CLOSED, asked->limit);
    struct request *r = query_take_ask(a);
    struct conn *c = r ? r->conn : NULL;
    int64_t session = r ? r->session : 0;
    if (r == NULL)
        return;
    if (!was_done(r, ok)) {
        conn_ends_session(c, session, false);
        return;
    }
    for (size_t at = 0; at < r->more_rows.len;) {
        struct str resource = str_of(r->more_rows.data + at);
        service_promote(r->conn->server->o.service, resource);
        at += resource.n + 1;
    }
    conn_drop_session(r->conn, r->session);
    struct json j = request_begin(r, STATUS_OK);
    json_put_int(&j, "released", r->limit);
    request_end(r, STATUS_OK, &j);
}

static void close_session(struct request *r)
{
    conn_ends_session(r->conn, r->session, true);
    ask_writer(r);
}

/* --- RESUME --- */

/* What it takes up stands in r->text, each a token, the length of its name, and the name. */
struct resumed {
    int64_t token;
    int64_t ttl_ms;
    bool bound;
    size_t n;
};

static void keep_resumed(struct request *r, const struct link_rows *rows, int row)
{
    struct str resource = link_text(rows, row, 0);
    struct resumed l = {.token = link_int(rows, row, 1),
                        .ttl_ms = link_int(rows, row, 5),
                        .bound = link_int(rows, row, 6) != 0,
                        .n = resource.n};
    buf_put(&r->text, &l, sizeof(l));
    buf_put(&r->text, resource.p, resource.n);
}

static void take_resumed(struct request *r)
{
    struct resumed l;
    for (size_t at = 0; at < r->text.len; at += sizeof(l) + l.n) {
        memcpy(&l, r->text.data + at, sizeof(l));
        struct str resource = {r->text.data + at + sizeof(l), l.n};
        conn_holds(r->conn, resource, l.token, l.ttl_ms, r->session);
        if (l.bound)
            conn_bind(r->conn, resource, l.token);
    }
}

static void put_lock(struct json *j, const struct link_rows *rows, int row, bool lost)
{
    json_begin_object(j);
    json_put_string(j, "resource", link_text(rows, row, 0));
    json_put_int(j, "token", link_int(rows, row, 1));
    if (lost) {
        json_put_string(j, "reason", link_text(rows, row, 4));
    } else {
        json_put_string(j, "mode", link_text(rows, row, 2));
        json_put_string(j, "scope", link_text(rows, row, 3));
        json_put_int(j, "ttl_ms", link_int(rows, row, 5));
    }
    json_end_object(j);
}

static void on_resume_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = container_of(a, struct request, ask);
    if (r->conn == NULL)
        return;
    if (question == 0) {
        on_renewed_rows(r, rows);
        return;
    }
    struct json held = json_to(&r->rows), lost = json_to(&r->more_rows);
    for (int i = 0; i < link_rows_count(rows); i++) {
        bool is_lost = !link_is_null(rows, i, 4);
        put_lock(is_lost ? &lost : &held, rows, i, is_lost);
        if (!is_lost)
            keep_resumed(r, rows, i);
    }
}

static void put_rows(struct json *j, const char *key, const struct buf *rows)
{
    json_key(j, key);
    json_begin_array(j);
    if (rows->len > 0)
        json_raw(j, buf_str(rows));
    json_end_array(j);
}

static void on_resumed(struct ask *a, bool ok)
{
    count_session_renewal(a, ok);
    struct request *r = query_take_ask(a);
    if (r == NULL || !was_done(r, ok))
        return;
    conn_add_session(r->conn, r->session);
    take_resumed(r);
    struct json j = request_begin(r, STATUS_OK);
    json_put_int(&j, "ttl_ms", r->limit);
    put_rows(&j, "locks", &r->rows);
    put_rows(&j, "lost", &r->more_rows);
    if (r->waiting > LOCKS_SHOWN_MAX)
        json_put_bool(&j, "more", true);
    request_end(r, STATUS_OK, &j);
}

/* --- LOCK session= --- */

static void on_allow_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct str status = link_text(rows, 0, 0);
    (void)question;
    container_of(a, struct request, ask)->total = status.n == 1 ? status.p[0] : 0;
}

/* Its call is answered already where it was cancelled meanwhile. */
static void on_allowed(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    bool allowed = ok && r->total == 'g';
    bool denied = ok && r->total == 'd';
    if (!denied || r->call == NULL)
        auth_clear(r);
    if (r->call == NULL) {
        request_release(r);
        return;
    }
    r->total = 0;
    buf_clear(&r->text); /* the secret: what comes gathers its own texts there */
    if (allowed) {
        r->allowed(r);
        return;
    }
    struct call *call = r->call;
    r->call = NULL;
    locks_abandon(call);
    if (!ok)
        request_fail(r, STATUS_ERR, "unavailable",
                     "the database could not be asked in time; nothing was done");
    else if (denied)
        deny(r);
    else
        session_lost(r, r->session, (struct str){0}, -1);
}

void session_check(struct request *r, int64_t session, void (*allowed)(struct request *r))
{
    r->session = session;
    r->shows_secret = true;
    r->allowed = allowed;
    r->ask = (struct ask){
        .questions = 1, .question = {ASK_SESSION_ALLOW}, .rows = on_allow_rows, .done = on_allowed};
    link_param_int8(&r->ask.params[0], session);
    link_param_text(&r->ask.params[0], buf_str(&r->text));
    link_param_text(&r->ask.params[0], conn_identity(r->conn));
    ask(r, service_reader(r->conn->server->o.service));
}

/* --- the verb --- */

static const struct action {
    const char *name;
    enum reader_question question;
    bool secret; /* also from a connection that has opened the session */
    void (*rows)(struct ask *a, int question, const struct link_rows *rows);
    void (*done)(struct ask *a, bool ok);
} actions[] = {
    {"KEEPALIVE", ASK_SESSION_RENEW, false, on_keepalive_rows, on_kept_alive},
    {"RESUME", ASK_SESSION_RESUME, true, on_resume_rows, on_resumed},
    {"CLOSE", ASK_SESSION_CLOSE, false, on_close_rows, on_session_closed},
};

static bool arg_action(struct request *r, const struct wire_request *w, const struct action *act,
                       struct str *secret)
{
    static const char *const others[] = {"ttl", "owner", "note", "id"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (wire_value(w, others[i])) {
            request_fail(r, STATUS_ERR, "unknown_key", "SESSION %s has no key %s=", act->name,
                         others[i]);
            return false;
        }
    if (w->nargs != 2) {
        request_fail(r, STATUS_ERR, "bad_request", "usage: SESSION %s ID [secret=S]", act->name);
        return false;
    }
    if (!arg_session(r, w->args[1], &r->session) ||
        !arg_text(r, w, "secret", 1, SECRET_BYTES_MAX, secret))
        return false;
    if (secret->p || (!act->secret && conn_has_session(r->conn, r->session)))
        return true;
    request_fail(r, STATUS_DENIED, "denied",
                 "secret= is needed: the one that SESSION OPEN answered");
    return false;
}

static void act(struct request *r, const struct wire_request *w, const struct action *act)
{
    struct str secret;
    if (!arg_action(r, w, act, &secret))
        return;
    bool resumes = act->done == on_resumed;
    r->shows_secret = secret.p != NULL;
    r->ask = (struct ask){.questions = resumes ? 2 : 1,
                          .question = {act->question, ASK_SESSION_LOCKS},
                          .rows = act->rows,
                          .done = act->done};
    link_param_int8(&r->ask.params[0], r->session);
    link_param_text(&r->ask.params[0], secret);
    link_param_text(&r->ask.params[0], conn_identity(r->conn));
    if (resumes) {
        link_param_int4(&r->ask.params[0], service_instance(r->conn->server->o.service));
        link_param_int8(&r->ask.params[0], (int64_t)r->conn->id);
        link_param_int8(&r->ask.params[1], r->session);
        link_param_int4(&r->ask.params[1], LOCKS_SHOWN_MAX);
    }
    /* A renewal must not stand behind a LOCK that waits. */
    request_start(r, act->question != ASK_SESSION_RENEW,
                  act->question == ASK_SESSION_CLOSE ? close_session : ask_writer);
}

void verb_session(struct request *r, const struct wire_request *w)
{
    if (str_is_nocase(w->args[0], "OPEN") && w->nargs == 1) {
        verb_open(r, w);
        return;
    }
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (str_is_nocase(w->args[0], actions[i].name)) {
            act(r, w, &actions[i]);
            return;
        }
    request_fail(r, STATUS_ERR, "bad_request",
                 "usage: SESSION OPEN [ttl=30s] [owner=NAME] [note=TEXT] [id=KEY], or "
                 "SESSION KEEPALIVE|RESUME|CLOSE ID [secret=S]");
}
