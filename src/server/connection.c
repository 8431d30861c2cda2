#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "server/internal.h"
#include "service/counts.h"

enum {
    BUFFER_KEEP = 4096, /* bytes of an empty buffer that a connection keeps for the next time */
};

static const struct {
    const char *code;
    const char *message;
} closes[CLOSE_REASON_COUNT] = {
#define X(id, code, message) [CLOSE_##id] = {code, message},
    CLOSE_REASONS(X)
#undef X
};

static void on_io(struct ev_loop *loop, ev_io *w, int revents);

void conn_mark_dirty(struct conn *c)
{
    if (!list_empty(&c->dirty))
        return;
    list_append(&c->server->dirty, &c->dirty);
    server_end_of_turn(c->server);
}

/* --- life --- */

/* What the system did not take, which is what the client has not read. */
static void count_unsent(struct conn *c, size_t unsent)
{
    metric_add(M_OUTPUT, (int64_t)unsent - (int64_t)c->unsent);
    c->unsent = unsent;
}

void conn_accept(struct server *s, int fd, bool tls, struct tally_entry *from)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    struct conn *c = xcalloc(1, sizeof(*c));
    c->server = s;
    c->id = ++s->next_conn_id;
    c->from = from;
    c->accepted_us = c->quiet_since_us = clock_mono_us();
    list_init(&c->requests);
    list_init(&c->arriving);
    list_init(&c->watches);
    list_init(&c->dirty);
    list_init(&c->more);
    list_init(&c->at);
    list_append(&s->conns, &c->at);
    s->connections++;
    metric_add(M_CONNECTIONS, 1);
    metric_add(M_CONNECTIONS_ACCEPTED, 1);
    ev_io_init(&c->io, on_io, fd, EV_READ);
    c->io.data = c;
    c->events = EV_READ;
    ev_io_start(s->o.loop, &c->io);
    log_debug("client_accepted", "conn=%" PRIu64, c->id);
    /* Only of TCP there is a from. */
    c->tcp = from || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0;
    c->uid = c->tcp ? (uid_t)-1 : peer.uid;
    conn_identify_peer(c);
    if (tls)
        handshake_start(c);
    conn_await(c);
}

void conn_begin(struct conn *c)
{
    c->shaking = false;
    ev_set_cb(&c->io, on_io);
    conn_identify_certificate(c);
    conn_may_have_arrived(c);
    on_io(c->server->o.loop, &c->io, EV_READ); /* lines may have come with the end of it */
}

static void conn_orphan_requests(struct conn *c)
{
    while (!list_empty(&c->requests))
        request_orphan(list_first(&c->requests, struct request, at));
}

/* Every end of a connection goes through here. It is freed at the end of the turn. */
void conn_close(struct conn *c, enum close_reason reason)
{
    struct server *s = c->server;
    if (c->is_closed)
        return;
    c->is_closed = true;
    ev_io_stop(s->o.loop, &c->io);
    ev_clear_pending(s->o.loop, &c->io);
    tls_session_free(c->tls);
    close(c->io.fd);
    list_remove(&c->at);
    list_remove(&c->dirty);
    list_remove(&c->more);
    list_remove(&c->arriving);
    tally_drop(s->addresses, c->from);
    tally_drop(s->names, c->known_as);
    conn_listen(c, false);
    conn_watches_end(c);
    list_append(&s->closed, &c->at);
    server_end_of_turn(s);
    s->connections--;
    metric_add(M_CONNECTIONS, -1);
    metric_add1(M_CONNECTIONS_CLOSED, reason, 1);
    count_unsent(c, 0);
    log_debug("client_closed", "conn=%" PRIu64 " reason=%s", c->id, closes[reason].code);
    conn_orphan_requests(c);
    if (reason != CLOSE_DRAIN)
        conn_release_bound(c);
    conn_forget_identity(c);
}

void conn_free(struct conn *c)
{
    list_remove(&c->at);
    buf_free(&c->in);
    buf_free(&c->out);
    buf_free(&c->name);
    buf_free(&c->sessions);
    buf_free(&c->bound);
    free(c);
}

void conn_end(struct conn *c, enum close_reason reason)
{
    if (c->closing || c->is_closed)
        return;
    struct json j = json_to(&c->out);
    buf_puts(&c->out, "* BYE ");
    json_begin_object(&j);
    json_put_string(&j, "code", str_of(closes[reason].code));
    json_put_string(&j, "message", str_of(closes[reason].message));
    json_end_object(&j);
    buf_putc(&c->out, '\n');
    c->closing = true;
    c->reason = reason;
    conn_mark_dirty(c);
}

