#include <stdlib.h>

#include "base/xalloc.h"
#include "server/internal.h"
#include "service/counts.h"
#include "service/watch.h"

/*
 * WATCH and UNWATCH. A connection has a watcher for each of its prefixes; the events of each are
 * told with the prefix, and begin behind the reply.
 */

enum { WATCHES_MAX = 100 }; /* of one connection */

struct conn_watch {
    struct list at; /* in the connection's watches */
    struct conn *conn;
    struct watcher *watcher;
    struct request *request; /* WATCH, until it is answered */
};

static void watch_free(struct conn_watch *cw)
{
    list_remove(&cw->at);
    watcher_free(cw->watcher);
    free(cw);
}

static struct conn_watch *find(const struct conn *c, struct str prefix, size_t *count)
{
    struct conn_watch *found = NULL;
    *count = 0;
    list_for_each(at, &c->watches)
    {
        struct conn_watch *cw = container_of(at, struct conn_watch, at);
        (*count)++;
        if (str_eq(watcher_prefix(cw->watcher), prefix))
            found = cw;
    }
    return found;
}

/* --- what the watcher says --- */

static void put_seq(struct request *r, int64_t seq)
{
    struct json j = request_begin(r, STATUS_OK);
    json_put_int(&j, "seq", seq);
    request_end(r, STATUS_OK, &j);
}

static void on_started(void *arg, bool ok, int64_t seq)
{
    struct conn_watch *cw = arg;
    struct request *r = cw->request;
    cw->request = NULL;
    if (ok) {
        put_seq(r, seq);
        return;
    }
    watch_free(cw);
    request_fail(r, STATUS_ERR, "unavailable",
                 "the database could not be asked in time; the prefix is not watched");
}

static bool on_event(void *arg, const struct watch_event *e)
{
    const struct conn_watch *cw = arg;
    return conn_tell_event(cw->conn, watcher_prefix(cw->watcher), e);
}

static void on_gap(void *arg, int64_t seq, struct str code)
{
    const struct conn_watch *cw = arg;
    conn_tell_watch_gap(cw->conn, watcher_prefix(cw->watcher), seq, code);
}

/* --- the verbs --- */

static void watch_start(struct request *r)
{
    static const struct watch_callbacks callbacks = {on_started, on_event, on_gap};
    struct conn *c = r->conn;
    struct str prefix = buf_str(&r->text);
    size_t count;
    struct conn_watch *cw = find(c, prefix, &count);
    if (cw && cw->request) {
        request_fail(r, STATUS_ERR, "bad_request", "an earlier WATCH of %.*s is not answered yet",
                     (int)prefix.n, prefix.p);
        return;
    }
    if (cw) /* it begins anew where this one says */
        watch_free(cw);
    else if (count == WATCHES_MAX) {
        count_limit_met(LIMIT_WATCHES);
        request_fail(r, STATUS_ERR, "too_many_watches",
                     "a connection may watch %d prefixes: watch one above them, or UNWATCH one",
                     WATCHES_MAX);
        return;
    }
    cw = xcalloc(1, sizeof(*cw));
    *cw = (struct conn_watch){.conn = c, .request = r};
    list_init(&cw->at);
    cw->watcher = watcher_new(c->server->o.service, prefix, r->limit, &callbacks, cw);
    if (cw->watcher == NULL) {
        free(cw);
        count_limit_met(LIMIT_WATCHES);
        request_fail(r, STATUS_ERR, "too_many_watches",
                     "%zu prefixes are watched through this daemon (max_watches): try another one",
                     c->server->o.settings->max_watches);
        return;
    }
    list_append(&c->watches, &cw->at);
}

void verb_watch(struct request *r, const struct wire_request *w)
{
    struct str prefix;
    if (!arg_resource(r, w, 0, &prefix) || !request_may(r, prefix, true) ||
        !arg_number(r, w, "after", 0, (INT64_C(1) << 53) - 1, -1, &r->limit))
        return;
    buf_put(&r->text, prefix.p, prefix.n);
    request_start(r, true, watch_start);
}

static void unwatch(struct request *r)
{
    struct str prefix = buf_str(&r->text);
    size_t count;
    struct conn_watch *cw = find(r->conn, prefix, &count);
    if (cw == NULL || cw->request) {
        request_fail(r, STATUS_ERR, "not_watched", "this connection does not watch %.*s",
                     (int)prefix.n, prefix.p);
        return;
    }
    int64_t seq = watcher_seq(cw->watcher);
    watch_free(cw);
    put_seq(r, seq);
}

void verb_unwatch(struct request *r, const struct wire_request *w)
{
    struct str prefix;
    if (!arg_resource(r, w, 0, &prefix))
        return;
    buf_put(&r->text, prefix.p, prefix.n);
    request_start(r, true, unwatch);
}

void conn_watches_go_on(struct conn *c)
{
    list_for_each(at, &c->watches) watcher_go_on(container_of(at, struct conn_watch, at)->watcher);
}

void conn_watches_end(struct conn *c)
{
    list_for_each(at, &c->watches) watch_free(container_of(at, struct conn_watch, at));
}
