#ifndef PGLOCKD_BASE_METRICS_PROCESS_H
#define PGLOCKD_BASE_METRICS_PROCESS_H

#include <stdint.h>

/*
 * Fills process_* and build_info. To be called first thing in main: the time of the call is taken
 * as the start of the process. version must stay. The values are read again by metrics_refresh(),
 * at a cost that does not grow noticeably with the number of open descriptors.
 */
void metrics_process_start(const char *version);

/*
 * The number of open descriptors, found by asking poll() which are invalid: what is used on kernels
 * that have no quicker way. 1 ms for 20000.
 */
int64_t metrics_process_fds_by_poll(void);

#endif
