#ifndef PGLOCKD_BASE_PACE_H
#define PGLOCKD_BASE_PACE_H

/*
 * A rate that is kept in one number, as in docs/rate-limits.md: the time until which what was let
 * through is paid for. A second's worth may come at once.
 */

#include <stdbool.h>
#include <stdint.h>

enum { PACE_SECOND_US = 1000000 };

/*
 * One more at now_us, at per_second. True: it may pass. debt_us: how much further than a second's
 * worth it may go. False: nothing was charged, and *retry_us is how long to wait.
 */
static inline bool pace_take(int64_t *tat_us, int64_t now_us, int64_t per_second, int64_t debt_us,
                             int64_t *retry_us)
{
    int64_t from_us = *tat_us > now_us ? *tat_us : now_us;
    int64_t to_us = from_us + (PACE_SECOND_US + per_second - 1) / per_second;

    *retry_us = to_us - now_us - PACE_SECOND_US - debt_us;
    if (*retry_us > 0)
        return false;
    *tat_us = to_us;
    return true;
}

#endif
