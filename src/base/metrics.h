#ifndef PGLOCKD_BASE_METRICS_H
#define PGLOCKD_BASE_METRICS_H

/*
 * The registry of metrics. metrics.def declares each one once; a declared metric needs no further
 * set-up but the names of its labels. One thread only (the event loop): changing a value is an
 * addition to an array whose layout the compiler knows, without allocation or locks, and may be
 * done before the names are registered.
 *
 * A label is passed as an index into the names registered for its dimension, in the order of the
 * label columns of the table. An index beyond the capacity of its dimension, or a call that does
 * not fit the metric's kind, is a bug and aborts.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* --- what is declared --- */

enum metric_label {
    LABEL_NONE,
#define LABEL(id, key, capacity) LABEL_##id,
#include "base/metrics.def"
    LABEL_COUNT
};

enum metric_buckets {
    BUCKETS_NONE,
#define BUCKETS(id, ...) BUCKETS_##id,
#include "base/metrics.def"
    BUCKETS_COUNT
};

enum metric {
#define METRIC(id, ...) M_##id,
#include "base/metrics.def"
    METRIC_COUNT
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_SHARED, METRIC_HISTOGRAM };

/* UNIT_SECONDS is kept in microseconds and shown in seconds. */
enum metric_unit { UNIT_NONE, UNIT_SECONDS, UNIT_BYTES };

enum { METRIC_LABELS_MAX = 2 };

struct metric_info {
    const char *name;
    const char *help;
    enum metric_kind kind;
    enum metric_unit unit;
    enum metric_label labels[METRIC_LABELS_MAX]; /* LABEL_NONE where it has fewer */
    enum metric_buckets buckets;
    /* Where its values lie in metric_cells: label 0 outermost, width cells for one series. */
    uint32_t first;
    uint32_t capacity[METRIC_LABELS_MAX]; /* 1 for LABEL_NONE */
    uint32_t width; /* 1; for a histogram one for each bucket, +Inf and the sum */
};

extern const struct metric_info metric_table[METRIC_COUNT];
extern int64_t metric_cells[];

/*
 * Gives the names of a label dimension, in the order of the caller's enum. The array and its names
 * are not copied and must stay. A NULL name is an index that is never shown. A later call replaces
 * the names. More names than the dimension's capacity abort.
 */
void metrics_label_names(enum metric_label label, const char *const *names, size_t count);

/* --- counting --- */

static inline int64_t *metric_cell(enum metric m, unsigned l0, unsigned l1)
{
    const struct metric_info *info = &metric_table[m];
    assert(l0 < info->capacity[0] && l1 < info->capacity[1]);
    return &metric_cells[info->first + (l0 * info->capacity[1] + l1) * info->width];
}

/* Adds n to a counter or a gauge; n is negative only for a gauge. */
static inline void metric_add2(enum metric m, unsigned l0, unsigned l1, int64_t n)
{
    assert(metric_table[m].kind == METRIC_GAUGE ||
           (metric_table[m].kind == METRIC_COUNTER && n >= 0));
    *metric_cell(m, l0, l1) += n;
}

static inline void metric_add1(enum metric m, unsigned l0, int64_t n)
{
    metric_add2(m, l0, 0, n);
}

static inline void metric_add(enum metric m, int64_t n)
{
    metric_add2(m, 0, 0, n);
}

/* Sets a gauge, or a counter that is kept elsewhere and never falls. Seconds are microseconds. */
void metric_set1(enum metric m, unsigned l0, int64_t v);
void metric_set(enum metric m, int64_t v);
/* Takes a SHARED gauge out of sight until it is set again. */
void metric_set_absent(enum metric m);

/* Adds an observation to a histogram that does not count seconds. */
void metric_observe(enum metric m, int64_t v);
/* Adds an observation in microseconds to a histogram of seconds; a negative one counts as 0. */
void metric_observe_us(enum metric m, int64_t us);
void metric_observe1_us(enum metric m, unsigned l0, int64_t us);

/* --- reading --- */

/* The sum over all series, named or not; for a histogram the number of observations. */
int64_t metric_total(enum metric m);

/* The number of observations of one series of a histogram and, in *sum, their sum. */
int64_t metric_observations(enum metric m, unsigned l0, int64_t *sum);

/* Upper bounds of a histogram's buckets in ascending order, without +Inf. */
const int64_t *metric_bounds(const struct metric_info *info, size_t *count);

/* False only for a SHARED gauge that is out of sight. */
bool metric_is_shown(enum metric m);

/* One label of a series. */
struct metric_pair {
    struct str key;
    struct str name;
};

enum { METRIC_PAIRS_MAX = 4 };

/* A series that has names for all its labels: where its metric's values are shown. */
struct metric_series {
    const struct metric_info *info;
    const int64_t *cells; /* info->width of them; a histogram's buckets are not cumulative */
    size_t npairs;
    struct metric_pair pairs[METRIC_PAIRS_MAX];
};

/* The number of observations of a histogram's series. */
int64_t metric_series_count(const struct metric_series *s);

/*
 * Calls fn for each series of a metric in the order of its names, those of the first label
 * outermost. All that shows metrics goes by this and by the order of the table.
 */
void metrics_each(enum metric m, void (*fn)(void *arg, const struct metric_series *s), void *arg);

/* Changes whenever metrics_each() may find other series than before. */
unsigned metrics_names_version(void);

/*
 * Has fn(arg) called by metrics_refresh(), to bring gauges up to date that are not kept so as
 * things happen. It must not block. There are at most METRICS_HOOKS_MAX hooks at a time.
 */
enum { METRICS_HOOKS_MAX = 16 };
void metrics_on_refresh(void (*fn)(void *arg), void *arg);
/* Undoes metrics_on_refresh with the same arguments; not to be called from a hook. */
void metrics_off_refresh(void (*fn)(void *arg), void *arg);
/* To be called before the values are shown to anybody. */
void metrics_refresh(void);

#endif
