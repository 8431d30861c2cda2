#include "service/events.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/route.h"
#include "service/state.h"

enum {
    TURN_MS = 50,          /* between looks at the clock, while there is a listener */
    LOOK_LEASES_MAX = 500, /* asked for in one question */
    FIRST_AGAIN_MS = 300,  /* for who came to wait while the lease was being registered */
    LOOK_EVERY_MS = 5000,  /* at least, whatever notification was lost */
    ENDING_MS = 250,       /* between looks at a lease whose TTL is over */
    WANTED_EVERY_MS = 200, /* at most, of one lease */
    LEASES_MAX = 200000,   /* of all listeners */
    GONE_MAX = 10000,      /* leases to be forgotten; past it all are registered anew */
    BUCKETS = 4096,
};

struct listener {
    struct events *events;
    struct list leases;
    size_t count;
    listener_fn *tell;
    void *arg;
};

struct event_lease {
    struct list at;     /* in its listener's leases */
    struct list bucket; /* by resource */
    struct list turn;   /* in the events' due or later */
    struct listener *listener;
    uint64_t id;
    int64_t token;
    int64_t session; /* 0: none, or not known yet */
    int64_t ttl_ms;
    int64_t look_us;    /* when to look at it next */
    int64_t renewed_us; /* when this daemon was told last that it holds */
    bool looked;
    bool ending;   /* its session, by the listener itself */
    bool changing; /* its mode, by the listener itself */
    bool told_expiring;
    int64_t told_ticket; /* of whom it was told last; 0: nobody */
    int64_t told_waiting;
    int64_t told_us;
    struct str resource; /* in text, and owner behind it */
    struct str owner;
    bool exclusive;
    bool known; /* owner and exclusive are */
    char *text;
};

struct events {
    struct service *s;
    struct link *link;
    struct slab leases;
    struct list due;   /* to be asked for */
    struct list later; /* waiting for their look_us */
    struct list buckets[BUCKETS];
    struct buf gone; /* int64_t token, resource, NUL: leases to be forgotten */
    size_t gone_count;
    bool anew; /* what was registered before is to be forgotten first */
    bool asking;
    int64_t asked_us;
    uint64_t asked[LOOK_LEASES_MAX];
    size_t asked_count;
    ev_timer timer;
    struct link_params params;
};

/* Columns of pglockd.listen(). */
enum {
    L_ITEM,
    L_OWNER,
    L_MODE,
    L_TTL,
    L_LEFT,
    L_WAITING,
    L_TICKET,
    L_BY_OWNER,
    L_BY_MODE,
    L_WAITING_MS,
    L_REASON,
    L_LOST_MS,
    L_DETAIL,
    L_HELD_BY,
    L_SESSION
};

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set synchronous_commit = off;"
    "set default_transaction_isolation = 'read committed';"
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off;"
    "set enable_hashjoin = off; set enable_mergejoin = off; set lock_timeout = '1s';"
    "set statement_timeout = '5s'; set client_min_messages = warning";

static const struct link_statement listen_statement = {
    "listen", "select * from pglockd.listen($1, $2, $3, $4, $5, $6)", false};

/* --- the leases that are listened for --- */

static struct list *bucket_of(struct events *e, struct str resource)
{
    return &e->buckets[route_hash(resource) % BUCKETS];
}

static struct event_lease *find(const struct listener *l, struct str resource, int64_t token)
{
    list_for_each(at, bucket_of(l->events, resource))
    {
        struct event_lease *lease = container_of(at, struct event_lease, bucket);
        if (lease->listener == l && lease->token == token && str_eq(lease->resource, resource))
            return lease;
    }
    return NULL;
}

static void put_text(struct event_lease *lease, struct str resource, struct str owner)
{
    char *text = xmalloc(resource.n + owner.n + 1);
    memcpy(text, resource.p, resource.n);
    if (owner.n > 0)
        memcpy(text + resource.n, owner.p, owner.n);
    free(lease->text);
    lease->text = text;
    lease->resource = (struct str){text, resource.n};
    lease->owner = (struct str){text + resource.n, owner.n};
}

static void look_at(struct event_lease *lease, int64_t at_us)
{
    struct events *e = lease->listener->events;
    bool now = at_us <= clock_mono_us();
    lease->look_us = at_us;
    list_remove(&lease->turn);
    list_append(now ? &e->due : &e->later, &lease->turn);
}

static void lease_free(struct event_lease *lease)
{
    list_remove(&lease->at);
    list_remove(&lease->bucket);
    list_remove(&lease->turn);
    lease->listener->count--;
    free(lease->text);
    slab_free(&lease->listener->events->leases, lease->id);
}

