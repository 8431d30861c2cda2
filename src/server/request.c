#include <stdarg.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "server/internal.h"
#include "service/locks.h"

static const char *const status_names[STATUS_COUNT] = {
#define X(id) [STATUS_##id] = #id,
    STATUSES(X)
#undef X
};

void server_register_metrics(void)
{
    static const char *const reasons[CLOSE_REASON_COUNT] = {
#define X(id, code, message) [CLOSE_##id] = code,
        CLOSE_REASONS(X)
#undef X
    };
    static const char *const refusals[] = {"too_many_connections", "no_descriptors",
                                           "too_many_of_address"};
    metrics_label_names(LABEL_STATUS, status_names, STATUS_COUNT);
    metrics_label_names(LABEL_CLOSE, reasons, CLOSE_REASON_COUNT);
    metrics_label_names(LABEL_REFUSAL, refusals, sizeof(refusals) / sizeof(refusals[0]));
    handshake_register_metrics();
    verbs_register_metrics();
    events_register_metrics();
    auth_register_metrics();
}

struct request *request_new(struct conn *c, struct str tag)
{
    struct request *r = xcalloc(1, sizeof(*r));
    r->conn = c;
    r->received_us = clock_mono_us();
    memcpy(r->tag, tag.p ? tag.p : "", tag.n);
    list_init(&r->at);
    list_init(&r->slowed);
    list_append(&c->requests, &r->at);
    c->inflight++;
    metric_add(M_REQUESTS_OPEN, 1);
    return r;
}

void request_release(struct request *r)
{
    if (r->call || r->rate_call || r->asking || !(r->answered || r->conn == NULL))
        return;
    if (r->conn) {
        r->conn->inflight--;
        metric_add(M_REQUESTS_OPEN, -1);
        r->conn->readers -= r->in_turn ? 1 : 0;
    }
    list_remove(&r->at);
    for (int i = 0; i < r->ask.questions; i++)
        link_params_free(&r->ask.params[i]);
    buf_free(&r->reply);
    buf_free(&r->slow);
    buf_free(&r->text);
    buf_free(&r->text2);
    buf_free(&r->rows);
    buf_free(&r->more_rows);
    free(r->grant);
    free(r);
}

/* An untagged request may be answered when every untagged one before it has been. */
static bool is_next(const struct request *r)
{
    for (const struct list *at = r->at.prev; at != &r->conn->requests; at = at->prev)
        if (container_of(at, struct request, at)->tag[0] == '\0')
            return false;
    return true;
}

static struct buf *reply_to(struct request *r)
{
    return r->tag[0] != '\0' || is_next(r) ? &r->conn->out : &r->reply;
}

struct json request_begin(struct request *r, enum status status)
{
    struct buf *out = reply_to(r);
    if (r->tag[0] != '\0') {
        buf_putc(out, '@');
        buf_puts(out, r->tag);
        buf_putc(out, ' ');
    }
    buf_puts(out, status_names[status]);
    buf_putc(out, ' ');
    struct json j = json_to(out);
    json_begin_object(&j);
    return j;
}

static void run(struct request *r)
{
    void (*start)(struct request *) = r->start;
    r->start = NULL;
    start(r);
}

void request_start(struct request *r, bool in_turn, void (*start)(struct request *r))
{
    bool untagged = r->tag[0] == '\0';
    bool wait = untagged && (r->conn->readers > 0 || in_turn) && !is_next(r);
    r->start = start;
    if (untagged && in_turn) {
        r->in_turn = true;
        r->conn->readers++;
    }
    if (!wait)
        run(r);
}

/* Moves on to the replies that have waited for this one. */
static void answer_followers(struct conn *c)
{
    while (!list_empty(&c->requests)) {
        struct request *next = NULL;
        list_for_each(at, &c->requests)
        {
            struct request *r = container_of(at, struct request, at);
            if (r->tag[0] == '\0') {
                next = r;
                break;
            }
        }
        if (next == NULL)
            return;
        if (next->start) {
            next->queued_us = clock_mono_us() - next->received_us;
            run(next);
            return;
        }
        if (!next->answered)
            return;
        buf_put(&c->out, next->reply.data, next->reply.len);
        request_release(next);
    }
}

void request_end(struct request *r, enum status status, struct json *j)
{
    struct conn *c = r->conn;
    bool untagged = r->tag[0] == '\0';
    bool written = j->out == &c->out;
    int64_t took_us = clock_mono_us() - r->received_us;
    json_end_object(j);
    buf_putc(j->out, '\n');
    metric_add2(M_REQUESTS, (unsigned)verb_index(r->verb), status, 1);
    metric_observe1_us(M_REQUEST_DURATION, (unsigned)verb_index(r->verb), took_us);
    slow_log_end(r, status_names[status], took_us);
    r->answered = true;
    conn_mark_dirty(c);
    if (!written)
        return;
    request_release(r);
    if (untagged)
        answer_followers(c);
}

void request_fail(struct request *r, enum status status, const char *code, const char *fmt, ...)
{
    struct buf message = {0};
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&message, fmt, ap);
    va_end(ap);
    struct json j = request_begin(r, status);
    json_put_string(&j, "code", str_of(code));
    json_put_string(&j, "message", buf_str(&message));
    buf_free(&message);
    request_end(r, status, &j);
}

struct request *request_by_tag(struct conn *c, struct str tag)
{
    if (tag.n == 0)
        return NULL;
    list_for_each(at, &c->requests)
    {
        struct request *r = container_of(at, struct request, at);
        if (str_is(tag, r->tag))
            return r;
    }
    return NULL;
}

void request_orphan(struct request *r)
{
    lock_limits_orphan(r);
    auth_clear(r);
    list_remove(&r->at);
    metric_add(M_REQUESTS_OPEN, -1);
    r->conn = NULL;
    if (r->call) {
        struct call *call = r->call;
        r->call = NULL;
        locks_abandon(call);
    }
    if (r->rate_call) {
        rates_abandon(r->rate_call);
        r->rate_call = NULL;
    }
    /* What writes must not come late: its client may have asked elsewhere meanwhile. */
    if (r->asking && reader_take_back(&r->ask))
        r->asking = false;
    request_release(r);
}

void request_end_input(struct request *r)
{
    if (r->call)
        locks_end_input(r->call);
}
