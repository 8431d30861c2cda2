#ifndef PGLOCKD_PGLOCKCTL_BENCH_ENGINE_H
#define PGLOCKD_PGLOCKCTL_BENCH_ENGINE_H

/*
 * The load of pglockctl bench: many connections in few threads, each connection with one request in
 * flight. Grants are checked against each other while they are held.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "client/pglockd.h"
#include "pglockctl/hist.h"

struct bench_engine;

/* What one resource was seen to be. */
struct bench_key {
    _Atomic int32_t writers;
    _Atomic int32_t readers;
    _Atomic int64_t last_token; /* of an exclusive grant */
};

enum bench_step {
    BENCH_PAIRS, /* LOCK, hold, UNLOCK until the time is over */
    BENCH_FILL,  /* LOCK every key of the range once and keep it */
    BENCH_RENEW, /* RENEW what BENCH_FILL took, once */
    BENCH_DRAIN, /* UNLOCK what BENCH_FILL took */
};

struct bench_phase {
    enum bench_step step;
    const char *prefix; /* of the resources; the key's number follows */
    bool wait;          /* wait=inf instead of none */
    int readers;        /* of the clients, the first so many lock shared */
    int64_t keys;       /* pairs take one of so many at random; the others go through all */
    int64_t ttl_ms;
    int64_t hold_ms;
    int64_t warmup_ms;
    int64_t duration_ms;
    int server_pid; /* 0, or whose CPU time (with all descendants) to measure */
};

struct bench_result {
    double seconds;
    uint64_t pairs; /* or leases, where the phase goes through all */
    uint64_t reads, writes;
    uint64_t handoffs; /* exclusive grants to another client than the one before */
    uint64_t busy, lost, errors, violations, regressions;
    bool queued; /* the phase waited: hand-overs and fairness mean something */
    double jain; /* of the clients' pairs (of the readers', if there are); 0 when none */
    double client_cpu_seconds;
    double server_cpu_seconds; /* negative: not measured */
    struct hist acquire, renew, release, write_acquire;
    char first_error[256];
};

/*
 * Connects clients handles, spread over the addresses. NULL and one sentence in err when one
 * cannot.
 */
struct bench_engine *bench_open(const char *addresses, const char *key, int clients, int threads,
                                struct buf *err);
void bench_close(struct bench_engine *e);

/* Blocks until the phase is over. *r is overwritten. */
void bench_run(struct bench_engine *e, const struct bench_phase *phase, struct bench_result *r);

#endif
