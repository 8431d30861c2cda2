#ifndef PGLOCKD_BASE_METRICS_TEXT_H
#define PGLOCKD_BASE_METRICS_TEXT_H

/* The registry as Prometheus reads it. */

#include "base/buf.h"

enum metrics_format {
    METRICS_PROMETHEUS,  /* text format 0.0.4 */
    METRICS_OPENMETRICS, /* OpenMetrics 1.0.0 */
};

/*
 * Appends everything, refreshed, as a whole number of lines. Every series is there from the start,
 * at 0, so that rate() sees the first event; only a labelled histogram's series comes with its
 * first observation, since an empty one is thirty lines that say nothing. A series has the same
 * name and labels in both formats.
 */
void metrics_put_text(struct buf *out, enum metrics_format format);

/*
 * Which of the two an HTTP Accept header asks for; NULL is none. OpenMetrics only where it is named
 * and not liked less than plain text: what takes anything, such as a browser, gets plain text.
 */
enum metrics_format metrics_accepted(const char *accept);

#endif
