/*
 * Works under a lock, and stops in time when the lock is lost:
 *     cc example.c $(pkg-config --cflags --libs pglockd) -o example
 *     ./example 127.0.0.1:7432 demo/example
 */

#include <pglockd.h>
#include <stdio.h>
#include <unistd.h>

/* Runs in a thread of the library, while there is still time to stop. */
static void on_lost(void *arg, pglockd_lease *lease, pglockd_status why, const char *reason)
{
    volatile int *lost = arg;

    *lost = 1;
    fprintf(stderr, "lost %s: %s %s\n", pglockd_lease_resource(lease), pglockd_status_name(why),
            reason);
}

static int work_under(pglockd *c, pglockd_lease *lease)
{
    volatile int lost = 0;
    int step;

    if (pglockd_keep(c, lease, 0, on_lost, (void *)&lost) != PGLOCKD_OK)
        return 1;
    for (step = 1; step <= 3 && !lost; step++) {
        /* Whatever is written carries the token, so that a late write can be refused. */
        printf("step %d under token %lld\n", step, (long long)pglockd_lease_token(lease));
        sleep(1);
    }
    /* Stops the renewal, then says whether the lease held until here. */
    if (pglockd_unlock(c, lease) != PGLOCKD_OK || lost) {
        fprintf(stderr, "the lock was lost: %s\n", pglockd_error(c));
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    pglockd_lock_options options = PGLOCKD_LOCK_OPTIONS_INIT;
    pglockd *c = pglockd_new(argc > 1 ? argv[1] : NULL);
    pglockd_lease *lease = NULL;
    int failed = 1;

    options.ttl_ms = 10000;
    options.wait_ms = 5000;
    options.note = "the example of libpglockd";
    if (!c)
        return 1;
    if (pglockd_lock(c, argc > 2 ? argv[2] : "demo/example", &options, &lease) == PGLOCKD_OK)
        failed = work_under(c, lease);
    else
        fprintf(stderr, "cannot lock: %s\n", pglockd_error(c));
    pglockd_lease_free(lease);
    pglockd_free(c);
    return failed;
}
