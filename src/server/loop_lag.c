#include "server/loop_lag.h"

#include "base/clock.h"
#include "base/metrics.h"

static ev_check wake;
static ev_prepare sleep_next;
static int64_t woke_at_us;

static void on_wake(struct ev_loop *loop, ev_check *w, int revents)
{
    (void)loop;
    (void)w;
    (void)revents;
    woke_at_us = clock_mono_us();
}

static void on_sleep_next(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)w;
    (void)revents;
    if (woke_at_us > 0)
        metric_observe_us(M_LOOP_LAG, clock_mono_us() - woke_at_us);
}

void loop_lag_start(struct ev_loop *loop)
{
    woke_at_us = 0;
    /* First of all to run after the wait, last of all before it. */
    ev_check_init(&wake, on_wake);
    ev_set_priority(&wake, EV_MAXPRI);
    ev_check_start(loop, &wake);
    ev_unref(loop);
    ev_prepare_init(&sleep_next, on_sleep_next);
    ev_set_priority(&sleep_next, EV_MINPRI);
    ev_prepare_start(loop, &sleep_next);
    ev_unref(loop);
}

void loop_lag_stop(struct ev_loop *loop)
{
    ev_ref(loop);
    ev_check_stop(loop, &wake);
    ev_ref(loop);
    ev_prepare_stop(loop, &sleep_next);
}
