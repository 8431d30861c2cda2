#include "pglockctl/bench_engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "pglockctl/proc_cpu.h"

enum {
    EVENTS = 256,
    SCRATCH = 64 * 1024,
    LINE_MAX_BYTES = 512,
    /* How long the last requests may take after the end before they count as errors. */
    STRAGGLE_MS = 30000,
};

enum client_state { IDLE, LOCKING, HOLDING, RENEWING, UNLOCKING, DONE, BROKEN };

struct client {
    struct thread *thread;
    pglockd *handle; /* connected by the library; afterwards only its descriptor is used */
    int fd;
    int index;
    enum client_state state;
    bool shared;
    int64_t key;
    int64_t token;
    int64_t begun_ns; /* when the first LOCK of this pair was sent */
    int64_t sent_ns;
    int64_t due_ns; /* end of the hold */
    struct client *next_due;
    int64_t cursor;  /* next key, where the phase goes through all */
    uint64_t pairs;  /* inside the measured time */
    struct buf part; /* of a reply whose end has not come */
};

struct thread {
    struct bench_engine *engine;
    const struct bench_phase *phase;
    pthread_t id;
    int epoll;
    int live; /* clients with something to do */
    uint64_t random;
    struct client *first_due, *last_due; /* all hold equally long: a queue is sorted */
    struct bench_result result;
    char scratch[SCRATCH];
};

struct bench_engine {
    struct client *clients;
    int nclients;
    struct thread **threads;
    int nthreads;
    struct bench_key *keys;
    int64_t *tokens; /* of BENCH_FILL, by key; 0: not held */
    int64_t ntokens;
    _Atomic int last_holder;
    int64_t start_ns, end_ns; /* what is measured */
};

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t next_random(struct thread *t)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return t->random;
}

static bool is_measured(const struct bench_engine *e, int64_t now)
{
    return now >= e->start_ns && now < e->end_ns;
}

/* ---- sending ---- */

static void finish_client(struct client *c, enum client_state state)
{
    c->state = state;
    c->thread->live--;
}