/* The database is to forget it, unless nobody has told it of the lease. */
static void forget(struct event_lease *lease)
{
    struct events *e = lease->listener->events;
    if (e->gone_count >= GONE_MAX) {
        e->anew = true;
        return;
    }
    buf_put(&e->gone, &lease->token, sizeof(lease->token));
    buf_put(&e->gone, lease->resource.p, lease->resource.n);
    buf_putc(&e->gone, '\0');
    e->gone_count++;
}

bool listener_hold(struct listener *l, struct str resource, int64_t token, int64_t ttl_ms,
                   int64_t session)
{
    struct events *e = l->events;
    int64_t now_us = clock_mono_us();
    struct event_lease *lease = find(l, resource, token);
    if (lease == NULL) {
        uint64_t id;
        if (l->count >= LISTENER_LEASES_MAX || e->leases.live >= LEASES_MAX)
            return false;
        lease = slab_alloc(&e->leases, &id);
        lease->listener = l;
        lease->id = id;
        lease->token = token;
        put_text(lease, resource, (struct str){0});
        list_init(&lease->turn);
        list_append(&l->leases, &lease->at);
        list_append(bucket_of(e, resource), &lease->bucket);
        l->count++;
        look_at(lease, now_us);
    } else if (lease->looked && ttl_ms > 0) {
        int64_t expiring_us = now_us + 750 * ttl_ms;
        if (expiring_us < lease->look_us || lease->told_expiring)
            look_at(lease, expiring_us);
        lease->told_expiring = false;
    }
    lease->ttl_ms = ttl_ms;
    lease->session = session ? session : lease->session;
    lease->renewed_us = now_us;
    if (!ev_is_active(&e->timer))
        ev_timer_again(e->s->o.loop, &e->timer);
    return true;
}

bool listener_drop(struct listener *l, struct str resource, int64_t token)
{
    struct event_lease *lease = find(l, resource, token);
    if (lease == NULL)
        return false;
    forget(lease);
    lease_free(lease);
    return true;
}

void listener_end_session(struct listener *l, int64_t session, bool ending)
{
    list_for_each(at, &l->leases)
    {
        struct event_lease *lease = container_of(at, struct event_lease, at);
        if (lease->session == session)
            lease->ending = ending;
    }
}

void listener_change_mode(struct listener *l, struct str resource, int64_t token, bool changing)
{
    struct event_lease *lease = find(l, resource, token);
    if (lease)
        lease->changing = changing;
}

/* --- what is told --- */

static struct news news_of(const struct event_lease *lease, enum news_kind kind)
{
    struct news n = {.kind = kind, .resource = lease->resource, .token = lease->token};
    if (lease->known) {
        n.owner = lease->owner;
        n.mode = lease->exclusive ? STR_LIT("exclusive") : STR_LIT("shared");
    }
    return n;
}

static void tell(const struct event_lease *lease, const struct news *news)
{
    lease->listener->tell(lease->listener->arg, news);
}

static void lost(struct event_lease *lease, const struct link_rows *rows, int row)
{
    struct news n = news_of(lease, NEWS_LOST);
    n.reason = link_text(rows, row, L_REASON);
    if (lease->changing && str_is(n.reason, "unknown")) { /* what its own new lease leaves */
        look_at(lease, clock_mono_us() + 1000 * FIRST_AGAIN_MS);
        return;
    }
    n.lost_ms = link_is_null(rows, row, L_LOST_MS) ? -1 : link_int(rows, row, L_LOST_MS);
    n.detail = link_text(rows, row, L_DETAIL);
    n.held_by = link_text(rows, row, L_HELD_BY);
    if (link_is_null(rows, row, L_HELD_BY))
        n.held_by.p = NULL;
    if (!lease->ending)
        tell(lease, &n);
    lease_free(lease);
}

/* When to look again for the sake of the TTL. */
static int64_t check_expiring(struct event_lease *lease, int64_t left_ms, int64_t now_us)
{
    int64_t quarter_ms = lease->ttl_ms / 4;
    if (left_ms > quarter_ms) {
        lease->told_expiring = false;
        return now_us + 1000 * (left_ms - quarter_ms);
    }
    if (!lease->told_expiring && lease->renewed_us < lease->listener->events->asked_us) {
        struct news n = news_of(lease, NEWS_EXPIRING);
        n.left_ms = left_ms;
        lease->told_expiring = true;
        tell(lease, &n);
    }
    return now_us + 1000 * (left_ms > ENDING_MS ? left_ms : ENDING_MS);
}

