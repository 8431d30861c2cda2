#include <inttypes.h>
#include <stdlib.h>

#include "base/xalloc.h"
#include "pg/array.h"
#include "server/internal.h"
#include "service/counts.h"
#include "wire/resource.h"

enum {
    HOLDERS_MAX = 1000, /* shown of one resource */
    QUEUE_MAX = 1000,
    LIST_DEFAULT = 100,
    LIST_MAX = 1000, /* of the protocol; list_max may say less */
};

/* Columns of pglockd.holders(); those of pglockd.list_leases() begin with the resource instead. */
enum {
    H_ITEM,
    H_TOKEN,
    H_OWNER,
    H_MODE,
    H_SCOPE,
    H_TTL,
    H_HELD,
    H_NOTE,
    H_INSTANCE,
    H_CONN,
    H_LAST,
    H_SESSION,
    H_RESOURCE, /* not of list_leases() */
    H_SLOTS,
    H_WEIGHT,
    H_IDENTITY,
    H_LIST_IDENTITY = H_RESOURCE, /* of list_leases() */
};
/* Columns of pglockd.waiting(). */
enum { W_ITEM, W_OWNER, W_MODE, W_SCOPE, W_WAITING, W_PLACE, W_TOTAL, W_IDENTITY };

static int64_t timeout_ms(const struct request *r)
{
    return r->conn->server->o.settings->request_timeout_ms;
}

void query_ask(struct request *r)
{
    r->asking = true;
    reader_ask(service_reader(r->conn->server->o.service), &r->ask, timeout_ms(r));
}

void query_ask_writer(struct request *r)
{
    r->asking = true;
    reader_ask(service_writer(r->conn->server->o.service), &r->ask, timeout_ms(r));
}

static struct request *request_of(struct ask *a)
{
    return container_of(a, struct request, ask);
}

struct request *query_take_ask(struct ask *a)
{
    struct request *r = request_of(a);
    r->asking = false;
    if (r->conn)
        return r;
    request_release(r);
    return NULL;
}

static void unavailable(struct request *r)
{
    request_fail(r, STATUS_ERR, "unavailable",
                 "the database could not be asked in time; nothing was done");
}

/* --- rows to JSON --- */

/* Beside the owner, which is a label: who it is, where that is known. */
static void put_identity(struct json *j, struct str identity)
{
    if (identity.n > 0)
        json_put_string(j, "identity", identity);
}

/* Its resource and its identity stand in these columns. The object is not closed. */
static void put_holder(const struct request *r, struct json *j, const struct link_rows *rows,
                       int row, int resource_column, int identity_column)
{
    const struct conn *c = r->conn;
    struct str resource = link_text(rows, row, resource_column);
    json_begin_object(j);
    json_put_string(j, "resource", resource);
    json_put_string(j, "owner", link_text(rows, row, H_OWNER));
    put_identity(j, link_text(rows, row, identity_column));
    json_put_string(j, "mode", link_text(rows, row, H_MODE));
    json_put_string(j, "scope", link_text(rows, row, H_SCOPE));
    lease_put_ttl(j, link_is_null(rows, row, H_TTL) ? OP_TTL_NONE : link_int(rows, row, H_TTL));
    json_put_int(j, "held_ms", link_int(rows, row, H_HELD));
    json_key(j, "note");
    if (link_is_null(rows, row, H_NOTE))
        json_null(j);
    else
        json_string(j, link_text(rows, row, H_NOTE));
    json_put_bool(j, "self",
                  (link_int(rows, row, H_INSTANCE) == service_instance(c->server->o.service) &&
                   link_int(rows, row, H_CONN) == (int64_t)c->id) ||
                      conn_has_session(c, link_int(rows, row, H_SESSION)));
    if (conn_may(c, RIGHT_FORCE, resource, false))
        json_put_int(j, "token", link_int(rows, row, H_TOKEN));
}

static void put_slots(struct json *j, const struct link_rows *rows, int row)
{
    if (link_is_null(rows, row, H_SLOTS))
        return;
    json_put_int(j, "limit", link_int(rows, row, H_SLOTS));
    json_put_int(j, "weight", link_int(rows, row, H_WEIGHT));
}

/*
 * The rows of pglockd.holders() that the client may read: a tree that it may not read may be in the
 * way, too. Says in r->hidden that some were left out, which then are not counted either. The first
 * that it may read; -1: none.
 */