static void fail_client(struct client *c, const char *why)
{
    struct bench_result *r = &c->thread->result;

    if (r->errors++ == 0)
        snprintf(r->first_error, sizeof(r->first_error), "%s", why);
    epoll_ctl(c->thread->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    finish_client(c, BROKEN);
}

/* One request fits into an empty socket buffer: a short write is a broken connection. */
static void send_line(struct client *c, const char *line, int n, enum client_state state)
{
    c->state = state;
    if (send(c->fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        fail_client(c, "a connection broke while sending");
}

static void send_lock(struct client *c, int64_t now)
{
    const struct bench_phase *p = c->thread->phase;
    char line[LINE_MAX_BYTES];
    int n =
        snprintf(line, sizeof(line), "LOCK %s%07" PRId64 "%s ttl=%" PRId64 "ms%s\n", p->prefix,
                 c->key, c->shared ? " mode=shared" : "", p->ttl_ms, p->wait ? " wait=inf" : "");
    c->sent_ns = now;
    send_line(c, line, n, LOCKING);
}

/* UNLOCK or RENEW of what the client has. */
static void send_token(struct client *c, int64_t now, const char *verb, enum client_state next)
{
    char line[LINE_MAX_BYTES];
    int n = snprintf(line, sizeof(line), "%s %s%07" PRId64 " token=%" PRId64 "\n", verb,
                     c->thread->phase->prefix, c->key, c->token);
    c->sent_ns = now;
    send_line(c, line, n, next);
}

static void send_unlock(struct client *c, int64_t now)
{
    send_token(c, now, "UNLOCK", UNLOCKING);
}

/* The next key of a phase that goes through all; false when this client has no more. */
static bool next_in_range(struct client *c)
{
    const struct bench_engine *e = c->thread->engine;
    bool held = c->thread->phase->step != BENCH_FILL;

    while (c->cursor < e->ntokens && held && e->tokens[c->cursor] == 0)
        c->cursor += e->nclients;
    if (c->cursor >= e->ntokens)
        return false;
    c->key = c->cursor;
    c->token = e->tokens[c->key];
    c->cursor += e->nclients;
    return true;
}

/* Begins the next pair (or lease) of a client that has nothing in flight. */
static void start_client(struct client *c, int64_t now)
{
    struct thread *t = c->thread;

    c->begun_ns = now;
    if (t->phase->step == BENCH_PAIRS) {
        if (now >= t->engine->end_ns) {
            finish_client(c, DONE);
            return;
        }
        c->key = t->phase->keys > 1 ? (int64_t)(next_random(t) % (uint64_t)t->phase->keys) : 0;
        send_lock(c, now);
    } else if (!next_in_range(c)) {
        finish_client(c, DONE);
    } else if (t->phase->step == BENCH_FILL) {
        send_lock(c, now);
    } else if (t->phase->step == BENCH_RENEW) {
        send_token(c, now, "RENEW", RENEWING);
    } else {
        send_unlock(c, now);
    }
}

/* ---- checking ---- */

static void check_exclusive(struct client *c, struct bench_key *key)
{
    struct bench_result *r = &c->thread->result;

    if (atomic_fetch_add(&key->writers, 1) != 0 || atomic_load(&key->readers) != 0)
        r->violations++;
    if (atomic_exchange(&key->last_token, c->token) >= c->token)
        r->regressions++;
    if (atomic_exchange(&c->thread->engine->last_holder, c->index) != c->index)
        r->handoffs += is_measured(c->thread->engine, now_ns());
}

static void check_shared(struct client *c, struct bench_key *key)
{
    atomic_fetch_add(&key->readers, 1);
    if (atomic_load(&key->writers) != 0)
        c->thread->result.violations++;
}

/* Before UNLOCK is sent: afterwards another may be granted at any time. */
static void leave_key(struct client *c)
{
    struct bench_key *key = &c->thread->engine->keys[c->key];
    atomic_fetch_sub(c->shared ? &key->readers : &key->writers, 1);
}

/* ---- replies ---- */

/* The integer behind "name": in a flat JSON object; 0 when there is none. */
static int64_t find_int(const char *json, const char *quoted_name)
{
    const char *p = strstr(json, quoted_name);
    return p ? strtoll(p + strlen(quoted_name), NULL, 10) : 0;
}

static void hold(struct client *c, int64_t now)
{
    struct thread *t = c->thread;

    c->state = HOLDING;
    c->due_ns = now + t->phase->hold_ms * 1000000;
    c->next_due = NULL;
    if (t->last_due)
        t->last_due->next_due = c;
    else
        t->first_due = c;
    t->last_due = c;
}

static void release(struct client *c, int64_t now)
{
    leave_key(c);
    send_unlock(c, now);
}

static void record_acquire(struct client *c, int64_t now)
{
    struct thread *t = c->thread;
    struct hist *h =
        t->phase->readers > 0 && !c->shared ? &t->result.write_acquire : &t->result.acquire;
    if (is_measured(t->engine, now))
        hist_add(h, now - c->begun_ns);
    else if (now >= t->engine->end_ns && c->begun_ns < t->engine->end_ns)
        hist_note(h, t->engine->end_ns - c->begun_ns);
}

static void on_granted(struct client *c, const char *json, int64_t now)
{
    struct thread *t = c->thread;

    c->token = find_int(json, "\"token\":");
    record_acquire(c, now);
    if (t->phase->step == BENCH_FILL) {
        t->engine->tokens[c->key] = c->token;
        t->result.pairs++;
        start_client(c, now);
        return;
    }
    if (c->shared)
        check_shared(c, &t->engine->keys[c->key]);
    else
        check_exclusive(c, &t->engine->keys[c->key]);
    if (t->phase->hold_ms > 0)
        hold(c, now);
    else
        release(c, now);
}

static void on_released(struct client *c, int64_t now)
{
    struct thread *t = c->thread;

    if (t->phase->step == BENCH_DRAIN) {
        t->result.pairs++;
        hist_add(&t->result.release, now - c->sent_ns);
    } else if (is_measured(t->engine, now)) {
        hist_add(&t->result.release, now - c->sent_ns);
        t->result.pairs++;
        t->result.reads += c->shared;
        t->result.writes += !c->shared;
        c->pairs++;
    }
    start_client(c, now);
}

static void on_renewed(struct client *c, int64_t now)
{
    struct bench_result *r = &c->thread->result;

    r->pairs++;
    hist_add(&r->renew, now - c->sent_ns);
    start_client(c, now);
}

static bool begins(const char *line, const char *word)
{
    return strncmp(line, word, strlen(word)) == 0;
}

static void on_line(struct client *c, const char *line, int64_t now)
{
    if (begins(line, "* EVENT "))
        return;
    if (begins(line, "OK ") && c->state == LOCKING) {
        on_granted(c, line, now);
    } else if (begins(line, "OK ") && c->state == RENEWING) {
        on_renewed(c, now);
    } else if (begins(line, "OK ") && c->state == UNLOCKING) {
        on_released(c, now);
    } else if (begins(line, "BUSY ") && c->state == LOCKING) {
        c->thread->result.busy++;
        start_client(c, now);
    } else if (begins(line, "LOST ") && (c->state == RENEWING || c->state == UNLOCKING)) {
        c->thread->result.lost++;
        start_client(c, now);
    } else {
        fail_client(c, line);
    }
}

/* data is NUL-terminated behind its n bytes, which may hold several lines and a part of one. */
static void on_data(struct client *c, char *data, size_t n, int64_t now)
{
    char *lf;

    while (c->state != BROKEN && (lf = memchr(data, '\n', n)) != NULL) {
        *lf = '\0';
        n -= (size_t)(lf - data) + 1;
        if (c->part.len > 0) {
            buf_put(&c->part, data, (size_t)(lf - data));
            on_line(c, buf_cstr(&c->part), now);
            buf_clear(&c->part);
        } else {
            on_line(c, data, now);
        }
        data = lf + 1;
    }
    if (n > 0)
        buf_put(&c->part, data, n);
}

static void on_readable(struct client *c)
{
    struct thread *t = c->thread;
    ssize_t n = recv(c->fd, t->scratch, sizeof(t->scratch) - 1, 0);

    if (n > 0) {
        t->scratch[n] = '\0';
        on_data(c, t->scratch, (size_t)n, now_ns());
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        if (c->state == DONE)
            epoll_ctl(t->epoll, EPOLL_CTL_DEL, c->fd, NULL);
        else if (c->state != BROKEN)
            fail_client(c, "the daemon closed a connection");
    }
}

/* ---- threads ---- */

static void release_due(struct thread *t, int64_t now)
{
    while (t->first_due && t->first_due->due_ns <= now) {
        struct client *c = t->first_due;
        t->first_due = c->next_due;
        if (!t->first_due)
            t->last_due = NULL;
        if (c->state == HOLDING)
            release(c, now);
    }
}

static int wait_timeout_ms(const struct thread *t, int64_t now)
{
    if (!t->first_due)
        return 100;
    int64_t ms = (t->first_due->due_ns - now + 999999) / 1000000;
    return ms < 0 ? 0 : ms > 100 ? 100 : (int)ms;
}

static void give_up(struct thread *t)
{
    for (int i = 0; i < t->engine->nclients; i++) {
        struct client *c = &t->engine->clients[i];
        if (c->thread == t && c->state != DONE && c->state != BROKEN)
            fail_client(c, "a request was not answered within 30 s after the end");
    }
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    struct bench_engine *e = t->engine;
    struct epoll_event events[EVENTS];
    bool timed = t->phase->step == BENCH_PAIRS;

    for (int i = 0; i < e->nclients; i++)
        if (e->clients[i].thread == t && e->clients[i].state != BROKEN) {
            t->live++;
            start_client(&e->clients[i], now_ns());
        }
    while (t->live > 0) {
        int n = epoll_wait(t->epoll, events, EVENTS, wait_timeout_ms(t, now_ns()));
        for (int i = 0; i < n; i++)
            on_readable(events[i].data.ptr);
        int64_t now = now_ns();
        release_due(t, now);
        if (timed && now > e->end_ns + STRAGGLE_MS * INT64_C(1000000))
            give_up(t);
    }
    return NULL;
}

/* ---- a phase ---- */

static void prepare(struct bench_engine *e, const struct bench_phase *p)
{
    free(e->keys);
    e->keys = xcalloc((size_t)p->keys, sizeof(*e->keys));
    if (p->step == BENCH_FILL) {
        free(e->tokens);
        e->tokens = xcalloc((size_t)p->keys, sizeof(*e->tokens));
        e->ntokens = p->keys;
    }
    e->last_holder = -1;
    e->start_ns = now_ns() + p->warmup_ms * 1000000;
    e->end_ns = p->step == BENCH_PAIRS ? e->start_ns + p->duration_ms * 1000000 : INT64_MAX;
    for (int i = 0; i < e->nclients; i++) {
        struct client *c = &e->clients[i];
        c->cursor = i;
        c->pairs = 0;
        c->shared = i < p->readers;
    }
    for (int i = 0; i < e->nthreads; i++) {
        struct thread *t = e->threads[i];
        t->phase = p;
        t->live = 0;
        t->first_due = t->last_due = NULL;
        memset(&t->result, 0, sizeof(t->result));
    }
}

static void sleep_until(int64_t ns)
{
    struct timespec ts = {ns / 1000000000, ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

static double own_cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void add_result(struct bench_result *sum, const struct bench_result *r)
{
    if (sum->errors == 0)
        memcpy(sum->first_error, r->first_error, sizeof(sum->first_error));
    sum->pairs += r->pairs;
    sum->reads += r->reads;
    sum->writes += r->writes;
    sum->handoffs += r->handoffs;
    sum->busy += r->busy;
    sum->lost += r->lost;
    sum->errors += r->errors;
    sum->violations += r->violations;
    sum->regressions += r->regressions;
    hist_merge(&sum->acquire, &r->acquire);
    hist_merge(&sum->renew, &r->renew);
    hist_merge(&sum->release, &r->release);
    hist_merge(&sum->write_acquire, &r->write_acquire);
}

/* (sum x)^2 / (n * sum x^2): 1 when all got the same, 1/n when one got everything. */
static double jain_index(const struct bench_engine *e, int readers)
{
    double sum = 0, squares = 0;
    int n = readers > 0 ? readers : e->nclients;

    for (int i = 0; i < n; i++) {
        double x = (double)e->clients[i].pairs;
        sum += x;
        squares += x * x;
    }
    return squares > 0 ? sum * sum / (n * squares) : 0;
}

static void start_threads(struct bench_engine *e)
{
    for (int i = 0; i < e->nthreads; i++)
        if (pthread_create(&e->threads[i]->id, NULL, thread_main, e->threads[i]) != 0) {
            fprintf(stderr, "pglockctl: cannot start a thread\n");
            exit(EXIT_FAILURE);
        }
}

static void join_threads(const struct bench_engine *e)
{
    for (int i = 0; i < e->nthreads; i++)
        pthread_join(e->threads[i]->id, NULL);
}

void bench_run(struct bench_engine *e, const struct bench_phase *phase, struct bench_result *r)
{
    bool timed = phase->step == BENCH_PAIRS;

    memset(r, 0, sizeof(*r));
    prepare(e, phase);
    if (timed) {
        start_threads(e);
        sleep_until(e->start_ns);
    }
    double server = proc_cpu_seconds(phase->server_pid), own = own_cpu_seconds();
    int64_t began = now_ns();
    if (timed) {
        sleep_until(e->end_ns);
    } else { /* all of it is measured, so nothing is done before */
        start_threads(e);
        join_threads(e);
    }
    r->seconds = (double)(now_ns() - began) / 1e9;
    r->client_cpu_seconds = own_cpu_seconds() - own;
    r->server_cpu_seconds = phase->server_pid ? proc_cpu_seconds(phase->server_pid) - server : -1;
    if (timed)
        join_threads(e);
    for (int i = 0; i < e->nthreads; i++)
        add_result(r, &e->threads[i]->result);
    r->queued = phase->wait;
    r->jain = jain_index(e, phase->readers);
}

/* ---- connections ---- */

static bool connect_client(struct client *c, const char *address, const char *key, struct buf *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    if (strncmp(address, "tls://", 6) == 0) {
        buf_puts(err, "bench writes to the sockets itself and speaks no TLS: use tcp:// or unix:");
        return false;
    }
    c->handle = pglockd_new(address);
    if (!c->handle || pglockd_set_name(c->handle, "pglockctl bench") != PGLOCKD_OK ||
        pglockd_set_key(c->handle, key) != PGLOCKD_OK || pglockd_connect(c->handle) != PGLOCKD_OK) {
        buf_printf(err, "connection %d: %s", c->index + 1,
                   c->handle ? pglockd_error(c->handle) : "no memory");
        return false;
    }
    c->fd = pglockd_fd(c->handle);
    return epoll_ctl(c->thread->epoll, EPOLL_CTL_ADD, c->fd, &event) == 0;
}

static bool connect_all(struct bench_engine *e, const char *addresses, const char *key,
                        struct buf *err)
{
    char *copy = xstrdup(addresses), *rest = copy;
    char *list[64];
    int n = 0;
    bool ok = true;

    while (n < 64 && rest)
        list[n++] = strsep(&rest, ",");
    for (int i = 0; ok && i < e->nclients; i++)
        ok = connect_client(&e->clients[i], list[i % n], key, err);
    free(copy);
    return ok;
}

/* A descriptor a connection; the soft limit is often 1024. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct bench_engine *bench_open(const char *addresses, const char *key, int clients, int threads,
                                struct buf *err)
{
    struct bench_engine *e = xcalloc(1, sizeof(*e));

    raise_file_limit();
    e->nclients = clients;
    e->nthreads = threads < clients ? threads : clients;
    e->clients = xcalloc((size_t)clients, sizeof(*e->clients));
    e->threads = xcalloc((size_t)e->nthreads, sizeof(struct thread *));
    for (int i = 0; i < e->nthreads; i++) {
        e->threads[i] = xcalloc(1, sizeof(struct thread));
        e->threads[i]->engine = e;
        e->threads[i]->epoll = epoll_create1(EPOLL_CLOEXEC);
        e->threads[i]->random = (uint64_t)now_ns() * 2654435761u + (uint64_t)i + 1;
    }
    for (int i = 0; i < clients; i++) {
        e->clients[i].index = i;
        e->clients[i].thread = e->threads[i % e->nthreads];
    }
    if (connect_all(e, addresses, key, err))
        return e;
    bench_close(e);
    return NULL;
}

void bench_close(struct bench_engine *e)
{
    for (int i = 0; i < e->nclients; i++) {
        pglockd_free(e->clients[i].handle);
        buf_free(&e->clients[i].part);
    }
    for (int i = 0; i < e->nthreads; i++) {
        close(e->threads[i]->epoll);
        free(e->threads[i]);
    }
    free(e->threads);
    free(e->clients);
    free(e->keys);
    free(e->tokens);
    free(e);
}
