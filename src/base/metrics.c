#include "base/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codepoint.h"

/* --- the table, laid out by the compiler --- */

enum {
    CAPACITY_NONE = 1,
#define LABEL(id, key, capacity) CAPACITY_##id = (capacity),
#include "base/metrics.def"
};

static const char *const label_keys[LABEL_COUNT] = {
#define LABEL(id, key, capacity) [LABEL_##id] = (key),
#include "base/metrics.def"
};

static const uint32_t label_capacities[LABEL_COUNT] = {
#define LABEL(id, key, capacity) [LABEL_##id] = (capacity),
#include "base/metrics.def"
};

#define BUCKETS(id, ...) static const int64_t bounds_##id[] = {__VA_ARGS__};
#include "base/metrics.def"

struct bounds {
    const int64_t *upper;
    size_t count;
};

static const struct bounds bucket_bounds[BUCKETS_COUNT] = {
#define BUCKETS(id, ...) [BUCKETS_##id] = {bounds_##id, sizeof(bounds_##id) / sizeof(int64_t)},
#include "base/metrics.def"
};

/* Cells of one series: each bucket's own count (not cumulative), that above the last, the sum. */
enum {
    WIDTH_NONE = 1,
#define BUCKETS(id, ...) WIDTH_##id = sizeof(bounds_##id) / sizeof(int64_t) + 2,
#include "base/metrics.def"
};

