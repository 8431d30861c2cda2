#ifndef PGLOCKD_PGLOCKCTL_HIST_H
#define PGLOCKD_PGLOCKCTL_HIST_H

/*
 * A log-linear histogram of durations in nanoseconds: 64 buckets for each power of two, so that a
 * quantile is too high by less than 1.6 %. A zeroed struct is an empty histogram.
 */

#include <stdint.h>

enum {
    HIST_BITS = 6,
    HIST_SUB = 1 << HIST_BITS,
    /* values below 2 * HIST_SUB have a bucket each, then one group for each further bit */
    HIST_BUCKETS = (64 - HIST_BITS) * HIST_SUB,
};

struct hist {
    uint64_t count;
    int64_t max;
    uint64_t buckets[HIST_BUCKETS];
};

/* A negative duration counts as 0. */
void hist_add(struct hist *h, int64_t ns);
/* Raises the maximum without counting: for what had not ended when the measurement did. */
void hist_note(struct hist *h, int64_t ns);
void hist_merge(struct hist *h, const struct hist *other);
/* The value that the fraction q (0 to 1) of all does not exceed; 0 when empty. */
int64_t hist_quantile(const struct hist *h, double q);

#endif
