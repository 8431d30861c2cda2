#ifndef PGLOCKD_BASE_CLOCK_H
#define PGLOCKD_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC in microseconds: for durations and deadlines inside this process only. */
int64_t clock_mono_us(void);
/* Wall clock in microseconds since 1970: for log lines and listings only, never for a decision. */
int64_t clock_wall_us(void);

#endif