static int put_holders(struct request *r, const struct link_rows *rows)
{
    struct json j = json_to(&r->rows);
    int first = -1, shown = 0, n = link_rows_count(rows);
    for (int i = 0; i < n; i++) {
        if (!conn_may(r->conn, RIGHT_READ, link_text(rows, i, H_RESOURCE), false))
            continue;
        first = shown++ == 0 ? i : first;
        put_holder(r, &j, rows, i, H_RESOURCE, H_IDENTITY);
        put_slots(&j, rows, i);
        json_end_object(&j);
    }
    r->hidden |= shown < n;
    r->total = shown < n ? shown : link_int(rows, 0, H_LAST);
    return first;
}

static void put_waiter(struct json *j, const struct link_rows *rows, int row)
{
    json_begin_object(j);
    json_put_string(j, "owner", link_text(rows, row, W_OWNER));
    put_identity(j, link_text(rows, row, W_IDENTITY));
    json_put_string(j, "mode", link_text(rows, row, W_MODE));
    json_put_string(j, "scope", link_text(rows, row, W_SCOPE));
    json_put_int(j, "waiting_ms", link_int(rows, row, W_WAITING));
    json_put_int(j, "position", link_int(rows, row, W_PLACE));
    json_end_object(j);
}

/* Rows that were gathered as JSON, as the array of a key. */
static void put_rows(struct json *j, const char *key, const struct buf *rows)
{
    json_key(j, key);
    json_begin_array(j);
    if (rows->len > 0)
        json_raw(j, buf_str(rows));
    json_end_array(j);
}

static void keep_resource(struct request *r, struct str resource)
{
    buf_put(&r->text, resource.p, resource.n);
    r->resource = buf_str(&r->text);
}

/* --- BUSY and TIMEOUT: who holds it --- */

static void on_refusal_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = request_of(a);
    if (r->conn == NULL || link_rows_count(rows) == 0)
        return;
    if (question == 1) {
        r->waiting = link_int(rows, 0, W_TOTAL);
        return;
    }
    int first = put_holders(r, rows);
    if (first < 0)
        return;
    struct str owner = link_text(rows, first, H_OWNER), note = link_text(rows, first, H_NOTE);
    struct str resource = link_text(rows, first, H_RESOURCE);
    buf_put(&r->text2, owner.p, owner.n);
    buf_put(&r->text2, note.p, note.n);
    r->first_owner = (struct str){r->text2.data, owner.n};
    r->first_note = (struct str){r->text2.data + owner.n, note.n};
    r->first_held_ms = link_int(rows, first, H_HELD);
    buf_clear(&r->text); /* what is in the way may be another resource than what was asked for */
    keep_resource(r, resource);
}

static void put_refusal_message(struct request *r, struct buf *out)
{
    buf_put(out, r->resource.p, r->resource.n);
    if (str_is(str_of(r->code), "quiet")) {
        buf_puts(out, " cannot be granted yet: the service has just come back and grants nothing "
                      "for now");
    } else if (str_is(str_of(r->code), "guarded")) {
        buf_puts(out, " cannot be decided: a transaction on the database keeps its guard");
    } else if (r->total == 0) {
        buf_puts(out, r->hidden ? " is held by others" : " was held by others a moment ago");
    } else {
        buf_puts(out, " is held by ");
        if (r->first_owner.n > 0)
            buf_put(out, r->first_owner.p, r->first_owner.n);
        else
            buf_puts(out, "a client without a name");
        if (r->hidden)
            buf_puts(out, " and others");
        else if (r->total > 1)
            buf_printf(out, " and %" PRId64 " more", r->total - 1);
        else if (r->first_note.n > 0)
            buf_printf(out, " (%.*s)", (int)r->first_note.n, r->first_note.p);
        buf_printf(out, " for %" PRId64 " s", r->first_held_ms / 1000);
    }
    if (!r->hidden)
        buf_printf(out, ", %" PRId64 " waiting", r->waiting);
}

static void refuse(struct request *r)
{
    struct buf message = {0};
    put_refusal_message(r, &message);
    struct json j = request_begin(r, r->refusal);
    json_put_string(&j, "code", str_of(r->code));
    json_put_string(&j, "message", buf_str(&message));
    json_put_string(&j, "resource", r->resource);
    put_rows(&j, "holders", &r->rows);
    if (r->hidden) {
        json_put_bool(&j, "hidden", true);
    } else {
        json_put_int(&j, "holders_total", r->total);
        if (r->total > HOLDERS_MAX)
            json_put_bool(&j, "more", true);
        json_put_int(&j, "waiting", r->waiting);
    }
    buf_free(&message);
    request_end(r, r->refusal, &j);
}

