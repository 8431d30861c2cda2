#include "server/overview.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "pg/reader.h"
#include "server/trend.h"
#include "service/service.h"

enum {
    FRESH_US = 1000000, /* how long an answer serves others, at least */
    FRESH_FACTOR = 10,  /* and how much longer than it took the database */
};

/* What was asked for one prefix, and who waits for it. */
struct overview_answer {
    struct list link; /* in overview.answers */
    struct list waits;
    struct buf prefix;
    bool all;        /* no prefix */
    bool whole;      /* for who may read everything */
    bool failed;     /* who waits for it now is told that it does not come */
    bool told;       /* somebody is told now, and may ask again meanwhile */
    struct buf rows; /* members of the reply, each with a comma before it */
    int64_t asked_us;
    int64_t answered_us;
    int64_t fresh_until_us; /* 0: never answered */
};

struct overview {
    struct ev_loop *loop;
    struct service *service; /* NULL at the end */
    const struct settings *settings;
    const char *version;
    int64_t started_us;
    ev_timer soon;        /* looks who can be told, and what is to be asked */
    struct list answers;  /* the one asked for longest ago first */
    struct list unwanted; /* waits that there was no room for */
    size_t kept;
    struct overview_answer *asking; /* its question is with the reader */
    struct ask ask;
    struct trend *trend;
    struct ask totals_ask;
    bool asking_totals;
};

/* --- the answers that are kept --- */

static struct overview_answer *find_answer(struct overview *o, struct str prefix, bool whole)
{
    list_for_each(at, &o->answers)
    {
        struct overview_answer *a = container_of(at, struct overview_answer, link);
        if (a->whole == whole && a->all == (prefix.p == NULL) &&
            str_eq(buf_str(&a->prefix), prefix))
            return a;
    }
    return NULL;
}

static void forget_answer(struct overview *o, struct overview_answer *a)
{
    list_remove(&a->link);
    o->kept--;
    buf_free(&a->prefix);
    buf_free(&a->rows);
    free(a);
}

/* Makes room by forgetting the answer that nobody waits for and was asked for longest ago. */
static bool make_room(struct overview *o)
{
    if (o->kept < OVERVIEW_KEPT_MAX)
        return true;
    list_for_each(at, &o->answers)
    {
        struct overview_answer *a = container_of(at, struct overview_answer, link);
        if (a != o->asking && !a->told && list_empty(&a->waits)) {
            forget_answer(o, a);
            return true;
        }
    }
    return false;
}

/* NULL: there is no room for one more. */
static struct overview_answer *new_answer(struct overview *o, struct str prefix, bool whole)
{
    if (!make_room(o))
        return NULL;
    struct overview_answer *a = xcalloc(1, sizeof(*a));
    list_init(&a->link);
    list_init(&a->waits);
    a->all = prefix.p == NULL;
    a->whole = whole;
    if (!a->all)
        buf_put(&a->prefix, prefix.p, prefix.n);
    o->kept++;
    return a;
}

/* --- asking --- */

static void look_soon(struct overview *o)
{
    if (!ev_is_active(&o->soon))
        ev_timer_start(o->loop, &o->soon);
}

static void on_rows(struct ask *ask, int question, const struct link_rows *rows)
{
    struct overview *o = container_of(ask, struct overview, ask);
    struct json j = json_to(&o->asking->rows);
    (void)question;
    buf_clear(&o->asking->rows);
    j.comma = true;
    for (int i = 0; i < link_rows_count(rows); i++) {
        json_key_str(&j, link_text(rows, i, 0));
        json_raw(&j, link_text(rows, i, 1));
    }
}

static void on_answer(struct ask *ask, bool ok)
{
    struct overview *o = container_of(ask, struct overview, ask);
    struct overview_answer *a = o->asking;
    o->asking = NULL;
    if (ok) {
        a->answered_us = clock_mono_us();
        int64_t fresh_us = FRESH_FACTOR * (a->answered_us - a->asked_us);
        a->fresh_until_us = a->answered_us + (fresh_us > FRESH_US ? fresh_us : FRESH_US);
    } else { /* the others would wait as long, and in vain */
        list_for_each(at, &o->answers) container_of(at, struct overview_answer, link)->failed =
            true;
    }
    look_soon(o);
}

static void ask_for(struct overview *o, struct overview_answer *a)
{
    o->asking = a;
    a->asked_us = clock_mono_us();
    o->ask =
        (struct ask){.questions = 1, .question = {ASK_STATUS}, .rows = on_rows, .done = on_answer};
    struct str prefix = {0};
    if (!a->all)
        prefix = buf_str(&a->prefix);
    link_param_text(&o->ask.params[0], prefix);
    link_param_int4(&o->ask.params[0], OVERVIEW_ROWS_MAX);
    link_param_bool(&o->ask.params[0], a->whole);
    reader_ask(service_reader(o->service), &o->ask, o->settings->request_timeout_ms);
}

/* --- telling --- */

/* Does it end the waits for a? Then *why is what to tell, or NULL where the answer is there. */
static bool is_known(const struct overview *o, const struct overview_answer *a, const char **why)
{
    *why = NULL;
    if (o->service == NULL)
        *why = "the daemon is stopping";
    else if (a->failed)
        *why = "PostgreSQL did not answer in time";
    else if (service_can_renew(o->service, why))
        return clock_mono_us() < a->fresh_until_us;
    return true;
}

