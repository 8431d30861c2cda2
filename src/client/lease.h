#ifndef PGLOCKD_CLIENT_LEASE_H
#define PGLOCKD_CLIENT_LEASE_H

#include <stdatomic.h>
#include <stdint.h>

#include "client/pglockd.h"

/* The atomic members are written by the thread that renews and read by any. */
struct pglockd_lease {
    char *resource;
    int64_t token;
    int64_t waited_ms;
    _Atomic int64_t ttl_ms;
    _Atomic int64_t deadline_us;
    _Atomic int lost;
};

#endif