static void on_refusal(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    (void)ok; /* the refusal is true without its details, too */
    if (r)
        refuse(r);
}

/* Of all that op asks for; without op, of r->resource. */
static void put_claim(struct link_params *p, struct str resource, const struct op *op)
{
    struct array_writer w;
    link_param_open(p);
    array_begin(&w, &p->bytes, PG_TEXT);
    if (op == NULL)
        array_put_text(&w, resource);
    for (size_t i = 0; op && i < op_resources(op); i++)
        array_put_text(&w, op_resource(op, i));
    array_end(&w);
    link_param_close(p);
    link_param_open(p);
    array_begin(&w, &p->bytes, PG_BOOL);
    for (size_t i = 0; op && i < op->nmembers; i++)
        array_put_bool(&w, op->members[i].tree);
    array_end(&w);
    link_param_close(p);
}

static void ask_holders(struct request *r, const struct op *op, int waiters_max)
{
    struct ask *a = &r->ask;
    *a = (struct ask){.questions = 2, .question = {ASK_HOLDERS, ASK_WAITING}};
    put_claim(&a->params[0], r->resource, op);
    link_param_int4(&a->params[0], HOLDERS_MAX);
    link_param_text_array1(&a->params[1], r->resource);
    link_param_int4(&a->params[1], waiters_max);
}

void query_refusal(struct request *r, enum status status, const char *code, const struct op *op)
{
    r->refusal = status;
    r->code = code;
    keep_resource(r, op->resource);
    r->hidden = !conn_may(r->conn, RIGHT_READ, op->resource, false); /* who waits, at least */
    ask_holders(r, op, 0);
    r->ask.rows = on_refusal_rows;
    r->ask.done = on_refusal;
    query_ask(r);
}

/* --- DEADLOCK --- */

/* Columns of pglockd.deadlock_cycle(). */
enum { D_PARTY, D_RESOURCE, D_OWNER };

static void on_cycle_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = request_of(a);
    struct json j = json_to(&r->rows);
    (void)question;
    for (int i = 0; r->conn && i < link_rows_count(rows); i++) {
        if (!conn_may(r->conn, RIGHT_READ, link_text(rows, i, D_RESOURCE), false)) {
            r->hidden = true;
            continue;
        }
        json_begin_object(&j);
        json_put_string(&j, "party", link_text(rows, i, D_PARTY));
        json_put_string(&j, "resource", link_text(rows, i, D_RESOURCE));
        json_key(&j, "owner");
        if (link_is_null(rows, i, D_OWNER))
            json_null(&j);
        else
            json_string(&j, link_text(rows, i, D_OWNER));
        json_end_object(&j);
    }
}

static void on_cycle(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    struct buf message = {0};
    (void)ok; /* the refusal is true without its details, too */
    if (r == NULL)
        return;
    buf_printf(&message,
               "waiting for %.*s was refused: those who hold it wait, in turn, for what this "
               "client holds",
               (int)r->resource.n, r->resource.p);
    struct json j = request_begin(r, STATUS_DEADLOCK);
    json_put_string(&j, "code", STR_LIT("deadlock"));
    json_put_string(&j, "message", buf_str(&message));
    json_put_string(&j, "resource", r->resource);
    put_rows(&j, "cycle", &r->rows);
    if (r->hidden)
        json_put_bool(&j, "hidden", true);
    buf_free(&message);
    request_end(r, STATUS_DEADLOCK, &j);
}

void query_deadlock(struct request *r, const struct op *op)
{
    keep_resource(r, op->resource);
    r->ask = (struct ask){
        .questions = 1, .question = {ASK_DEADLOCK}, .rows = on_cycle_rows, .done = on_cycle};
    link_param_int4(&r->ask.params[0], service_instance(r->conn->server->o.service));
    link_param_int8(&r->ask.params[0], (int64_t)op->request_id);
    query_ask(r);
}

/* --- LOST --- */

enum { L_REASON, L_LOST_MS, L_DETAIL, L_HELD_BY };

