#include "service/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "service/rate.h"
#include "service/route.h"
#include "service/state.h"

/* --- operations of the daemon itself --- */

static void promote_done(struct op *op)
{
    chore_free(chore_of(op));
}

/* Is it remembered already? Looks at some only: a double costs no more than another try. */
static bool is_pending(const struct service *s, struct str resource)
{
    int looked = 0;
    list_for_each(at, &s->later)
    {
        const struct op *op = container_of(at, struct op, link);
        if (op->kind == OP_PROMOTE && str_eq(op->resource, resource))
            return true;
        if (++looked == PENDING_LOOKS_MAX)
            return false;
    }
    return false;
}

void service_pending(struct service *s, struct str resource)
{
    if (s->later_count >= LATER_MAX || is_pending(s, resource))
        return;
    struct chore *c = chore_new(s, OP_PROMOTE, resource);
    c->op.done = promote_done;
    service_submit_later(s, &c->op);
}

void service_submit_later(struct service *s, struct op *op)
{
    list_append(&s->later, &op->link);
    s->later_count++;
    service_look(s);
}

static void submit_later(struct service *s)
{
    while (!list_empty(&s->later)) {
        struct op *op = list_first(&s->later, struct op, link);
        list_remove(&op->link);
        s->later_count--;
        service_submit(s, op);
    }
}

static void collect_done(struct op *op)
{
    struct chore *c = chore_of(op);
    struct service *s = c->service;
    bool again = s->collect_again;
    s->collecting = s->collect_again = false;
    chore_free(c);
    if (again)
        service_collect(s);
}

void service_collect(struct service *s)
{
    if (s->nlanes == 0)
        return;
    if (s->collecting) { /* what it is told of may have come too late for the one on the way */
        s->collect_again = true;
        return;
    }
    struct chore *c = chore_new(s, OP_COLLECT, (struct str){"", 0});
    c->op.done = collect_done;
    s->collecting = true;
    lane_submit(s->lanes[0], &c->op);
}

/* --- lanes --- */

struct lane *service_lane(struct service *s, struct str resource)
{
    return s->lanes[route_lane(resource, s->nlanes)];
}

void service_submit(struct service *s, struct op *op)
{
    service_saw(s, 0, op->ttl_ms != OP_TTL_SESSION ? op->ttl_ms : 0, op->grace_ms);
    lane_submit(service_lane(s, op->resource), op);
    service_look(s);
}

void service_saw(struct service *s, int64_t token, int64_t ttl_ms, int64_t grace_ms)
{
    if (token > s->seen.token)
        s->seen.token = token;
    if (ttl_ms > s->seen.ttl_ms)
        s->seen.ttl_ms = ttl_ms;
    if (grace_ms > s->seen.grace_ms)
        s->seen.grace_ms = grace_ms;
}

static void on_granted(void *arg, uint64_t request_id, struct str resource, int64_t token,
                       int64_t decided_us)
{
    locks_granted(arg, request_id, resource, token, decided_us);
}

static void on_wake(void *arg, int32_t instance)
{
    service_wake(arg, instance);
}

static void on_pending(void *arg, struct str resource)
{
    service_pending(arg, resource);
}

void service_wake(struct service *s, int32_t instance)
{
    if (instance == s->instance)
        service_collect(s);
    else
        presence_wake(s->presence, instance);
}

void service_tell(struct service *s, struct str resource)
{
    presence_tell(s->presence, resource);
}

static bool lanes_up(const struct service *s)
{
    for (int i = 0; i < s->nlanes; i++)
        if (!lane_is_up(s->lanes[i]))
            return false;
    return s->nlanes > 0;
}

void service_check_ready(struct service *s)
{
    if (s->was_ready || !lanes_up(s) || !rates_are_loaded(s->rates) ||
        (s->identities && !identities_are_loaded(s->identities)))
        return;
    s->was_ready = true;
    s->o.ready(s->o.arg);
}

static void on_lane_state(void *arg, int number, bool up)
{
    struct service *s = arg;
    metric_set(M_POSTGRES_UP, lanes_up(s));
    if (up) /* lane 0 carries the collecting for all */
        locks_resync(s, number == 0 ? -1 : number);
    service_check_ready(s);
}

void service_lanes_start(struct service *s)
{
    if (s->nlanes > 0)
        return;
    struct lane_options options = {
        .loop = s->o.loop,
        .conninfo = s->o.conninfo,
        .seen = &s->seen,
        .instance = s->instance,
        .batch_max = s->o.settings->batch_max,
        .history = service_history(s),
        .sink = {on_granted, on_wake, on_pending, s},
        .state_changed = on_lane_state,
        .arg = s,
    };
    for (int i = 0; i < (int)s->o.settings->lanes; i++) {
        options.number = i;
        s->lanes[i] = lane_create(&options);
    }
    s->nlanes = (int)s->o.settings->lanes;
}

/* --- the look: what took too long, what is to be tried again --- */