void conn_revoke(struct conn *c)
{
    conn_listen(c, false);
    conn_orphan_requests(c);
    buf_clear(&c->bound);
    conn_end(c, CLOSE_REVOKED);
}

/* --- when to read, when to write --- */

static bool may_take(const struct conn *c)
{
    const struct settings *st = c->server->o.settings;
    return !c->closing && !c->quitting && !c->server->draining && c->inflight < st->max_inflight &&
           !auth_holds(c);
}

/* Reading stops, for whatever reason. */
static void count_pause(const struct conn *c)
{
    const struct settings *st = c->server->o.settings;
    if (c->inflight >= st->max_inflight)
        count_limit_met(LIMIT_INFLIGHT);
    if (c->in.len >= st->max_input)
        count_limit_met(LIMIT_INPUT);
}

static void watch(struct conn *c)
{
    const struct settings *st = c->server->o.settings;
    int events = 0;
    if (!c->eof && may_take(c) && c->in.len < st->max_input)
        events |= EV_READ;
    if (c->sent < c->out.len)
        events |= EV_WRITE;
    if (events == c->events)
        return;
    if (c->events & ~events & EV_READ)
        count_pause(c);
    ev_io_stop(c->server->o.loop, &c->io);
    c->events = events;
    ev_io_modify(&c->io, events);
    if (events)
        ev_io_start(c->server->o.loop, &c->io);
}

/* Sends what it can without blocking. False: the connection is closed. */
static bool send_some(struct conn *c)
{
    while (c->sent < c->out.len) {
        const char *from = c->out.data + c->sent;
        size_t left = c->out.len - c->sent;
        ssize_t n =
            c->tls ? tls_send(c->tls, from, left) : send(c->io.fd, from, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            conn_close(c, CLOSE_RESET);
            return false;
        }
        metric_add(M_SENT, n);
        c->sent += (size_t)n;
    }
    if (c->sent == c->out.len) {
        buf_clear(&c->out);
        c->sent = 0;
        buf_trim(&c->out, BUFFER_KEEP);
    }
    count_unsent(c, c->out.len - c->sent);
    if (c->unsent > c->server->o.settings->max_output) {
        conn_close(c, CLOSE_SLOW_READER);
        return false;
    }
    return true;
}

static void take_lines(struct conn *c);

void conn_flush(struct conn *c)
{
    list_remove(&c->dirty);
    if (c->shaking && c->server->draining)
        conn_close(c, CLOSE_DRAIN);
    if (c->is_closed || c->shaking || !send_some(c))
        return;
    if (c->gap && c->out.len == 0)
        conn_tell_gap(c);
    if (c->out.len == 0 && !c->closing)
        conn_watches_go_on(c);
    if (c->closing && c->out.len == 0) {
        if (c->tls)
            tls_end(c->tls);
        shutdown(c->io.fd, SHUT_WR);
        conn_close(c, c->reason);
        return;
    }
    if (!c->closing && list_empty(&c->requests) && !c->more_lines) {
        if (c->server->draining)
            conn_end(c, CLOSE_DRAIN);
        else if (c->quitting)
            conn_end(c, CLOSE_QUIT);
        else if (c->eof && c->in.len == 0)
            conn_end(c, CLOSE_EOF);
    }
    watch(c);
    if (c->paused && may_take(c)) {
        c->paused = false;
        c->more_lines = true;
        server_next_turn(c->server, c);
    }
}

void conn_drain(struct conn *c)
{
    buf_clear(&c->in);
    c->more_lines = c->paused = false;
    conn_mark_dirty(c);
}

/* --- lines --- */

/* A web page that is made to talk to this port must not get anywhere. */
static bool looks_like_http(struct str line)
{
    static const char *const starts[] = {"GET ",    "POST ",    "PUT ",     "HEAD ",
                                         "DELETE ", "OPTIONS ", "CONNECT ", "TRACE ",
                                         "PATCH ",  "Host:",    "PRI * "};
    static const char version[] = " HTTP/1.1";
    size_t length = sizeof(version) - 1;
    /* A page may choose the method: LOCK is one of WebDAV's. Its line ends as all of them do. */
    if (line.n >= length && strncasecmp(line.p + line.n - length, version, length - 1) == 0)
        return true;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        size_t n = strlen(starts[i]);
        if (line.n >= n && strncasecmp(line.p, starts[i], n) == 0)
            return true;
    }
    return false;
}

