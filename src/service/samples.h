#ifndef PGLOCKD_SERVICE_SAMPLES_H
#define PGLOCKD_SERVICE_SAMPLES_H

/*
 * Samples of all metrics on their way into the database: taken by the clock, kept while PostgreSQL
 * is away, at most so many. A sample is one array of the values of all series; what stands where in
 * it is its layout, which many samples share. Pure: the registry in, arrays out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* What a cell holds that has no value: a SHARED gauge of a daemon that does not show it. */
#define SAMPLE_NULL INT64_MIN

struct sample_layout {
    unsigned refs;
    int32_t id; /* in the database; 0: not known yet */
    size_t width;
    struct buf families; /* what pglockd.metric_layout() takes, JSON */
};

struct sample {
    int64_t taken_us; /* clock_mono_us() */
    int64_t at_us;    /* by the database's clock, since 1970; 0 until it is first sent */
    struct sample_layout *layout;
    int64_t cells[]; /* layout->width */
};

struct samples {
    struct sample **list; /* the oldest first */
    size_t count;
    size_t size;
    size_t sent;                   /* of these the first, whose outcome is not known yet */
    struct sample_layout *current; /* of the series that have names now */
    unsigned names_version;
};

/*
 * Adds a sample of the registry as it is, refreshed. When there are more than max of them, every
 * second one is dropped, but none that is sent: what is left still spans all the time, and since
 * values are cumulative only resolution is lost. Returns how many were dropped.
 */
size_t samples_take(struct samples *s, int64_t now_us, size_t max);

/* How many from the first one on have its layout, at most max. */
size_t samples_alike(const struct samples *s, size_t max);

/* The first n are on their way. They have arrived, or are to be sent again. */
void samples_send(struct samples *s, size_t n);
void samples_arrived(struct samples *s);
void samples_returned(struct samples *s);

void samples_free(struct samples *s);

#endif