/* How a person is told; what left no trace was released, or has been forgotten. */
static const char *reason_sentence(struct str reason)
{
    static const struct {
        const char *reason;
        const char *sentence;
    } table[] = {
        {"expired", "its TTL ran out"},
        {"forced", "an administrator ended it"},
        {"session_closed", "its session was closed"},
        {"connection_closed", "the connection closed that it was bound to"},
        {"superseded", "it was given to somebody else"},
        {"failover", "the database failed over"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (str_is(reason, table[i].reason))
            return table[i].sentence;
    return "it was released, or ended long ago";
}

static void on_lost_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = request_of(a);
    struct json j = json_to(&r->rows);
    (void)question;
    if (r->conn == NULL)
        return;
    struct str reason = link_text(rows, 0, L_REASON), detail = link_text(rows, 0, L_DETAIL);
    buf_puts(&r->text2, reason_sentence(reason));
    if (detail.n > 0) {
        buf_puts(&r->text2, ", ");
        buf_put(&r->text2, detail.p, detail.n);
    }
    j.comma = true;
    json_put_string(&j, "reason", reason);
    if (!link_is_null(rows, 0, L_LOST_MS))
        json_put_int(&j, "lost_ms", link_int(rows, 0, L_LOST_MS));
    if (detail.n > 0)
        json_put_string(&j, "detail", detail);
    if (!link_is_null(rows, 0, L_HELD_BY) && conn_may(r->conn, RIGHT_READ, r->resource, false))
        json_put_string(&j, "held_by", link_text(rows, 0, L_HELD_BY));
}

static void on_lost(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    struct buf message = {0};
    if (r == NULL)
        return;
    buf_printf(&message, "token %" PRId64 " does not hold %.*s", r->token, (int)r->resource.n,
               r->resource.p);
    if (r->text2.len > 0)
        buf_printf(&message, ": %.*s", (int)r->text2.len, r->text2.data);
    struct json j = request_begin(r, STATUS_LOST);
    json_put_string(&j, "code", STR_LIT("lost"));
    json_put_string(&j, "message", buf_str(&message));
    if (ok && r->rows.len > 0)
        buf_put(j.out, r->rows.data, r->rows.len);
    else
        json_put_string(&j, "reason", STR_LIT("unknown"));
    buf_free(&message);
    request_end(r, STATUS_LOST, &j);
}

void query_lost(struct request *r, struct str resource, int64_t token)
{
    r->token = token;
    keep_resource(r, resource);
    r->ask = (struct ask){.questions = 1, .question = {ASK_LOST}};
    link_param_text(&r->ask.params[0], resource);
    link_param_int8(&r->ask.params[0], token);
    link_param_text(&r->ask.params[0], conn_identity(r->conn));
    r->ask.rows = on_lost_rows;
    r->ask.done = on_lost;
    query_ask(r);
}

void query_lost_again(struct request *r)
{
    struct buf resource = r->text;
    r->text = (struct buf){0};
    query_lost(r, buf_str(&resource), r->token);
    buf_free(&resource);
}

/* --- CHECK --- */

enum { CHECK_LOST, CHECK_DENIED, CHECK_HOLDS };

static void on_check_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = request_of(a);
    (void)question;
    r->total = link_is_null(rows, 0, 0)    ? CHECK_LOST
               : link_int(rows, 0, 2) != 0 ? CHECK_HOLDS
                                           : CHECK_DENIED;
    r->limit = link_int(rows, 0, 1);
}

static void on_checked(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        unavailable(r);
    } else if (r->total == CHECK_DENIED) {
        lock_refuse(r, OUTCOME_DENIED);
    } else if (r->total == CHECK_LOST) {
        query_lost_again(r);
    } else {
        struct json j = request_begin(r, STATUS_OK);
        lease_put_ttl(&j, r->limit);
        request_end(r, STATUS_OK, &j);
    }
}

static void check_start(struct request *r)
{
    r->ask = (struct ask){.questions = 1, .question = {ASK_CHECK}};
    link_param_text_array1(&r->ask.params[0], r->resource);
    link_param_int8_array1(&r->ask.params[0], r->token);
    link_param_text_array1(&r->ask.params[0], conn_identity(r->conn));
    r->ask.rows = on_check_rows;
    r->ask.done = on_checked;
    query_ask(r);
}

