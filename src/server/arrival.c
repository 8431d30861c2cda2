#include "base/clock.h"
#include "server/internal.h"

/*
 * Two clocks of connections. Who has not come in within auth_timeout, by its TLS handshake and,
 * where auth is on, by showing who it is, is closed: these stand in a list, the oldest first, so
 * one timer serves all. Who sent nothing for idle_timeout and waits for nothing is closed, too:
 * that is looked at IDLE_LOOKS times in that time, so it may be late by a part of it, and a
 * connection that is not idle pays for it with a flag that it sets.
 */
enum { IDLE_LOOKS = 8 };

/* --- coming in --- */

static int64_t due_us(const struct server *s, const struct conn *c)
{
    return c->accepted_us + s->o.settings->auth_timeout_ms * 1000;
}

static void end_late(struct conn *c)
{
    if (c->shaking)
        conn_close(c, CLOSE_AUTH_TIMEOUT); /* there is no way to tell it yet */
    else
        conn_end(c, CLOSE_AUTH_TIMEOUT);
}

static void on_late(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct server *s = w->data;
    int64_t now_us = clock_mono_us();
    (void)revents;
    while (!list_empty(&s->arriving)) {
        struct conn *c = list_first(&s->arriving, struct conn, arriving);
        if (due_us(s, c) > now_us) {
            ev_timer_set(w, (double)(due_us(s, c) - now_us) / 1e6, 0.);
            ev_timer_start(loop, w);
            return;
        }
        list_remove(&c->arriving);
        end_late(c);
    }
}

static bool has_arrived(const struct conn *c)
{
    return !c->shaking && (c->server->identities == NULL || c->identity);
}

void conn_await(struct conn *c)
{
    struct server *s = c->server;
    if (c->is_closed || has_arrived(c))
        return;
    list_append(&s->arriving, &c->arriving);
    if (ev_is_active(&s->arriving_late))
        return;
    ev_timer_set(&s->arriving_late, (double)s->o.settings->auth_timeout_ms / 1000, 0.);
    ev_timer_start(s->o.loop, &s->arriving_late);
}

void conn_may_have_arrived(struct conn *c)
{
    if (has_arrived(c))
        list_remove(&c->arriving);
}

/* --- being silent --- */

/* A request that is not answered yet is not silence: it may wait for long. */
static void look(struct conn *c, int64_t now_us)
{
    if (c->heard || !list_empty(&c->requests) || c->more_lines)
        c->quiet_since_us = now_us;
    else if (now_us - c->quiet_since_us >= c->server->o.settings->idle_timeout_ms * 1000)
        conn_end(c, CLOSE_IDLE);
    c->heard = false;
}

static void on_idle_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct server *s = w->data;
    int64_t now_us = clock_mono_us();
    (void)loop, (void)revents;
    list_for_each(at, &s->conns)
    {
        struct conn *c = container_of(at, struct conn, at);
        if (!c->shaking)
            look(c, now_us);
    }
}

static void watch_idle(struct server *s)
{
    ev_timer_stop(s->o.loop, &s->idle_look);
    s->idle_look.repeat = (double)s->o.settings->idle_timeout_ms / 1000 / IDLE_LOOKS;
    if (s->idle_look.repeat > 0)
        ev_timer_again(s->o.loop, &s->idle_look);
}

/* --- both --- */

void arrival_start(struct server *s)
{
    list_init(&s->arriving);
    ev_init(&s->arriving_late, on_late);
    ev_init(&s->idle_look, on_idle_look);
    s->arriving_late.data = s->idle_look.data = s;
    watch_idle(s);
}

void arrival_reload(struct server *s)
{
    watch_idle(s);
    if (ev_is_active(&s->arriving_late))
        on_late(s->o.loop, &s->arriving_late, 0);
}

void arrival_stop(struct server *s)
{
    ev_timer_stop(s->o.loop, &s->arriving_late);
    ev_timer_stop(s->o.loop, &s->idle_look);
}
