#include "pglockctl/run_guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MARGIN_MIN_MS = 20,
    MARGIN_MAX_MS = 1000,
    GROUP_POLL_MS = 20,
    GIVE_BACK_MS = 1000,
    /* After KILL only a process in the kernel's hands is still there; then the lock is not freed.
     */
    DEATH_MS = 5000,
};

/* What pglockctl writes to the guard; the guard echoes GIVE_BACK when done. */
enum order { ORDER_TAKE_OVER = 'T', ORDER_GIVE_BACK = 'B', ORDER_FINISH = 'F' };

struct run_times run_times_for(int64_t ttl_ms, int64_t kill_after_ms)
{
    int64_t margin_ms = ttl_ms / 10;

    if (margin_ms < MARGIN_MIN_MS)
        margin_ms = MARGIN_MIN_MS;
    if (margin_ms > MARGIN_MAX_MS)
        margin_ms = MARGIN_MAX_MS;
    /* The renewal at a third of the TTL must have time for a second and a third attempt. */
    if (kill_after_ms > ttl_ms / 4)
        kill_after_ms = ttl_ms / 4;
    return (struct run_times){margin_ms * 1000, kill_after_ms * 1000};
}

int64_t run_begin_end(struct run_shared *s, const struct run_times *times)
{
    int64_t before = 0, kill_at = pglockd_now_us() + times->kill_after_us;
    int64_t last = s->deadline_us - times->margin_us;

    if (kill_at > last)
        kill_at = last;
    /* One of pglockctl and the guard gets to send it: some programs take a second TERM for KILL. */
    if (atomic_compare_exchange_strong(&s->kill_at_us, &before, kill_at)) {
        if (s->group > 0) {
            kill(-s->group, SIGTERM);
            kill(-s->group, SIGCONT); /* a stopped process would not see it */
        }
        return kill_at;
    }
    return before;
}

/* The process group and state of a process; false when it is gone. */
static bool read_group(const char *pid, pid_t *group, char *state)
{
    char path[64], text[512];

    snprintf(path, sizeof(path), "/proc/%.32s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    /* The name may hold anything, also parentheses: the fields begin after the last one. */
    const char *fields = strrchr(text, ')');
    /* The kernel's numbers fit. NOLINTNEXTLINE(cert-err34-c) */
    if (!fields || strlen(fields) < 4)
        return false;
    *state = fields[2]; /* ") S PARENT GROUP " */
    char *end;
    strtol(fields + 3, &end, 10);
    *group = (pid_t)strtol(end, NULL, 10);
    return *group > 0;
}

bool run_group_is_alive(pid_t group)
{
    const struct dirent *entry;
    bool alive = false;
    DIR *dir = opendir("/proc");

    if (!dir)
        return kill(-group, 0) == 0;
    while (!alive && (entry = readdir(dir)) != NULL) {
        pid_t member;
        char state;
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
            read_group(entry->d_name, &member, &state))
            alive = member == group && state != 'Z' && state != 'X';
    }
    closedir(dir);
    return alive;
}

/* ---- in the guard ---- */

struct watch {
    struct run_shared *shared;
    struct run_times times;
    int fd;
    pglockd *client; /* made when first needed */
    const char *addresses, *key;
    const pglockd_tls_options *tls;
    struct run_leases leases;
    bool renewing;
};

/* Longest first: a poll until at_us, in steps that end soon after the machine was suspended. */
static int timeout_until(int64_t at_us)
{
    int64_t ms = (at_us - pglockd_now_us() + 999) / 1000;
    return ms < 0 ? 0 : ms > 1000 ? 1000 : (int)ms;
}

static void on_lost(void *arg, pglockd_lease *l, pglockd_status why, const char *reason)
{
    struct watch *w = arg;

    (void)l, (void)why, (void)reason;
    w->shared->lost = true;
    run_begin_end(w->shared, &w->times);
}

static bool have_client(struct watch *w)
{
    if (!w->client)
        w->client = pglockd_new(w->addresses);
    return w->client && pglockd_set_key(w->client, w->key) == PGLOCKD_OK &&
           pglockd_set_tls(w->client, w->tls) == PGLOCKD_OK;
}

static void start_renewing(struct watch *w)
{
    if (!have_client(w))
        return;
    struct run_leases l = run_leases_adopt(&w->leases, w->shared->deadline_us);
    if (l.n == 0)
        return;
    run_leases_free(&w->leases);
    w->leases = l;
    int64_t lead_ms = (w->times.margin_us + w->times.kill_after_us) / 1000;
    w->renewing = run_leases_keep(w->client, &w->leases, lead_ms, on_lost, w);
    if (!w->renewing)
        run_leases_unkeep(w->client, &w->leases);
}

static void stop_renewing(struct watch *w)
{
    if (!w->renewing)
        return;
    run_leases_unkeep(w->client, &w->leases);
    w->shared->deadline_us = run_leases_deadline_us(&w->leases);
    w->renewing = false;
}

