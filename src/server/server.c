#include "server/server.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "server/internal.h"

/*
 * Replies are gathered during a turn of the loop and sent once, when all else that the turn brought
 * has been handled: a client with many requests in flight gets their replies in one packet. Closed
 * connections are freed last, when nothing of this turn can point to them any more.
 */
static void on_end_of_turn(struct ev_loop *loop, ev_idle *w, int revents)
{
    struct server *s = w->data;
    (void)loop, (void)revents;
    while (!list_empty(&s->dirty))
        conn_flush(list_first(&s->dirty, struct conn, dirty));
    while (!list_empty(&s->closed))
        conn_free(list_first(&s->closed, struct conn, at));
}

static void on_next_turn(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct server *s = w->data;
    struct list more;
    (void)loop, (void)revents;
    list_init(&more);
    list_splice(&more, &s->more);
    while (!list_empty(&more)) {
        struct conn *c = list_first(&more, struct conn, more);
        list_remove(&c->more);
        conn_take_more(c);
    }
}

void server_next_turn(struct server *s, struct conn *c)
{
    if (list_empty(&c->more))
        list_append(&s->more, &c->more);
    if (!ev_is_active(&s->next_turn))
        ev_timer_start(s->o.loop, &s->next_turn);
}

void server_end_of_turn(struct server *s)
{
    ev_feed_event(s->o.loop, &s->end_of_turn, EV_CUSTOM);
}

struct server *server_create(const struct server_options *options, const char *extra_unix,
                             struct buf *err)
{
    struct server *s = xcalloc(1, sizeof(*s));
    s->o = *options;
    s->started_us = clock_mono_us();
    s->scratch = xmalloc(READ_BYTES);
    list_init(&s->conns);
    list_init(&s->dirty);
    list_init(&s->more);
    ev_timer_init(&s->next_turn, on_next_turn, 0., 0.);
    s->next_turn.data = s;
    list_init(&s->closed);
    s->addresses = tally_new();
    s->names = tally_new();
    arrival_start(s);
    ev_idle_init(&s->end_of_turn, on_end_of_turn);
    s->end_of_turn.data = s;
    ev_set_priority(&s->end_of_turn, EV_MINPRI); /* after the lanes have sent their batches */
    auth_start(s);
    if (!listeners_open(s, extra_unix, err)) {
        server_destroy(s);
        return NULL;
    }
    return s;
}

const char *server_address(const struct server *s)
{
    return listeners_address(s);
}

void server_drain(struct server *s)
{
    s->draining = true;
    listeners_close(s);
    list_for_each(at, &s->conns) conn_drain(container_of(at, struct conn, at));
}

void server_reload(struct server *s)
{
    auth_reload(s);
    arrival_reload(s);
}

size_t server_connections(const struct server *s)
{
    return s->connections;
}

void server_destroy(struct server *s)
{
    if (s == NULL)
        return;
    listeners_close(s);
    while (!list_empty(&s->conns))
        conn_close(list_first(&s->conns, struct conn, at), CLOSE_DRAIN);
    while (!list_empty(&s->closed))
        conn_free(list_first(&s->closed, struct conn, at));
    ev_clear_pending(s->o.loop, &s->end_of_turn);
    ev_timer_stop(s->o.loop, &s->next_turn);
    auth_stop(s);
    arrival_stop(s);
    tally_free(s->addresses);
    tally_free(s->names);
    free(s->scratch);
    free(s);
}