/* Never instantiated: its members' offsets are where each metric's cells begin. */
struct layout {
#define METRIC(id, name, kind, unit, l0, l1, buckets, help)                                        \
    int64_t id[CAPACITY_##l0 * CAPACITY_##l1 * WIDTH_##buckets];
#include "base/metrics.def"
};

int64_t metric_cells[sizeof(struct layout) / sizeof(int64_t)];

const struct metric_info metric_table[METRIC_COUNT] = {
#define METRIC(id, name_, kind_, unit_, l0, l1, buckets_, help_)                                   \
    [M_##id] = {                                                                                   \
        .name = (name_),                                                                           \
        .help = (help_),                                                                           \
        .kind = METRIC_##kind_,                                                                    \
        .unit = (unit_),                                                                           \
        .labels = {LABEL_##l0, LABEL_##l1},                                                        \
        .buckets = BUCKETS_##buckets_,                                                             \
        .first = offsetof(struct layout, id) / sizeof(int64_t),                                    \
        .capacity = {CAPACITY_##l0, CAPACITY_##l1},                                                \
        .width = WIDTH_##buckets_,                                                                 \
    },
#include "base/metrics.def"
};

static struct {
    const char *const *names;
    size_t count;
} label_names[LABEL_COUNT];

static bool shared_shown[METRIC_COUNT];

static struct {
    void (*fn)(void *arg);
    void *arg;
} hooks[METRICS_HOOKS_MAX];
static size_t hook_count;

void metrics_label_names(enum metric_label label, const char *const *names, size_t count)
{
    assert(label != LABEL_NONE && count <= label_capacities[label]);
    label_names[label].names = names;
    label_names[label].count = count;
}

/* --- counting --- */

void metric_set1(enum metric m, unsigned l0, int64_t v)
{
    assert(metric_table[m].kind != METRIC_HISTOGRAM);
    *metric_cell(m, l0, 0) = v;
    shared_shown[m] = true;
}

void metric_set(enum metric m, int64_t v)
{
    metric_set1(m, 0, v);
}

void metric_set_absent(enum metric m)
{
    assert(metric_table[m].kind == METRIC_SHARED);
    shared_shown[m] = false;
}

/* The index of the first bound that is not below v, or the number of bounds. */
static size_t bucket_of(const struct bounds *b, int64_t v)
{
    size_t low = 0;
    size_t high = b->count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (v <= b->upper[mid])
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static void observe(enum metric m, unsigned l0, int64_t v)
{
    const struct metric_info *info = &metric_table[m];
    int64_t *series = metric_cell(m, l0, 0);

    assert(info->kind == METRIC_HISTOGRAM);
    if (v < 0)
        v = 0;
    series[bucket_of(&bucket_bounds[info->buckets], v)]++;
    series[info->width - 1] += v;
}

void metric_observe(enum metric m, int64_t v)
{
    assert(metric_table[m].unit != UNIT_SECONDS);
    observe(m, 0, v);
}

void metric_observe_us(enum metric m, int64_t us)
{
    metric_observe1_us(m, 0, us);
}

void metric_observe1_us(enum metric m, unsigned l0, int64_t us)
{
    assert(metric_table[m].unit == UNIT_SECONDS);
    observe(m, l0, us);
}

/* --- reading --- */

static int64_t series_count(const struct metric_info *info, const int64_t *series)
{
    size_t counts = info->kind == METRIC_HISTOGRAM ? info->width - 1 : 1;
    int64_t n = 0;

    for (size_t i = 0; i < counts; i++)
        n += series[i];
    return n;
}

int64_t metric_total(enum metric m)
{
    const struct metric_info *info = &metric_table[m];
    const int64_t *series = metric_cell(m, 0, 0);
    int64_t total = 0;

    for (size_t i = 0; i < (size_t)info->capacity[0] * info->capacity[1]; i++)
        total += series_count(info, series + i * info->width);
    return total;
}

int64_t metric_observations(enum metric m, unsigned l0, int64_t *sum)
{
    const struct metric_info *info = &metric_table[m];
    const int64_t *series = metric_cell(m, l0, 0);

    assert(info->kind == METRIC_HISTOGRAM);
    *sum = series[info->width - 1];
    return series_count(info, series);
}

void metrics_on_scrape(void (*fn)(void *arg), void *arg)
{
    assert(hook_count < METRICS_HOOKS_MAX);
    hooks[hook_count].fn = fn;
    hooks[hook_count].arg = arg;
    hook_count++;
}

void metrics_off_scrape(void (*fn)(void *arg), void *arg)
{
    for (size_t i = 0; i < hook_count; i++) {
        if (hooks[i].fn == fn && hooks[i].arg == arg) {
            hooks[i] = hooks[--hook_count];
            return;
        }
    }
}

/* --- Prometheus text format 0.0.4 --- */

/*
 * Text as the format asks: backslash and line feed are escaped, in a label's value the quote too.
 * Bytes that are not UTF-8 become U+FFFD, since one of them would lose the whole scrape.
 */
static void put_escaped(struct buf *out, const char *text, bool in_quotes)
{
    struct str s = str_of(text);

    while (s.n > 0) {
        uint32_t cp;
        size_t n = codepoint_decode(s.p, s.n, &cp);

        if (n == 0)
            buf_puts(out, "\xef\xbf\xbd");
        else if (*s.p == '\n')
            buf_puts(out, "\\n");
        else if (*s.p == '\\')
            buf_puts(out, "\\\\");
        else if (*s.p == '"' && in_quotes)
            buf_puts(out, "\\\"");
        else
            buf_put(out, s.p, n);
        n += n == 0;
        s.p += n;
        s.n -= n;
    }
}

/* Exact: microseconds as seconds with as many decimals as it takes. */
static void put_value(struct buf *out, enum metric_unit unit, int64_t v)
{
    char text[32];
    int n;

    if (unit != UNIT_SECONDS) {
        buf_put_int(out, v);
        return;
    }
    n = snprintf(text, sizeof(text), "%s%" PRId64 ".%06d", v < 0 ? "-" : "",
                 v < 0 ? -(v / 1000000) : v / 1000000, abs((int)(v % 1000000)));
    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    buf_put(out, text, (size_t)n);
}

/* One series: its metric, its cells, and its labels as they stand between the braces. */
struct series {
    const struct metric_info *info;
    const int64_t *cells;
    struct str labels;
};

/* name_suffix{labels and extra}, up to the space before the value */
static void put_sample_head(struct buf *out, const struct series *s, const char *suffix)
{
    buf_puts(out, s->info->name);
    buf_puts(out, suffix);
    if (s->labels.n > 0) {
        buf_putc(out, '{');
        buf_put(out, s->labels.p, s->labels.n);
        buf_putc(out, '}');
    }
    buf_putc(out, ' ');
}

static void put_bucket(struct buf *out, const struct series *s, size_t bucket, int64_t cumulative)
{
    const struct bounds *b = &bucket_bounds[s->info->buckets];

    buf_puts(out, s->info->name);
    buf_puts(out, "_bucket{");
    buf_put(out, s->labels.p, s->labels.n);
    buf_puts(out, s->labels.n > 0 ? ",le=\"" : "le=\"");
    if (bucket < b->count)
        put_value(out, s->info->unit, b->upper[bucket]);
    else
        buf_puts(out, "+Inf");
    buf_puts(out, "\"} ");
    buf_put_int(out, cumulative);
    buf_putc(out, '\n');
}

static void put_histogram(struct buf *out, const struct series *s)
{
    size_t buckets = s->info->width - 1;
    int64_t cumulative = 0;

    for (size_t i = 0; i < buckets; i++) {
        cumulative += s->cells[i];
        put_bucket(out, s, i, cumulative);
    }
    put_sample_head(out, s, "_sum");
    put_value(out, s->info->unit, s->cells[buckets]);
    buf_putc(out, '\n');
    put_sample_head(out, s, "_count");
    buf_put_int(out, cumulative);
    buf_putc(out, '\n');
}

static void put_series(struct buf *out, const struct series *s)
{
    if (s->info->kind == METRIC_HISTOGRAM) {
        if (s->labels.n == 0 || series_count(s->info, s->cells) > 0)
            put_histogram(out, s);
        return;
    }
    put_sample_head(out, s, "");
    put_value(out, s->info->unit, s->cells[0]);
    buf_putc(out, '\n');
}

/* The number of names of a dimension; that without a label has one, which is not shown. */
static size_t names_in(enum metric_label label)
{
    return label == LABEL_NONE ? 1 : label_names[label].count;
}

/* The bytes of a list parted by commas up to the next one; moves on behind it. */
static struct str next_part(const char **list)
{
    struct str part = {*list, strcspn(*list, ",")};

    *list += part.n + ((*list)[part.n] == ',');
    return part;
}

/* Appends key="name" to labels, for each part of both; false when that name is not to be shown. */
static bool put_label(struct buf *labels, enum metric_label label, size_t index)
{
    const char *keys = label_keys[label];
    const char *name;

    if (label == LABEL_NONE)
        return true;
    name = label_names[label].names[index];
    if (!name)
        return false;
    bool parts = strchr(keys, ',') != NULL;
    while (*keys != '\0') {
        struct str key = next_part(&keys);
        if (labels->len > 0)
            buf_putc(labels, ',');
        buf_put(labels, key.p, key.n);
        buf_puts(labels, "=\"");
        if (parts) {
            struct str part = next_part(&name);
            buf_put(labels, part.p, part.n);
        } else {
            put_escaped(labels, name, true);
        }
        buf_putc(labels, '"');
    }
    return true;
}

static void put_head(struct buf *out, const struct metric_info *info)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_SHARED] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };

    buf_puts(out, "# HELP ");
    buf_puts(out, info->name);
    buf_putc(out, ' ');
    put_escaped(out, info->help, false);
    buf_puts(out, "\n# TYPE ");
    buf_puts(out, info->name);
    buf_putc(out, ' ');
    buf_puts(out, types[info->kind]);
    buf_putc(out, '\n');
}

/* labels is scratch space that the caller owns. */
static void put_metric(struct buf *out, enum metric m, struct buf *labels)
{
    const struct metric_info *info = &metric_table[m];

    if (info->kind == METRIC_SHARED && !shared_shown[m])
        return;
    put_head(out, info);
    for (size_t i = 0; i < names_in(info->labels[0]); i++) {
        for (size_t k = 0; k < names_in(info->labels[1]); k++) {
            buf_clear(labels);
            if (put_label(labels, info->labels[0], i) && put_label(labels, info->labels[1], k))
                put_series(out, &(struct series){info, metric_cell(m, (unsigned)i, (unsigned)k),
                                                 buf_str(labels)});
        }
    }
}

void metrics_render_prometheus(struct buf *out)
{
    struct buf labels = {0};

    for (size_t i = 0; i < hook_count; i++)
        hooks[i].fn(hooks[i].arg);
    for (int m = 0; m < METRIC_COUNT; m++)
        put_metric(out, (enum metric)m, &labels);
    buf_free(&labels);
}