/* The time of the next thing to do; does what is due. */
static int64_t enforce(struct watch *w)
{
    struct run_shared *s = w->shared;

    if (w->renewing && !s->lost)
        s->deadline_us = run_leases_deadline_us(&w->leases);
    int64_t term_at = s->deadline_us - w->times.margin_us - w->times.kill_after_us;
    if (s->kill_at_us == 0 && term_at > pglockd_now_us())
        return term_at;
    int64_t kill_at = run_begin_end(s, &w->times);
    if (kill_at > pglockd_now_us())
        return kill_at;
    if (s->group > 0)
        kill(-s->group, SIGKILL);
    return INT64_MAX;
}

/* pglockctl has died: ends the command and, when it is surely dead, frees the locks. */
static void act_alone(struct watch *w)
{
    int64_t give_up_us;
    pid_t group = w->shared->group;

    stop_renewing(w);
    int64_t kill_at = run_begin_end(w->shared, &w->times);
    while (group > 0 && run_group_is_alive(group) && pglockd_now_us() < kill_at)
        usleep(GROUP_POLL_MS * 1000);
    if (group > 0)
        kill(-group, SIGKILL);
    give_up_us = pglockd_now_us() + DEATH_MS * 1000;
    while (group > 0 && run_group_is_alive(group) && pglockd_now_us() < give_up_us)
        usleep(GROUP_POLL_MS * 1000);
    if (group > 0 && run_group_is_alive(group))
        return;
    if (!have_client(w))
        return;
    for (size_t i = 0; i < w->leases.n; i++)
        (void)pglockd_unlock(w->client, w->leases.at[i]);
}

/* Returns when the guard is done. */
static void watch(struct watch *w)
{
    for (;;) {
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        int n = poll(&p, 1, timeout_until(enforce(w)));
        char order;

        if (n <= 0)
            continue;
        ssize_t got = read(w->fd, &order, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            act_alone(w);
            return;
        }
        if (order == ORDER_FINISH)
            return;
        if (order == ORDER_TAKE_OVER) {
            start_renewing(w);
        } else if (order == ORDER_GIVE_BACK) {
            stop_renewing(w);
            (void)send(w->fd, &order, 1, MSG_NOSIGNAL);
        }
    }
}

/* Nothing of the caller's stays open: whoever reads its output must not wait for the guard. */
static int isolate(int fd)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    prctl(PR_SET_NAME, "pglockctl-guard");
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i <= 2 && null >= 0; i++)
        dup2(null, i);
    if (dup2(fd, 3) < 0 || close_range(4, UINT_MAX, 0) < 0 || chdir("/") < 0)
        return -1;
    return 3;
}

static _Noreturn void guard_main(struct run_guard *g, const char *addresses, const char *key,
                                 const struct run_leases *leases, int fd)
{
    struct watch w = {
        .shared = g->shared, .times = g->times, .addresses = addresses, .key = key, .tls = g->tls};

    w.fd = isolate(fd);
    w.leases = run_leases_adopt(leases, g->shared->deadline_us);
    if (w.fd < 0 || w.leases.n == 0)
        _exit(1);
    watch(&w);
    _exit(0);
}

/* ---- in pglockctl ---- */

int run_guard_start(struct run_guard *g, const char *addresses, const char *key,
                    const struct run_leases *leases, struct run_times times)
{
    int pair[2], prot = PROT_READ | PROT_WRITE;

    g->times = times;
    /* cppcheck-suppress invalidFunctionArg ; no file: -1 is what mmap() asks for */
    g->shared = mmap(NULL, sizeof(*g->shared), prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g->shared == MAP_FAILED) {
        g->shared = NULL;
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    g->shared->deadline_us = run_leases_deadline_us(leases);
    g->pid = fork();
    if (g->pid < 0)
        return -1;
    if (g->pid == 0) {
        close(pair[0]);
        guard_main(g, addresses, key, leases, pair[1]);
    }
    close(pair[1]);
    g->fd = pair[0];
    return 0;
}

static void give_order(const struct run_guard *g, char order)
{
    (void)send(g->fd, &order, 1, MSG_NOSIGNAL);
}

void run_guard_take_over(struct run_guard *g)
{
    give_order(g, ORDER_TAKE_OVER);
}

bool run_guard_give_back(struct run_guard *g)
{
    struct pollfd p = {.fd = g->fd, .events = POLLIN};
    char answer;

    give_order(g, ORDER_GIVE_BACK);
    return poll(&p, 1, GIVE_BACK_MS) == 1 && read(g->fd, &answer, 1) == 1;
}

void run_guard_finish(struct run_guard *g)
{
    give_order(g, ORDER_FINISH);
    close(g->fd);
    waitpid(g->pid, NULL, 0);
}