/* Who is told may ask at once for the next, also for the same. */
static void tell(struct overview *o, struct overview_answer *a, struct list *waits, const char *why)
{
    struct view view = {.why = why, .overview = o, .answer = a};
    struct list told;
    list_init(&told);
    list_splice(&told, waits);
    while (!list_empty(&told)) {
        struct overview_wait *wait = list_first(&told, struct overview_wait, link);
        list_remove(&wait->link);
        wait->answered(wait, &view);
    }
}

/* Tells those who wait for one of the answers; false: there is none that is known. */
static bool tell_one(struct overview *o)
{
    const char *why;
    list_for_each(at, &o->answers)
    {
        struct overview_answer *a = container_of(at, struct overview_answer, link);
        if (list_empty(&a->waits) || !is_known(o, a, &why))
            continue;
        a->failed = false;
        a->told = true;
        tell(o, a, &a->waits, why);
        a->told = false;
        return true;
    }
    return false;
}

static void tell_all(struct overview *o)
{
    tell(o, NULL, &o->unwanted, "too many others ask for the status of other prefixes");
    while (tell_one(o))
        continue;
}

static void on_soon(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct overview *o = w->data;
    (void)loop, (void)revents;
    tell_all(o);
    list_for_each(at, &o->answers)
    {
        struct overview_answer *a = container_of(at, struct overview_answer, link);
        a->failed = false;
        if (o->asking == NULL && !list_empty(&a->waits))
            ask_for(o, a);
    }
}

void overview_ask(struct overview *o, struct str prefix, bool whole, struct overview_wait *wait)
{
    struct overview_answer *a = find_answer(o, prefix, whole);
    list_init(&wait->link);
    if (a == NULL)
        a = new_answer(o, prefix, whole);
    if (a) {
        list_remove(&a->link);
        list_append(&o->answers, &a->link);
    }
    list_append(a ? &a->waits : &o->unwanted, &wait->link);
    look_soon(o);
}

/* --- how things went --- */

/* Columns of pglockd.status_totals(). */
enum { TOTALS_LOCKS, TOTALS_WAITING };

static void on_totals_rows(struct ask *ask, int question, const struct link_rows *rows)
{
    struct overview *o = container_of(ask, struct overview, totals_ask);
    (void)question;
    trend_know(o->trend, link_int(rows, 0, TOTALS_LOCKS), link_int(rows, 0, TOTALS_WAITING));
}

static void on_totals(struct ask *ask, bool ok)
{
    struct overview *o = container_of(ask, struct overview, totals_ask);
    (void)ok; /* the point is left out */
    o->asking_totals = false;
}

static void on_point(void *arg)
{
    struct overview *o = arg;
    const char *why;
    if (o->asking_totals || !service_can_renew(o->service, &why))
        return;
    o->asking_totals = true;
    o->totals_ask = (struct ask){
        .questions = 1, .question = {ASK_TOTALS}, .rows = on_totals_rows, .done = on_totals};
    reader_ask(service_reader(o->service), &o->totals_ask, o->settings->request_timeout_ms);
}

/* --- the view --- */

static void put_daemon(const struct overview *o, struct json *j)
{
    const char *why;
    json_key(j, "daemon");
    json_begin_object(j);
    json_put_int(j, "instance", service_instance(o->service));
    json_put_string(j, "version", str_of(o->version));
    json_put_int(j, "uptime_ms", (clock_mono_us() - o->started_us) / 1000);
    json_put_bool(j, "ready", service_can_renew(o->service, &why));
    json_put_bool(j, "grants", service_grants(o->service, &why));
    json_key(j, "reason");
    if (why)
        json_string(j, str_of(why));
    else
        json_null(j);
    json_put_bool(j, "janitor", service_is_janitor(o->service));
    json_end_object(j);
}

static void put_database(const struct view *view, struct json *j)
{
    const struct overview_answer *a = view->answer;
    json_key(j, "database");
    json_begin_object(j);
    json_put_bool(j, "answers", view->why == NULL);
    if (view->why == NULL) {
        json_put_int(j, "age_ms", (clock_mono_us() - a->answered_us) / 1000);
        json_put_int(j, "took_ms", (a->answered_us - a->asked_us) / 1000);
    }
    json_end_object(j);
}

void view_put(const struct view *view, struct json *j)
{
    const struct overview_answer *a = view->answer;
    if (view->overview->service == NULL)
        return;
    put_daemon(view->overview, j);
    put_database(view, j);
    if (view->why == NULL) {
        json_key(j, "prefix");
        if (a->all)
            json_null(j);
        else
            json_string(j, buf_str(&a->prefix));
        buf_put(j->out, a->rows.data, a->rows.len);
    }
    json_key(j, "trend");
    trend_put(view->overview->trend, j);
}

/* --- the interface --- */

struct overview *overview_create(struct ev_loop *loop, struct service *service,
                                 const struct settings *settings, const char *version)
{
    struct overview *o = xcalloc(1, sizeof(*o));
    o->loop = loop;
    o->service = service;
    o->settings = settings;
    o->version = version;
    o->started_us = clock_mono_us();
    list_init(&o->answers);
    list_init(&o->unwanted);
    ev_init(&o->soon, on_soon);
    o->soon.data = o;
    o->trend = trend_create(loop, on_point, o);
    return o;
}

void overview_destroy(struct overview *o)
{
    if (o == NULL)
        return;
    o->service = NULL;
    tell_all(o);
    ev_timer_stop(o->loop, &o->soon);
    trend_destroy(o->trend);
    list_for_each(at, &o->answers) forget_answer(o, container_of(at, struct overview_answer, link));
    free(o);
}