/* When to look again, to tell of who waits. */
static int64_t check_wanted(struct event_lease *lease, const struct link_rows *rows, int row,
                            int64_t now_us)
{
    int64_t waiting = link_int(rows, row, L_WAITING), ticket = link_int(rows, row, L_TICKET);
    int64_t again_us = lease->told_us + 1000 * WANTED_EVERY_MS;
    if (waiting == 0)
        lease->told_waiting = lease->told_ticket = 0;
    if (waiting == lease->told_waiting && ticket == lease->told_ticket)
        return INT64_MAX;
    if (again_us > now_us)
        return again_us;
    struct news n = news_of(lease, NEWS_WANTED);
    n.waiting = waiting;
    n.by_owner = link_text(rows, row, L_BY_OWNER);
    n.by_mode = link_text(rows, row, L_BY_MODE);
    n.waiting_ms = link_int(rows, row, L_WAITING_MS);
    lease->told_waiting = waiting;
    lease->told_ticket = ticket;
    lease->told_us = now_us;
    tell(lease, &n);
    return INT64_MAX;
}

static void stands(struct event_lease *lease, const struct link_rows *rows, int row)
{
    int64_t now_us = clock_mono_us();
    int64_t next_us = now_us + 1000 * (lease->looked ? LOOK_EVERY_MS : FIRST_AGAIN_MS);
    lease->ttl_ms = link_int(rows, row, L_TTL);
    lease->session = link_int(rows, row, L_SESSION);
    if (!lease->known) {
        put_text(lease, (struct str){lease->text, lease->resource.n},
                 link_text(rows, row, L_OWNER));
        lease->exclusive = str_is(link_text(rows, row, L_MODE), "exclusive");
        lease->known = true;
    }
    lease->looked = true;
    int64_t at_us = check_expiring(lease, link_int(rows, row, L_LEFT), now_us);
    next_us = at_us < next_us ? at_us : next_us;
    at_us = check_wanted(lease, rows, row, now_us);
    next_us = at_us < next_us ? at_us : next_us;
    if (list_empty(&lease->turn) || next_us < lease->look_us) /* else it became due meanwhile */
        look_at(lease, next_us);
}

/* --- asking --- */

static void on_rows(void *arg, int call, const struct link_rows *rows)
{
    struct events *e = arg;
    (void)call;
    for (int row = 0; row < link_rows_count(rows); row++) {
        size_t item = (size_t)link_int(rows, row, L_ITEM) - 1;
        struct event_lease *lease =
            item < e->asked_count ? slab_get(&e->leases, e->asked[item]) : NULL;
        if (lease == NULL)
            continue;
        if (link_is_null(rows, row, L_REASON))
            stands(lease, rows, row);
        else
            lost(lease, rows, row);
    }
}

static void ask(struct events *e);

static void on_asked(void *arg, const struct link_outcome *outcome)
{
    struct events *e = arg;
    e->asking = false;
    if (outcome->end == LINK_REFUSED)
        log_warn("events_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    for (size_t i = 0; i < e->asked_count; i++) { /* those without an answer: in a while */
        struct event_lease *lease = slab_get(&e->leases, e->asked[i]);
        if (lease && list_empty(&lease->turn))
            look_at(lease, clock_mono_us() + 1000 * FIRST_AGAIN_MS);
    }
    e->asked_count = 0;
    if (outcome->end == LINK_COMMITTED)
        ask(e);
}

static void put_leases(struct events *e)
{
    struct array_writer names, tokens;
    struct list *at = e->due.next;
    link_param_open(&e->params);
    array_begin(&names, &e->params.bytes, PG_TEXT);
    for (e->asked_count = 0; at != &e->due && e->asked_count < LOOK_LEASES_MAX; at = at->next) {
        const struct event_lease *lease = container_of(at, struct event_lease, turn);
        e->asked[e->asked_count++] = lease->id;
        array_put_text(&names, lease->resource);
    }
    array_end(&names);
    link_param_close(&e->params);
    link_param_open(&e->params);
    array_begin(&tokens, &e->params.bytes, PG_INT8);
    for (size_t i = 0; i < e->asked_count; i++) {
        struct event_lease *lease = slab_get(&e->leases, e->asked[i]);
        array_put_int8(&tokens, lease->token);
        list_remove(&lease->turn);
    }
    array_end(&tokens);
    link_param_close(&e->params);
}

