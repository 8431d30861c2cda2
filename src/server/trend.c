#include "server/trend.h"

#include <stdlib.h>

#include "base/metrics.h"
#include "base/xalloc.h"

/* What is plotted, once: the name of the array and the member of a point. */
#define TRENDS(X) X(requests) X(grants) X(held) X(waiting)

struct point {
#define MEMBER(name) int64_t name; /* -1: unknown */
    TRENDS(MEMBER)
#undef MEMBER
};

struct trend {
    struct ev_loop *loop;
    ev_timer step;
    void (*due)(void *arg);
    void *arg;
    int64_t requests, grants; /* counted until the last point */
    size_t made;              /* points since the start */
    struct point points[TREND_POINTS];
};

static struct point *last_point(struct trend *t)
{
    return &t->points[(t->made - 1) % TREND_POINTS];
}

static void on_step(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct trend *t = w->data;
    int64_t requests = metric_total(M_REQUESTS), grants = metric_total(M_LOCK_ACQUIRE);
    (void)loop, (void)revents;
    t->made++;
    *last_point(t) = (struct point){
        .requests = requests - t->requests,
        .grants = grants - t->grants,
        .held = -1,
        .waiting = -1,
    };
    t->requests = requests;
    t->grants = grants;
    t->due(t->arg);
}

struct trend *trend_create(struct ev_loop *loop, void (*due)(void *arg), void *arg)
{
    struct trend *t = xcalloc(1, sizeof(*t));
    t->loop = loop;
    t->due = due;
    t->arg = arg;
    t->requests = metric_total(M_REQUESTS);
    t->grants = metric_total(M_LOCK_ACQUIRE);
    ev_timer_init(&t->step, on_step, TREND_STEP_MS / 1000.0, TREND_STEP_MS / 1000.0);
    t->step.data = t;
    ev_timer_start(loop, &t->step);
    return t;
}

void trend_destroy(struct trend *t)
{
    if (t == NULL)
        return;
    ev_timer_stop(t->loop, &t->step);
    free(t);
}

void trend_know(struct trend *t, int64_t held, int64_t waiting)
{
    if (t->made == 0)
        return;
    last_point(t)->held = held;
    last_point(t)->waiting = waiting;
}

static void put_number(struct json *j, int64_t v)
{
    if (v < 0)
        json_null(j);
    else
        json_int(j, v);
}

void trend_put(const struct trend *t, struct json *j)
{
    size_t from = t->made > TREND_POINTS ? t->made - TREND_POINTS : 0;
    json_begin_object(j);
    json_put_int(j, "step_ms", TREND_STEP_MS);
#define PUT(name)                                                                                  \
    json_key(j, #name);                                                                            \
    json_begin_array(j);                                                                           \
    for (size_t i = from; i < t->made; i++)                                                        \
        put_number(j, t->points[i % TREND_POINTS].name);                                           \
    json_end_array(j);
    TRENDS(PUT)
#undef PUT
    json_end_object(j);
}
