#include "service/samples.h"

#include <assert.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/metrics.h"
#include "base/xalloc.h"

/* --- layouts --- */

struct drawing {
    struct sample_layout *layout;
    struct json json;
};

static void put_labels(void *arg, const struct metric_series *s)
{
    struct drawing *d = arg;

    d->layout->width += s->info->width;
    json_begin_object(&d->json);
    for (size_t i = 0; i < s->npairs; i++) {
        json_key_str(&d->json, s->pairs[i].key);
        json_string(&d->json, s->pairs[i].name);
    }
    json_end_object(&d->json);
}

static void put_bounds(struct json *j, const struct metric_info *info)
{
    size_t count;
    const int64_t *bounds = metric_bounds(info, &count);

    json_key(j, "bounds");
    json_begin_array(j);
    for (size_t i = 0; i < count; i++)
        json_int(j, bounds[i]);
    json_end_array(j);
}

static void put_family(struct drawing *d, enum metric m)
{
    static const char *const kinds[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_SHARED] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };
    static const char *const units[] = {
        [UNIT_NONE] = "", [UNIT_SECONDS] = "seconds", [UNIT_BYTES] = "bytes"};
    const struct metric_info *info = &metric_table[m];
    struct json *j = &d->json;

    json_begin_object(j);
    json_put_string(j, "name", str_of(info->name));
    json_put_string(j, "kind", str_of(kinds[info->kind]));
    json_put_string(j, "unit", str_of(units[info->unit]));
    json_put_int(j, "per_unit", info->unit == UNIT_SECONDS ? 1000000 : 1);
    json_put_string(j, "help", str_of(info->help));
    if (info->kind == METRIC_HISTOGRAM)
        put_bounds(j, info);
    json_key(j, "series");
    json_begin_array(j);
    metrics_each(m, put_labels, d);
    json_end_array(j);
    json_end_object(j);
}

static struct sample_layout *layout_new(void)
{
    struct sample_layout *layout = xcalloc(1, sizeof(*layout));
    struct drawing d = {.layout = layout, .json = json_to(&layout->families)};

    layout->refs = 1;
    json_begin_array(&d.json);
    for (int m = 0; m < METRIC_COUNT; m++)
        put_family(&d, (enum metric)m);
    json_end_array(&d.json);
    return layout;
}

static void layout_free(struct sample_layout *layout)
{
    if (layout == NULL || --layout->refs > 0)
        return;
    buf_free(&layout->families);
    free(layout);
}

/* Names that came or went since the last sample make another layout. */
static void look_at_names(struct samples *s)
{
    if (s->current && s->names_version == metrics_names_version())
        return;
    layout_free(s->current);
    s->current = layout_new();
    s->names_version = metrics_names_version();
}

/* --- samples --- */

static void sample_free(struct sample *one)
{
    layout_free(one->layout);
    free(one);
}

struct filling {
    int64_t *at;
    bool shown;
};

static void put_cells(void *arg, const struct metric_series *s)
{
    struct filling *f = arg;

    for (size_t i = 0; i < s->info->width; i++)
        *f->at++ = f->shown ? s->cells[i] : SAMPLE_NULL;
}

static struct sample *sample_new(struct sample_layout *layout, int64_t now_us)
{
    struct sample *one = xcalloc(1, sizeof(*one) + layout->width * sizeof(one->cells[0]));
    struct filling f = {.at = one->cells};

    one->taken_us = now_us;
    one->layout = layout;
    layout->refs++;
    for (int m = 0; m < METRIC_COUNT; m++) {
        f.shown = metric_is_shown((enum metric)m);
        metrics_each((enum metric)m, put_cells, &f);
    }
    assert((size_t)(f.at - one->cells) == layout->width);
    return one;
}

/* Keeps the first of those that are not sent: of a process's very first one all else is counted. */
static size_t thin_out(struct samples *s)
{
    size_t kept = s->sent;

    for (size_t i = s->sent; i < s->count; i++) {
        if ((i - s->sent) % 2 == 0)
            s->list[kept++] = s->list[i];
        else
            sample_free(s->list[i]);
    }
    size_t dropped = s->count - kept;
    s->count = kept;
    return dropped;
}

size_t samples_take(struct samples *s, int64_t now_us, size_t max)
{
    size_t dropped = 0;

    metrics_refresh();
    look_at_names(s);
    if (s->count >= max)
        dropped = thin_out(s);
    if (s->count == s->size) {
        s->size = s->size ? 2 * s->size : 4;
        s->list = xrealloc(s->list, s->size * sizeof(struct sample *));
    }
    s->list[s->count++] = sample_new(s->current, now_us);
    return dropped;
}

size_t samples_alike(const struct samples *s, size_t max)
{
    size_t n = 0;

    while (n < s->count && n < max && s->list[n]->layout == s->list[0]->layout)
        n++;
    return n;
}

void samples_send(struct samples *s, size_t n)
{
    assert(s->sent == 0 && n <= s->count);
    s->sent = n;
}

void samples_arrived(struct samples *s)
{
    for (size_t i = 0; i < s->sent; i++)
        sample_free(s->list[i]);
    s->count -= s->sent;
    for (size_t i = 0; i < s->count; i++)
        s->list[i] = s->list[i + s->sent];
    s->sent = 0;
}

void samples_returned(struct samples *s)
{
    s->sent = 0;
}

void samples_free(struct samples *s)
{
    for (size_t i = 0; i < s->count; i++)
        sample_free(s->list[i]);
    free(s->list);
    layout_free(s->current);
    *s = (struct samples){0};
}