static bool has_work(const struct service *s)
{
    if (!list_empty(&s->paused) || !list_empty(&s->later))
        return true;
    for (int i = 0; i < s->nlanes; i++)
        if (!lane_is_idle(s->lanes[i]))
            return true;
    return false;
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct service *s = w->data;
    (void)revents;
    locks_look(s, clock_mono_us());
    submit_later(s);
    if (!has_work(s))
        ev_timer_stop(loop, w);
}

void service_look(struct service *s)
{
    if (!ev_is_active(&s->look)) {
        s->look.repeat = PROMOTE_AGAIN_MS / 1000.0;
        ev_timer_again(s->o.loop, &s->look);
    }
}

/* --- metrics --- */

static void register_lanes(size_t lanes)
{
    static const char *const names[LANES_MAX] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    metrics_label_names(LABEL_LANE, names, lanes);
}

static void refresh_metrics(void *arg)
{
    const struct service *s = arg;
    for (int i = 0; i < s->nlanes; i++)
        metric_set1(M_LANE_QUEUE, (unsigned)i, (int64_t)lane_queued(s->lanes[i]));
    metric_set(M_WAITING, s->waiting);
}

/* --- the interface --- */

const char *service_history(const struct service *s)
{
    static const char *const levels[] = {[SETTINGS_HISTORY_OFF] = "off",
                                         [SETTINGS_HISTORY_CONTENDED] = "contended",
                                         [SETTINGS_HISTORY_ALL] = "all"};
    return levels[s->o.settings->history];
}

struct service *service_create(const struct service_options *options)
{
    struct service *s = xcalloc(1, sizeof(*s));
    s->o = *options;
    list_init(&s->paused);
    list_init(&s->waiters);
    list_init(&s->later);
    list_init(&s->chores);
    slab_init(&s->calls, sizeof(struct call));
    s->owners_waiting = tally_new();
    s->resources_waiting = tally_new();
    ev_init(&s->look, on_look);
    s->look.data = s;
    s->reader = reader_create(options->loop, options->conninfo, &s->seen, READER_READS, NULL);
    s->writer = reader_create(options->loop, options->conninfo, &s->seen, READER_WRITES,
                              service_history(s));
    s->presence = presence_create(s);
    s->janitor = janitor_create(s);
    s->rates = rates_create(s);
    register_lanes(s->o.settings->lanes);
    metrics_on_refresh(refresh_metrics, s);
    s->meter = meter_create(s);
    if (options->settings->auth)
        s->identities = identities_create(s);
    return s;
}

void service_destroy(struct service *s)
{
    if (s == NULL)
        return;
    ev_timer_stop(s->o.loop, &s->look);
    metrics_off_refresh(refresh_metrics, s);
    meter_destroy(s->meter);
    reader_destroy(s->reader); /* first: who asked is told */
    reader_destroy(s->writer);
    events_destroy(s->events);
    watches_destroy(s->watches);
    identities_destroy(s->identities);
    rates_destroy(s->rates);
    janitor_destroy(s->janitor);
    presence_destroy(s->presence);
    for (int i = 0; i < s->nlanes; i++)
        lane_destroy(s->lanes[i]);
    while (!list_empty(&s->chores))
        chore_free(list_first(&s->chores, struct chore, at));
    slab_free_all(&s->calls);
    tally_free(s->owners_waiting);
    tally_free(s->resources_waiting);
    free(s);
}

void service_drain(struct service *s)
{
    s->draining = true;
    locks_drain(s);
}

bool service_is_idle(const struct service *s)
{
    return s->submitted == 0 && s->waiting == 0 && list_empty(&s->paused) &&
           list_empty(&s->chores) && rates_are_idle(s->rates);
}

static void on_meter_finished(void *arg)
{
    struct service *s = arg;
    presence_retire(s->presence, s->retired, s->retired_arg);
}

void service_retire(struct service *s, void (*done)(void *arg), void *arg)
{
    s->retired = done;
    s->retired_arg = arg;
    meter_finish(s->meter, on_meter_finished, s);
}

bool service_can_renew(const struct service *s, const char **why)
{
    *why = NULL;
    if (s->draining)
        *why = "the daemon is stopping";
    else if (!s->was_ready)
        *why = "the daemon is starting";
    else if (!lanes_up(s))
        *why = "PostgreSQL cannot be reached";
    return *why == NULL;
}

bool service_grants(const struct service *s, const char **why)
{
    static char text[64];
    *why = NULL;
    if (s->server.quiet_ms > 0) {
        snprintf(text, sizeof(text), "quiet period, about %" PRId64 " s are left",
                 (s->server.quiet_ms + 999) / 1000);
        *why = text;
    }
    return *why == NULL;
}

int32_t service_instance(const struct service *s)
{
    return s->instance;
}

struct reader *service_reader(struct service *s)
{
    return s->reader;
}

struct reader *service_writer(struct service *s)
{
    return s->writer;
}

void service_promote(struct service *s, struct str resource)
{
    service_pending(s, resource);
}

struct rates *service_rates(struct service *s)
{
    return s->rates;
}

struct identities *service_identities(struct service *s)
{
    return s->identities;
}

int64_t service_waiters(const struct service *s)
{
    return s->waiting;
}

bool service_is_janitor(const struct service *s)
{
    return janitor_leads(s->janitor);
}