static void take_line(struct conn *c, char *line, size_t n)
{
    struct wire_request w;
    if (n > 0 && line[n - 1] == '\r')
        n--;
    if (!c->seen_line && looks_like_http((struct str){line, n})) {
        conn_close(c, CLOSE_HTTP);
        return;
    }
    c->seen_line = true;
    const char *wrong = wire_parse(line, n, &w);
    if (wrong)
        verbs_bad_line(c, w.tag, "bad_request", wrong);
    else
        verbs_dispatch(c, &w);
}

static void too_long(struct conn *c)
{
    struct buf message = {0};
    count_limit_met(LIMIT_LINE_BYTES);
    buf_printf(&message, "a line may have at most %zu bytes; the rest of this one is skipped",
               c->server->o.settings->line_max);
    verbs_bad_line(c, (struct str){0}, "too_long", buf_cstr(&message));
    buf_free(&message);
}

/*
 * Takes whole lines from data, as many as one turn and the limits allow. Returns how many bytes
 * were used. At most one line is longer than line_max at a time, and it is not kept.
 */
static size_t take_from(struct conn *c, char *data, size_t n)
{
    size_t used = 0;
    size_t line_max = c->server->o.settings->line_max;
    c->more_lines = false;
    for (int taken = 0; used < n && may_take(c) && !c->is_closed; taken++) {
        char *end = memchr(data + used, '\n', n - used);
        size_t length = end ? (size_t)(end - data) - used : n - used;
        if (end && taken == LINES_A_TURN) {
            c->more_lines = true;
            break;
        }
        size_t cr = end && length > 0 && end[-1] == '\r' ? 1 : 0;
        if (!end && !c->skipping && length <= line_max + 1) /* the last byte may be a CR */
            break;
        if (length - cr > line_max && !c->skipping)
            too_long(c);
        else if (!c->skipping)
            take_line(c, data + used, length);
        c->skipping = end == NULL;
        used += end ? length + 1 : length;
    }
    c->paused = used < n && !may_take(c);
    return used;
}

static void take_lines(struct conn *c)
{
    size_t used = take_from(c, c->in.data, c->in.len);
    if (c->is_closed)
        return;
    buf_drop(&c->in, used);
    buf_trim(&c->in, BUFFER_KEEP);
}

/*
 * The client has ended its input: nothing waits any more. What came of a line without its end is
 * not carried out: a client that died while it wrote may have meant another resource.
 */
static void take_end(struct conn *c)
{
    if (!c->skipping && c->in.len > 0 && may_take(c)) {
        buf_clear(&c->in);
        verbs_bad_line(c, (struct str){0}, "bad_request",
                       "the input ended within a line, which was not carried out: end it with LF");
    }
    list_for_each(at, &c->requests) request_end_input(container_of(at, struct request, at));
}

static void after_input(struct conn *c)
{
    if (c->more_lines)
        server_next_turn(c->server, c);
    else if (c->eof)
        take_end(c);
    if (!c->is_closed)
        conn_mark_dirty(c);
}

void conn_take_more(struct conn *c)
{
    auth_look(c->server);
    take_lines(c);
    if (!c->is_closed)
        after_input(c);
}

/* As many whole records as fit: what the library holds back shows on no descriptor. */
static ssize_t receive_records(struct conn *c, char *into)
{
    size_t n = 0;
    while (n + TLS_RECORD_MAX <= READ_BYTES && !c->eof) {
        ssize_t k = tls_recv(c->tls, into + n, READ_BYTES - n);
        if (k < 0 && errno == EAGAIN && n > 0)
            break;
        if (k < 0)
            return k;
        c->eof = k == 0;
        n += (size_t)k;
    }
    return (ssize_t)n;
}

static ssize_t receive(struct conn *c, char *into)
{
    if (c->tls)
        return receive_records(c, into);
    ssize_t n = recv(c->io.fd, into, READ_BYTES, 0);
    c->eof = n == 0;
    return n;
}

static void on_readable(struct conn *c)
{
    char *scratch = c->server->scratch;
    ssize_t n = receive(c, scratch);
    if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            conn_close(c, CLOSE_RESET);
        return;
    }
    metric_add(M_RECEIVED, n);
    auth_look(c->server);
    c->heard = true;
    if (c->in.len == 0) {
        size_t used = take_from(c, scratch, (size_t)n);
        if (!c->is_closed)
            buf_put(&c->in, scratch + used, (size_t)n - used);
    } else {
        buf_put(&c->in, scratch, (size_t)n);
        take_lines(c);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct conn *c = w->data;
    (void)loop;
    if (revents & EV_READ)
        on_readable(c);
    if (c->is_closed)
        return;
    if (revents & EV_READ)
        after_input(c);
    else
        conn_mark_dirty(c);
}
