/*
 * Background renewal. Two threads a handle: one renews over a connection of its own and may hang
 * in the network for as long as a timeout; the other, which never touches the network, watches the
 * deadlines and makes the calls. The list and all in it are guarded by the mutex; no callback and
 * no request runs under it.
 */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/handle.h"
#include "client/lease.h"

enum {
    ATTEMPT_MIN_MS = 50,
    RETRY_MIN_MS = 25,
    /* The condition's clock stands still while the machine is suspended: look this often. */
    NAP_MAX_MS = 1000,
};

struct kept {
    struct kept *next;
    pglockd_lease *lease;
    uint64_t serial; /* tells it from a later one of the same lease */
    int64_t renew_at_us;
    int64_t lead_us;
    int retry_ms;
    pglockd_lost_fn *fn;
    void *arg;
    bool lost; /* the daemon said so; the watch thread is to tell */
    char reason[32];
};

struct keeper {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* the list or stop: both threads look again */
    pthread_cond_t idle;    /* a callback has returned */
    pthread_t renewing, watching;
    bool stop;
    struct kept *list;
    uint64_t last_serial;
    pglockd_lease *telling; /* the lease whose callback runs */
    pglockd *conn;          /* used by the renewing thread alone */
    size_t good_address;    /* the one that answered last */
    bool answered;
    int request_ms;
};

static int64_t alarm_at(const struct kept *k)
{
    return k->lease->deadline_us - k->lead_us;
}

static void kept_free(struct kept *k)
{
    free(k);
}

/* Takes the element that *at points to out of the list. */
static struct kept *unlink_kept(struct kept **at)
{
    struct kept *k = *at;
    *at = k->next;
    return k;
}

/* Waits for a change until at_us, without the promise to wait that long. Mutex held. */
static void nap(struct keeper *k, int64_t at_us)
{
    struct timespec ts;
    int64_t left_us = at_us - pglockd_now_us();

    if (left_us <= 0)
        return;
    if (left_us > NAP_MAX_MS * 1000)
        left_us = NAP_MAX_MS * 1000;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + left_us * 1000;
    ts.tv_sec += ns / 1000000000;
    ts.tv_nsec = ns % 1000000000;
    pthread_cond_timedwait(&k->changed, &k->mutex, &ts);
}

/* ---- the watching thread ---- */

/* The first entry whose loss must be told now, or NULL with the time of the next alarm. */
static struct kept **find_lost(struct keeper *k, int64_t *next_us)
{
    int64_t now = pglockd_now_us();

    *next_us = INT64_MAX;
    for (struct kept **at = &k->list; *at; at = &(*at)->next) {
        int64_t alarm = alarm_at(*at);
        if ((*at)->lost || alarm <= now)
            return at;
        if (alarm < *next_us)
            *next_us = alarm;
    }
    return NULL;
}

/* Mutex held, let go during the callback. */
static void tell(struct keeper *k, struct kept *kept)
{
    pglockd_lease *lease = kept->lease;
    k->telling = lease;
    lease->lost = 1;
    pthread_mutex_unlock(&k->mutex);
    if (kept->fn)
        kept->fn(kept->arg, lease, kept->lost ? PGLOCKD_LOST : PGLOCKD_UNREACHABLE, kept->reason);
    kept_free(kept);
    pthread_mutex_lock(&k->mutex);
    k->telling = NULL;
    pthread_cond_broadcast(&k->idle);
}

static void *watch_main(void *arg)
{
    struct keeper *k = arg;
    int64_t next_us;

    pthread_mutex_lock(&k->mutex);
    while (!k->stop) {
        struct kept **at = find_lost(k, &next_us);
        if (at)
            tell(k, unlink_kept(at));
        else
            nap(k, next_us);
    }
    pthread_mutex_unlock(&k->mutex);
    return NULL;
}

/* ---- the renewing thread ---- */

static struct kept *first_due(struct keeper *k)
{
    struct kept *first = NULL;
    for (struct kept *i = k->list; i; i = i->next)
        if (!i->lost && (!first || i->renew_at_us < first->renew_at_us))
            first = i;
    return first;
}

static struct kept *find_serial(struct keeper *k, uint64_t serial)
{
    struct kept *i = k->list;
    while (i && i->serial != serial)
        i = i->next;
    return i;
}

/* Records how the renewal of kept went. Mutex held. */
static void note_renewal(struct keeper *k, struct kept *kept, pglockd_status status,
                         const pglockd_lease *result)
{
    int64_t ttl_ms = kept->lease->ttl_ms;

    if (status == PGLOCKD_OK) {
        kept->lease->deadline_us = result->deadline_us;
        kept->renew_at_us = result->deadline_us - ttl_ms * 1000 * 2 / 3;
        kept->retry_ms = RETRY_MIN_MS;
        kept->reason[0] = '\0';
        return;
    }
    snprintf(kept->reason, sizeof(kept->reason), "%s", pglockd_error_code(k->conn));
    kept->lost = status == PGLOCKD_LOST;
    kept->renew_at_us = pglockd_now_us() + kept->retry_ms * INT64_C(1000);
    if (kept->retry_ms * 2 < ttl_ms / 10)
        kept->retry_ms *= 2;
}

/* Short enough that several daemons can be asked before the lease is given up. */
static int attempt_ms(const struct keeper *k, int64_t ttl_ms)
{
    int64_t ms = ttl_ms / 8;
    if (ms < ATTEMPT_MIN_MS)
        ms = ATTEMPT_MIN_MS;
    return ms < k->request_ms ? (int)ms : k->request_ms;
}