void verb_check(struct request *r, const struct wire_request *w)
{
    struct str resource;
    if (!arg_resource(r, w, 0, &resource) || !arg_token(r, w, &r->token))
        return;
    keep_resource(r, resource);
    request_start(r, true, check_start);
}

/* --- what is left of a LOCK's session --- */

static void on_locked_checked(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        request_fail(r, STATUS_ERR, "outcome_unknown",
                     "it may have been done or not; repeat it, a LOCK with the same id");
    } else if (r->total != CHECK_HOLDS) {
        if (r->session != 0)
            session_lost(r, r->session, (struct str){0}, -1);
        else
            query_lost_again(r);
    } else {
        r->grant->ttl_ms = r->limit;
        reply_locked(r, r->grant);
    }
}

void query_locked(struct request *r, const struct lock_grant *g)
{
    keep_resource(r, g->resource);
    r->token = g->token;
    r->session = g->session;
    r->grant = xmalloc(sizeof(*r->grant));
    *r->grant = *g;
    r->grant->resource = r->resource;
    check_start(r);
    r->ask.done = on_locked_checked;
}

/* --- INFO --- */

/* One resource at a time; resources are in text, each with a NUL behind it. */
static void info_next(struct request *r);

static void on_info_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = request_of(a);
    struct json j = json_to(&r->more_rows);
    if (r->conn == NULL || link_rows_count(rows) == 0)
        return;
    if (question == 0) {
        put_holders(r, rows);
        return;
    }
    r->waiting = link_int(rows, 0, W_TOTAL);
    for (int i = 0; i < link_rows_count(rows); i++)
        put_waiter(&j, rows, i);
}

static void put_info(struct request *r, struct json *j)
{
    put_rows(j, "holders", &r->rows);
    json_put_int(j, "holders_total", r->total);
    if (r->hidden)
        json_put_bool(j, "hidden", true);
    put_rows(j, "queue", &r->more_rows);
    json_put_int(j, "waiting", r->waiting);
}

static void on_info(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        unavailable(r);
        return;
    }
    struct json one = json_to(&r->text2);
    one.comma = r->text2.len > 0;
    json_begin_object(&one);
    json_put_string(&one, "resource", r->resource);
    put_info(r, &one);
    json_end_object(&one);
    const char *next = r->resource.p + r->resource.n + 1;
    bool last = next == r->text.data + r->text.len;
    if (!last) {
        r->resource = str_of(next);
        buf_clear(&r->rows);
        buf_clear(&r->more_rows);
        r->total = r->waiting = 0;
        r->hidden = false;
        info_next(r);
        return;
    }
    bool alone = r->resource.p == r->text.data;
    struct json j = request_begin(r, STATUS_OK);
    json_key(&j, "resources");
    json_begin_array(&j);
    json_raw(&j, buf_str(&r->text2));
    json_end_array(&j);
    if (alone)
        put_info(r, &j);
    request_end(r, STATUS_OK, &j);
}

static void info_next(struct request *r)
{
    ask_holders(r, NULL, QUEUE_MAX);
    r->ask.rows = on_info_rows;
    r->ask.done = on_info;
    query_ask(r);
}

void verb_info(struct request *r, const struct wire_request *w)
{
    for (size_t i = 0; i < w->nargs; i++) {
        struct str resource;
        if (!arg_resource(r, w, i, &resource))
            return;
        buf_put(&r->text, resource.p, resource.n);
        buf_putc(&r->text, '\0');
    }
    r->resource = str_of(r->text.data);
    request_start(r, true, info_next);
}

/* --- LIST --- */

static void on_list_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = request_of(a);
    int n = link_rows_count(rows);
    struct json j = json_to(&r->rows);
    (void)question;
    if (r->conn == NULL)
        return;
    for (int i = 0; i < n && i < r->limit; i++) {
        put_holder(r, &j, rows, i, H_ITEM, H_LIST_IDENTITY);
        json_put_string(&j, "granted_at", link_text(rows, i, H_LAST));
        json_end_object(&j);
    }
    if (n > r->limit) { /* one more than asked: there is a next page */
        struct str resource = link_text(rows, (int)r->limit - 1, H_ITEM);
        buf_printf(&r->text2, "%" PRId64 ":%.*s", link_int(rows, (int)r->limit - 1, H_TOKEN),
                   (int)resource.n, resource.p);
    }
}

