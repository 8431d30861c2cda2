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
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

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

/*
 * Has fn(arg) called at the start of each rendering, to refresh gauges that are not kept up to date
 * as things happen. It must not block. There are at most METRICS_HOOKS_MAX hooks at a time.
 */
enum { METRICS_HOOKS_MAX = 16 };
void metrics_on_scrape(void (*fn)(void *arg), void *arg);
/* Undoes metrics_on_scrape with the same arguments; not to be called from a hook. */
void metrics_off_scrape(void (*fn)(void *arg), void *arg);

/*
 * Appends everything in Prometheus' text format 0.0.4, a whole number of lines. Every series is
 * there from the start, at 0, so that rate() sees the first event; only a labelled histogram's
 * series comes with its first observation, since an empty one is thirty lines that say nothing.
 */
void metrics_render_prometheus(struct buf *out);

#endif
