#include "base/clock.h"
#include "base/metrics.h"
#include "server/internal.h"

/*
 * STATS: how the daemon is, and its metrics by the registry. A metric without labels is a number,
 * or an object of count and sum where it is a histogram; with labels it is an object of objects,
 * one level a label, without the series that are 0.
 */

struct stats {
    struct json *j;
    struct metric_series last; /* whose objects are open: all its labels but the last */
    bool open;
};

/* Numbers of a reply are whole, and times milliseconds. */
static int64_t shown(const struct metric_info *info, int64_t v)
{
    return info->unit == UNIT_SECONDS ? v / 1000 : v;
}

/* pglockd_oldest_wait_seconds is oldest_wait_ms here. */
static void put_name(struct json *j, const struct metric_info *info)
{
    static const char prefix[] = "pglockd_", unit[] = "_seconds";
    struct buf name = {0};
    const char *from = info->name;
    const char *at = info->unit == UNIT_SECONDS ? strstr(from, unit) : NULL;

    if (strncmp(from, prefix, strlen(prefix)) == 0)
        from += strlen(prefix);
    if (at)
        buf_put(&name, from, (size_t)(at - from));
    if (at)
        buf_puts(&name, "_ms");
    buf_puts(&name, at ? at + strlen(unit) : from);
    json_key_str(j, buf_str(&name));
    buf_free(&name);
}

static void put_value(struct json *j, const struct metric_series *s)
{
    const struct metric_info *info = s->info;

    if (info->kind != METRIC_HISTOGRAM) {
        json_int(j, shown(info, s->cells[0]));
        return;
    }
    json_begin_object(j);
    json_put_int(j, "count", metric_series_count(s));
    json_put_int(j, info->unit == UNIT_SECONDS ? "sum_ms" : "sum",
                 shown(info, s->cells[info->width - 1]));
    json_end_object(j);
}

/* Closes and opens objects until those of this series' labels are open. */
static void move_to(struct stats *st, const struct metric_series *s)
{
    size_t depth = s->npairs - 1, same = 0;

    while (st->open && same < depth && str_eq(st->last.pairs[same].name, s->pairs[same].name))
        same++;
    for (size_t i = same; st->open && i < depth; i++)
        json_end_object(st->j);
    for (size_t i = same; i < depth; i++) {
        json_key_str(st->j, s->pairs[i].name);
        json_begin_object(st->j);
    }
    st->last = *s;
    st->open = true;
}

static void put_series(void *arg, const struct metric_series *s)
{
    struct stats *st = arg;

    if (s->npairs == 0) {
        put_value(st->j, s);
    } else if (metric_series_count(s) != 0) {
        move_to(st, s);
        json_key_str(st->j, s->pairs[s->npairs - 1].name);
        put_value(st->j, s);
    }
}

static void put_metric(struct json *j, enum metric m)
{
    const struct metric_info *info = &metric_table[m];
    bool labels = info->labels[0] != LABEL_NONE;
    struct stats st = {.j = j};

    put_name(j, info);
    if (labels)
        json_begin_object(j);
    metrics_each(m, put_series, &st);
    for (size_t i = 1; st.open && i < st.last.npairs; i++)
        json_end_object(j);
    if (labels)
        json_end_object(j);
}

static void stats(struct request *r)
{
    const struct server *s = r->conn->server;
    const char *why;
    struct json j = request_begin(r, STATUS_OK);

    json_put_int(&j, "uptime_ms", (clock_mono_us() - s->started_us) / 1000);
    json_put_bool(&j, "postgres_up", service_can_renew(s->o.service, &why));
    json_put_bool(&j, "janitor", service_is_janitor(s->o.service));
    json_put_int(&j, "connections", (int64_t)s->connections);
    json_put_int(&j, "waiters", service_waiters(s->o.service));
    metrics_refresh();
    json_key(&j, "metrics");
    json_begin_object(&j);
    for (int m = 0; m < METRIC_COUNT; m++) {
        if (metric_is_shown((enum metric)m))
            put_metric(&j, (enum metric)m);
    }
    json_end_object(&j);
    request_end(r, STATUS_OK, &j);
}

void verb_stats(struct request *r, const struct wire_request *w)
{
    (void)w;
    request_start(r, true, stats);
}