static void on_list(struct ask *a, bool ok)
{
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        unavailable(r);
        return;
    }
    struct json j = request_begin(r, STATUS_OK);
    put_rows(&j, "locks", &r->rows);
    json_key(&j, "next");
    if (r->text2.len > 0)
        json_string(&j, buf_str(&r->text2));
    else
        json_null(&j);
    request_end(r, STATUS_OK, &j);
}

static void list_start(struct request *r)
{
    query_ask(r);
}

/* What is to be listed: two arrays, of where ranges of resources begin and end. */
struct list_ranges {
    struct buf low, high; /* as arrays */
    struct array_writer lows, highs;
};

static void put_range(void *arg, struct str low, struct str high)
{
    struct list_ranges *ranges = arg;
    array_put_text(&ranges->lows, low);
    if (high.p)
        array_put_text(&ranges->highs, high);
    else
        array_put_null(&ranges->highs);
}

static void put_array(struct link_params *p, struct array_writer *w, struct buf *bytes)
{
    array_end(w);
    link_param_open(p);
    buf_put(&p->bytes, bytes->data, bytes->len);
    link_param_close(p);
    buf_free(bytes);
}

/* Of what lies at and beneath prefix (all, where its p is NULL), what the client may read. */
static void put_ranges(const struct conn *c, struct str prefix, struct link_params *p)
{
    struct list_ranges ranges = {0};
    array_begin(&ranges.lows, &ranges.low, PG_TEXT);
    array_begin(&ranges.highs, &ranges.high, PG_TEXT);
    if (c->server->identities == NULL)
        right_all_ranges(prefix, put_range, &ranges);
    else if (c->identity)
        right_set_ranges(&c->identity->rights, RIGHT_READ, prefix, put_range, &ranges);
    put_array(p, &ranges.lows, &ranges.low);
    put_array(p, &ranges.highs, &ranges.high);
}

/* A cursor is TOKEN:RESOURCE of the last row of the page before. */
static bool arg_cursor(struct request *r, const struct wire_request *w, struct str *resource,
                       int64_t *token)
{
    struct str s;
    if (!arg_text(r, w, "after", 0, RESOURCE_BYTES_MAX + 32, &s))
        return false;
    *resource = (struct str){0};
    *token = 0;
    if (s.p == NULL)
        return true;
    const char *colon = memchr(s.p, ':', s.n);
    char *end;
    if (colon != NULL) {
        *token = strtoll(s.p, &end, 10);
        *resource = (struct str){colon + 1, s.n - (size_t)(colon + 1 - s.p)};
        if (end == colon && *token > 0 && resource_check(*resource) == NULL)
            return true;
    }
    request_fail(r, STATUS_ERR, "bad_request", "after must be the \"next\" of an earlier LIST");
    return false;
}

void verb_list(struct request *r, const struct wire_request *w)
{
    struct str prefix, owner, after;
    int64_t after_token, session = 0;
    const struct str *of_session = wire_value(w, "session");
    const struct str *value = wire_value(w, "prefix");
    int64_t most = (int64_t)r->conn->server->o.settings->list_max;
    if (!arg_number(r, w, "limit", 1, LIST_MAX, most < LIST_DEFAULT ? most : LIST_DEFAULT,
                    &r->limit) ||
        !arg_text(r, w, "owner", 0, 256, &owner) || !arg_cursor(r, w, &after, &after_token) ||
        (of_session && !arg_session(r, *of_session, &session)))
        return;
    if (r->limit > most) {
        count_limit_met(LIMIT_LIST);
        request_fail(r, STATUS_ERR, "bad_request",
                     "limit must be a whole number from 1 to %" PRId64 ", not %" PRId64, most,
                     r->limit);
        return;
    }
    prefix = value ? *value : (struct str){0};
    const char *wrong = value ? resource_check(prefix) : NULL;
    if (wrong) {
        request_fail(r, STATUS_ERR, "bad_resource", "prefix: %s", wrong);
        return;
    }
    r->ask = (struct ask){.questions = 1, .question = {ASK_LIST}};
    struct link_params *p = &r->ask.params[0];
    put_ranges(r->conn, prefix, p);
    link_param_text(p, owner);
    link_param_text(p, after);
    link_param_int8(p, after_token);
    link_param_int4(p, (int32_t)r->limit + 1);
    if (of_session)
        link_param_int8(p, session);
    else
        link_param_null(p);
    r->ask.rows = on_list_rows;
    r->ask.done = on_list;
    request_start(r, true, list_start);
}
