#ifndef PGLOCKD_PGLOCKCTL_RUN_GUARD_H
#define PGLOCKD_PGLOCKCTL_RUN_GUARD_H

/*
 * The guard of pglockctl run: a small process in a session of its own that ends the command's
 * process group before a lease can have expired, when pglockctl itself is killed, stopped or
 * hangs. While the terminal has suspended the job (Ctrl-Z) it renews in pglockctl's place.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/pglockd.h"
#include "pglockctl/run_leases.h"

/* When the command is told to end, and when it is made to. Microseconds. */
struct run_times {
    int64_t margin_us;     /* KILL happens so long before the deadline */
    int64_t kill_after_us; /* TERM happens so long before KILL */
};

/* How long the two phases are for a lease of ttl_ms. kill_after_ms is what the user asked for. */
struct run_times run_times_for(int64_t ttl_ms, int64_t kill_after_ms);

/* Memory that pglockctl, the guard and, until it executes, the command share. */
struct run_shared {
    _Atomic int64_t deadline_us; /* as last published: the real one is not earlier */
    _Atomic int64_t kill_at_us;  /* 0: running; else TERM was sent and KILL follows then */
    _Atomic pid_t group;         /* the command's process group; 0 before there is one */
    _Atomic bool lost;           /* while the guard renewed */
};

struct run_guard {
    const pglockd_tls_options *tls; /* set before the start */
    struct run_shared *shared;
    struct run_times times;
    pid_t pid;
    int fd; /* readable or hung up: the guard has gone */
};

/*
 * Begins the end of the command: TERM to its group unless that was sent before, and the time for
 * KILL (at kill_after from now, but never past the deadline's margin). Returns that time.
 */
int64_t run_begin_end(struct run_shared *s, const struct run_times *times);

/* Is a process of this group alive? A zombie is not. */
bool run_group_is_alive(pid_t group);

/*
 * Before there are threads. 0, or -1 with errno. addresses, key (NULL: none) and leases are copied
 * by the fork.
 */
int run_guard_start(struct run_guard *g, const char *addresses, const char *key,
                    const struct run_leases *leases, struct run_times times);

/* The guard renews from now on. The caller has stopped doing so. */
void run_guard_take_over(struct run_guard *g);
/*
 * The guard stops renewing; afterwards shared holds the present deadline. False: it did not answer
 * within a second, and the last published deadline stands.
 */
bool run_guard_give_back(struct run_guard *g);

/* The command has ended (and is not reaped yet): the guard exits without touching anything. */
void run_guard_finish(struct run_guard *g);

#endif