/* Mutex held, let go during the request. */
static void renew_one(struct keeper *k, struct kept *kept)
{
    uint64_t serial = kept->serial;
    int64_t ttl_ms = kept->lease->ttl_ms;
    pglockd_lease *copy = pglockd_lease_adopt(kept->lease->resource, kept->lease->token, ttl_ms, 0);
    pglockd_status status = PGLOCKD_NOMEM;

    pthread_mutex_unlock(&k->mutex);
    if (copy) {
        pglockd_set_timeouts(k->conn, attempt_ms(k, ttl_ms), attempt_ms(k, ttl_ms));
        status = pglockd_renew(k->conn, copy, ttl_ms);
    }
    pthread_mutex_lock(&k->mutex);
    if (k->conn->connected) {
        k->good_address = k->conn->next;
        k->answered = true;
    }
    kept = find_serial(k, serial);
    if (kept) {
        note_renewal(k, kept, status, copy);
        pthread_cond_broadcast(&k->changed);
    }
    pglockd_lease_free(copy);
}

static void *renew_main(void *arg)
{
    struct keeper *k = arg;

    pthread_mutex_lock(&k->mutex);
    while (!k->stop) {
        struct kept *due = first_due(k);
        if (due && due->renew_at_us <= pglockd_now_us())
            renew_one(k, due);
        else
            nap(k, due ? due->renew_at_us : INT64_MAX);
    }
    pthread_mutex_unlock(&k->mutex);
    return NULL;
}

/* ---- start and end ---- */

static void destroy(struct keeper *k)
{
    while (k->list)
        kept_free(unlink_kept(&k->list));
    pglockd_free(k->conn);
    free(k);
}

void keeper_free(struct keeper *k, bool forked)
{
    if (!k)
        return;
    if (!forked) {
        pthread_mutex_lock(&k->mutex);
        k->stop = true;
        pthread_cond_broadcast(&k->changed);
        pthread_mutex_unlock(&k->mutex);
        pthread_join(k->renewing, NULL);
        pthread_join(k->watching, NULL);
        pthread_cond_destroy(&k->changed);
        pthread_cond_destroy(&k->idle);
        pthread_mutex_destroy(&k->mutex);
    }
    destroy(k);
}

/* Both threads or none. */
static int start_threads(struct keeper *k)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&k->watching, NULL, watch_main, k);
    if (!failed && (failed = pthread_create(&k->renewing, NULL, renew_main, k)) != 0) {
        pthread_mutex_lock(&k->mutex);
        k->stop = true;
        pthread_cond_broadcast(&k->changed);
        pthread_mutex_unlock(&k->mutex);
        pthread_join(k->watching, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed;
}

static struct keeper *keeper_new(const pglockd *c)
{
    struct keeper *k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    k->request_ms = c->request_ms;
    k->conn = pglockd_new(c->addresses);
    if (!k->conn || (c->name && pglockd_set_name(k->conn, c->name) != PGLOCKD_OK) ||
        pglockd_set_key(k->conn, c->key) != PGLOCKD_OK ||
        !tls_choice_copy(&k->conn->tls, &c->tls)) {
        destroy(k);
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->changed, &attr);
    pthread_cond_init(&k->idle, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&k->mutex, NULL);
    if (start_threads(k) != 0) {
        destroy(k);
        return NULL;
    }
    return k;
}

pglockd_status pglockd_keep(pglockd *c, pglockd_lease *l, int64_t lead_ms, pglockd_lost_fn *fn,
                            void *arg)
{
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    int64_t ttl_ms = l->ttl_ms;
    if (lead_ms < 0 || lead_ms >= ttl_ms)
        return handle_fail(c, PGLOCKD_INVALID, "", "the lead is not shorter than the TTL");
    if (!c->keeper)
        c->keeper = keeper_new(c);
    struct kept *kept = calloc(1, sizeof(*kept));
    if (!c->keeper || !kept) {
        free(kept);
        return handle_fail(c, PGLOCKD_NOMEM, "", "no memory or no thread is left for renewing");
    }
    struct keeper *k = c->keeper;
    pglockd_unkeep(c, l);
    pthread_mutex_lock(&k->mutex);
    *kept = (struct kept){
        .next = k->list,
        .lease = l,
        .serial = ++k->last_serial,
        .renew_at_us = l->deadline_us - ttl_ms * 1000 * 2 / 3,
        .lead_us = (lead_ms ? lead_ms : ttl_ms / 4) * 1000,
        .retry_ms = RETRY_MIN_MS,
        .fn = fn,
        .arg = arg,
    };
    k->list = kept;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mutex);
    return PGLOCKD_OK;
}

void pglockd_unkeep(pglockd *c, pglockd_lease *l)
{
    struct keeper *k = c->keeper;
    if (!k)
        return;
    pthread_mutex_lock(&k->mutex);
    for (struct kept **at = &k->list; *at; at = &(*at)->next)
        if ((*at)->lease == l) {
            kept_free(unlink_kept(at));
            break;
        }
    while (k->telling == l && !pthread_equal(pthread_self(), k->watching))
        pthread_cond_wait(&k->idle, &k->mutex);
    pthread_mutex_unlock(&k->mutex);
}

void keeper_share_address(struct keeper *k, struct pglockd *c)
{
    if (!k)
        return;
    pthread_mutex_lock(&k->mutex);
    if (k->answered && c->next != k->good_address) {
        pglockd_disconnect(c);
        c->next = k->good_address;
    }
    pthread_mutex_unlock(&k->mutex);
}
