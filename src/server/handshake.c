#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "server/internal.h"

/*
 * TLS handshakes of connections. A step may cost a millisecond of computing, so a turn of the loop
 * takes so many as fit into HANDSHAKE_US_A_TURN, one at least; the sockets of the others are still
 * ready in the next turn. So who floods the port with handshakes delays handshakes, and nobody
 * whose handshake is over by more than that.
 */
enum { HANDSHAKE_US_A_TURN = 2000 };

enum handshake_end { END_DONE, END_FAILED, END_NOT_TRUSTED };

void handshake_register_metrics(void)
{
    static const char *const ends[] = {"done", "failed", "not_trusted"};
    metrics_label_names(LABEL_TLS_END, ends, sizeof(ends) / sizeof(ends[0]));
}

static bool may_step(struct server *s)
{
    unsigned turn = ev_iteration(s->o.loop);
    if (turn != s->handshake_turn) {
        s->handshake_turn = turn;
        s->handshake_us = 0;
    }
    return s->handshake_us < HANDSHAKE_US_A_TURN;
}

static void fail(struct conn *c, enum handshake_end end)
{
    metric_add1(M_TLS_HANDSHAKES, end, 1);
    log_debug("tls_failed", "conn=%" PRIu64 " reason=%s", c->id,
              log_quote(str_of(tls_error(c->tls))));
    conn_close(c, CLOSE_TLS);
}

static void watch(struct conn *c)
{
    int events = tls_wants_write(c->tls) ? EV_WRITE : EV_READ;
    if (events == c->events)
        return;
    ev_io_stop(c->server->o.loop, &c->io);
    c->events = events;
    ev_io_modify(&c->io, events);
    ev_io_start(c->server->o.loop, &c->io);
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct conn *c = w->data;
    (void)loop, (void)revents;
    if (!may_step(c->server))
        return;
    int64_t began_us = clock_mono_us();
    enum tls_step step = tls_handshake(c->tls);
    c->server->handshake_us += clock_mono_us() - began_us;
    switch (step) {
    case TLS_AGAIN:
        watch(c);
        break;
    case TLS_DONE:
        metric_add1(M_TLS_HANDSHAKES, END_DONE, 1);
        conn_begin(c);
        break;
    case TLS_FAILED:
        fail(c, END_FAILED);
        break;
    case TLS_NOT_TRUSTED:
        fail(c, END_NOT_TRUSTED);
        break;
    }
}

void handshake_start(struct conn *c)
{
    c->tls = tls_session_new(c->server->o.tls, c->io.fd);
    if (c->tls == NULL) {
        metric_add1(M_TLS_HANDSHAKES, END_FAILED, 1);
        conn_close(c, CLOSE_TLS);
        return;
    }
    c->shaking = true;
    ev_set_cb(&c->io, on_io);
}