static void put_gone(struct events *e)
{
    struct array_writer names, tokens;
    link_param_open(&e->params);
    array_begin(&names, &e->params.bytes, PG_TEXT);
    for (size_t at = 0; at < e->gone.len;) {
        struct str resource = str_of(e->gone.data + at + sizeof(int64_t));
        array_put_text(&names, resource);
        at += sizeof(int64_t) + resource.n + 1;
    }
    array_end(&names);
    link_param_close(&e->params);
    link_param_open(&e->params);
    array_begin(&tokens, &e->params.bytes, PG_INT8);
    for (size_t at = 0; at < e->gone.len;) {
        int64_t token;
        memcpy(&token, e->gone.data + at, sizeof(token));
        array_put_int8(&tokens, token);
        at += sizeof(token) + strlen(e->gone.data + at + sizeof(token)) + 1;
    }
    array_end(&tokens);
    link_param_close(&e->params);
    buf_clear(&e->gone);
    e->gone_count = 0;
}

static void make_all_due(struct events *e)
{
    list_splice(&e->due, &e->later);
}

static void ask(struct events *e)
{
    if (e->asking || !link_is_up(e->link))
        return;
    if (e->anew)
        make_all_due(e);
    if (list_empty(&e->due) && e->gone_count == 0 && !e->anew)
        return;
    link_params_clear(&e->params);
    link_param_int4(&e->params, e->s->instance);
    put_leases(e);
    put_gone(e);
    link_param_bool(&e->params, e->anew);
    e->anew = false;
    e->asking = true;
    e->asked_us = clock_mono_us();
    link_call(e->link, &listen_statement, &e->params);
    link_send(e->link, on_rows, on_asked, e);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct events *e = w->data;
    int64_t now_us = clock_mono_us();
    (void)revents;
    list_for_each(at, &e->later)
    {
        struct event_lease *lease = container_of(at, struct event_lease, turn);
        if (lease->look_us <= now_us) {
            list_remove(&lease->turn);
            list_append(&e->due, &lease->turn);
        }
    }
    ask(e);
    if (e->leases.live == 0 && e->gone_count == 0 && !e->asking)
        ev_timer_stop(loop, w);
}

void events_noticed(struct events *e, struct str resource)
{
    if (e == NULL)
        return;
    list_for_each(at, bucket_of(e, resource))
    {
        struct event_lease *lease = container_of(at, struct event_lease, bucket);
        if (str_eq(lease->resource, resource))
            look_at(lease, clock_mono_us());
    }
    ask(e);
}

/* --- the interface --- */

static void on_up(void *arg)
{
    struct events *e = arg;
    e->anew = true; /* what was under way may be there or not */
    buf_clear(&e->gone);
    e->gone_count = 0;
    ask(e);
}

static void on_down(void *arg)
{
    (void)arg; /* the question under way has ended; what is due waits for the next connection */
}

static struct events *events_create(struct service *s)
{
    static const struct link_statement *const statements[] = {&listen_statement};
    struct events *e = xcalloc(1, sizeof(*e));
    e->s = s;
    slab_init(&e->leases, sizeof(struct event_lease));
    list_init(&e->due);
    list_init(&e->later);
    for (int i = 0; i < BUCKETS; i++)
        list_init(&e->buckets[i]);
    ev_timer_init(&e->timer, on_timer, 0., TURN_MS / 1000.0);
    e->timer.data = e;
    struct link_options options = {.loop = s->o.loop,
                                   .conninfo = s->o.conninfo,
                                   .seen = &s->seen,
                                   .label = "events",
                                   .session = session_sql,
                                   .statements = statements,
                                   .nstatements = 1,
                                   .up = on_up,
                                   .down = on_down,
                                   .arg = e};
    e->link = link_create(&options);
    return e;
}

void events_destroy(struct events *e)
{
    if (e == NULL)
        return;
    ev_timer_stop(e->s->o.loop, &e->timer);
    link_destroy(e->link);
    link_params_free(&e->params);
    buf_free(&e->gone);
    slab_free_all(&e->leases);
    free(e);
}

struct listener *listener_new(struct service *s, listener_fn *tell_fn, void *arg)
{
    struct listener *l = xcalloc(1, sizeof(*l));
    if (s->events == NULL)
        s->events = events_create(s);
    l->events = s->events;
    l->tell = tell_fn;
    l->arg = arg;
    list_init(&l->leases);
    return l;
}

void listener_free(struct listener *l)
{
    if (l == NULL)
        return;
    list_for_each(at, &l->leases)
    {
        struct event_lease *lease = container_of(at, struct event_lease, at);
        forget(lease);
        lease_free(lease);
    }
    free(l);
}
