#include "base/metrics.h"

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
static unsigned names_version;

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
    names_version++;
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

const int64_t *metric_bounds(const struct metric_info *info, size_t *count)
{
    *count = bucket_bounds[info->buckets].count;
    return bucket_bounds[info->buckets].upper;
}

bool metric_is_shown(enum metric m)
{
    return metric_table[m].kind != METRIC_SHARED || shared_shown[m];
}

int64_t metric_series_count(const struct metric_series *s)
{
    return series_count(s->info, s->cells);
}

/* The bytes of a list parted by commas up to the next one; moves on behind it. */
static struct str next_part(const char **list)
{
    struct str part = {*list, strcspn(*list, ",")};

    *list += part.n + ((*list)[part.n] == ',');
    return part;
}

/* Adds key and name, for each part of both; false when that name is not to be shown. */
static bool add_pairs(struct metric_series *s, enum metric_label label, size_t index)
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
        assert(s->npairs < METRIC_PAIRS_MAX);
        struct metric_pair *pair = &s->pairs[s->npairs++];
        pair->key = next_part(&keys);
        pair->name = parts ? next_part(&name) : str_of(name);
    }
    return true;
}

/* The number of names of a dimension; that without a label has one, which is not shown. */
static size_t names_in(enum metric_label label)
{
    return label == LABEL_NONE ? 1 : label_names[label].count;
}

void metrics_each(enum metric m, void (*fn)(void *arg, const struct metric_series *s), void *arg)
{
    const struct metric_info *info = &metric_table[m];

    for (size_t i = 0; i < names_in(info->labels[0]); i++) {
        for (size_t k = 0; k < names_in(info->labels[1]); k++) {
            struct metric_series s = {.info = info,
                                      .cells = metric_cell(m, (unsigned)i, (unsigned)k)};
            if (add_pairs(&s, info->labels[0], i) && add_pairs(&s, info->labels[1], k))
                fn(arg, &s);
        }
    }
}

unsigned metrics_names_version(void)
{
    return names_version;
}

void metrics_on_refresh(void (*fn)(void *arg), void *arg)
{
    assert(hook_count < METRICS_HOOKS_MAX);
    hooks[hook_count].fn = fn;
    hooks[hook_count].arg = arg;
    hook_count++;
}

void metrics_off_refresh(void (*fn)(void *arg), void *arg)
{
    for (size_t i = 0; i < hook_count; i++) {
        if (hooks[i].fn == fn && hooks[i].arg == arg) {
            hooks[i] = hooks[--hook_count];
            return;
        }
    }
}

void metrics_refresh(void)
{
    for (size_t i = 0; i < hook_count; i++)
        hooks[i].fn(hooks[i].arg);
}
