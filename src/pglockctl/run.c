/*
 * pglockctl run: a command under a lock. The library renews in the background; the loop here waits
 * for signals, for the command and for the clock, and publishes the deadline to the guard.
 *
 *     locked -> running -> ended                      the lock is released, the command's status
 *                  \-> ending (TERM) -> killed        the lock is lost, 76
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/json.h"
#include "pglockctl/ctl.h"
#include "pglockctl/run_command.h"
#include "pglockctl/run_guard.h"
#include "pglockctl/text.h"
#include "wire/duration.h"

enum {
    RELEASE_MIN_MS = 250, /* how long one attempt to release may take: a quarter of the TTL */
    RELEASE_MAX_MS = 2000,
    GROUP_POLL_US = 20000,
    LISTEN_AGAIN_MS = 1000,
    LISTEN_MS = 300, /* how long an attempt to hear of events may hold everything up */
};

static struct {
    bool shared, no_wait;
    int64_t wait_ms, ttl_ms, kill_after_ms;
    const char *owner, *note, *yield;
} o = {.wait_ms = -1, .ttl_ms = 30000, .kill_after_ms = 5000};

static const struct opt options[] = {
    {.letter = 's', .name = "shared", .kind = OPT_FLAG, .into = &o.shared, .help = "lock shared"},
    {.letter = 'n',
     .name = "nonblock",
     .kind = OPT_FLAG,
     .into = &o.no_wait,
     .help = "do not wait for the lock"},
    {.letter = 'w',
     .name = "wait",
     .kind = OPT_DURATION,
     .into = &o.wait_ms,
     .max = DURATION_INF,
     .value = "TIME",
     .help = "wait at most so long (default: for ever)"},
    {.name = "ttl",
     .kind = OPT_DURATION,
     .into = &o.ttl_ms,
     .min = 1,
     .max = 86400000,
     .value = "TIME",
     .help = "how long the lock outlives a dead machine (default 30s)"},
    {.name = "kill-after",
     .kind = OPT_DURATION,
     .into = &o.kill_after_ms,
     .max = 86400000,
     .value = "TIME",
     .help = "from TERM to KILL when the lock is lost (default 5s)"},
    {.name = "owner",
     .kind = OPT_STRING,
     .into = &o.owner,
     .value = "NAME",
     .help = "shown to others as the owner (default: --name)"},
    {.name = "note",
     .kind = OPT_STRING,
     .into = &o.note,
     .value = "TEXT",
     .help = "shown to others"},
    {.name = "yield",
     .kind = OPT_STRING,
     .into = &o.yield,
     .value = "SIGNAL",
     .help = "sent to the command when somebody waits for the lock"},
};

enum stage { RUNNING, ENDING, ENDED };

struct run {
    const struct ctl *ctl;
    pglockd *client;
    pglockd_lease *lease;
    struct run_times times;
    struct run_guard guard;
    struct run_signals signals;
    struct run_terminal terminal;
    pid_t pid; /* of the command, which leads its group; a zombie keeps the number taken */
    int timer;
    int lost_fd;       /* written by the library's thread */
    char lost_why[96]; /* before that */
    enum stage stage;
    bool exited;
    int yield_signal;     /* 0: none */
    bool wanted;          /* somebody waits, and the command has not been told */
    int64_t listen_at_us; /* when to try to hear of events again */
    bool guarded;
    siginfo_t exit;
};

/* ---- losing the lock ---- */

static void on_lost(void *arg, pglockd_lease *l, pglockd_status why, const char *reason)
{
    struct run *r = arg;
    uint64_t one = 1;

    (void)l;
    if (why == PGLOCKD_LOST)
        snprintf(r->lost_why, sizeof(r->lost_why), "it was lost (%s)", reason);
    else
        snprintf(r->lost_why, sizeof(r->lost_why), "it could not be renewed in time");
    (void)!write(r->lost_fd, &one, sizeof(one));
}

static void begin_end(struct run *r, const char *why)
{
    if (r->stage != RUNNING)
        return;
    r->stage = ENDING;
    ctl_error("the lock on %s no longer holds: %s; ending the command",
              pglockd_lease_resource(r->lease), why);
    run_begin_end(r->guard.shared, &r->times);
}

static void set_timer(const struct run *r, int64_t at_us)
{
    struct itimerspec spec = {.it_value = {at_us / 1000000, at_us % 1000000 * 1000}};
    timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

/*
 * What the clock asks for. While running: publish the deadline and look again soon enough; when
 * KILL is due (also because pglockctl itself was stopped for too long), kill.
 */
static void keep_time(struct run *r)
{
    struct run_shared *s = r->guard.shared;
    int64_t now = pglockd_now_us();

    if (r->stage == RUNNING) {
        int64_t deadline = pglockd_lease_deadline_us(r->lease);
        int64_t kill_us = deadline - r->times.margin_us;
        int64_t next = now + pglockd_lease_ttl_ms(r->lease) * 1000 / 6;

        s->deadline_us = deadline;
        if (now >= kill_us || s->kill_at_us != 0)
            begin_end(r, "it could not be renewed in time");
        else
            set_timer(r, next < kill_us ? next : kill_us);
    }
    if (r->stage == ENDING) {
        if (now >= s->kill_at_us)
            kill(-r->pid, SIGKILL);
        /* Once the leader is gone, the rest of the group is looked for at short intervals. */
        set_timer(r, r->exited || now >= s->kill_at_us ? now + GROUP_POLL_US : s->kill_at_us);
        if (r->exited && !run_group_is_alive(r->pid))
            r->stage = ENDED;
    }
}

/* ---- job control ---- */

static void renew_here(struct run *r)
{
    int64_t lead_ms = (r->times.margin_us + r->times.kill_after_us) / 1000;
    if (pglockd_keep(r->client, r->lease, lead_ms, on_lost, r) != PGLOCKD_OK)
        begin_end(r, pglockd_error(r->client));
}

/* Stops the job that pglockctl belongs to, as the terminal would have; returns when continued. */
static void stop_job(const struct run *r)
{
    sigset_t stop;

    run_terminal_take_back(&r->terminal, r->pid, false);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, NULL);
    kill(0, SIGTSTP);
    sigprocmask(SIG_BLOCK, &stop, NULL);
}

/* The lease as the guard leaves it: the guard may have renewed, or have lost it. */
static void take_lease_back(struct run *r)
{
    struct run_shared *s = r->guard.shared;

    run_guard_give_back(&r->guard);
    pglockd_lease *l =
        pglockd_lease_adopt(pglockd_lease_resource(r->lease), pglockd_lease_token(r->lease),
                            pglockd_lease_ttl_ms(r->lease), s->deadline_us);
    if (l) {
        pglockd_lease_free(r->lease);
        r->lease = l;
    }
    if (s->lost || s->kill_at_us != 0)
        begin_end(r, "it was lost while the job was suspended");
    else
        renew_here(r);
}

/* The terminal stopped the command: the job is suspended, and meanwhile the guard renews. */
static void on_command_stopped(struct run *r, int signo)
{
    bool by_terminal = signo == SIGTSTP || signo == SIGTTIN || signo == SIGTTOU;

    if (!by_terminal || r->terminal.fd < 0)
        return;
    /* It only wants the terminal, which is ours to give. */
    if (signo != SIGTSTP && run_terminal_give(&r->terminal, r->pid)) {
        kill(-r->pid, SIGCONT);
        return;
    }
    if (r->stage == RUNNING) {
        pglockd_unkeep(r->client, r->lease);
        r->guard.shared->deadline_us = pglockd_lease_deadline_us(r->lease);
        run_guard_take_over(&r->guard);
    }
    stop_job(r);
    if (r->stage == RUNNING)
        take_lease_back(r);
    run_terminal_give(&r->terminal, r->pid);
    kill(-r->pid, SIGCONT);
}

/* ---- somebody waits ---- */

/* The number of a signal's name, with or without SIG, or of a number; 0 for another word. */
static int signal_number(const char *name)
{
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int i = 1; i < NSIG; i++) {
        char number[16];
        const char *abbreviation = sigabbrev_np(i);
        snprintf(number, sizeof(number), "%d", i);
        if ((abbreviation && strcasecmp(abbreviation, name) == 0) || strcmp(number, name) == 0)
            return i;
    }
    return 0;
}

static void on_event(void *arg, const char *json)
{
    struct run *r = arg;
    cJSON *event = cJSON_Parse(json);
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "event"));
    r->wanted |= name && strcmp(name, "wanted") == 0;
    cJSON_Delete(event);
}

static void tell_command(struct run *r)
{
    if (r->wanted && r->stage == RUNNING && !r->exited)
        kill(r->pid, r->yield_signal);
    r->wanted = false;
}

/*
 * Events come over the connection that took the lock. Where it was lost, another one renews the
 * lease, by which it hears of it from then on.
 */
static void listen_again(struct run *r)
{
    int64_t now = pglockd_now_us();
    int64_t left_us = pglockd_lease_deadline_us(r->lease) - now;
    bool renewed = left_us > pglockd_lease_ttl_ms(r->lease) * 500; /* so a daemon answers */
    if (pglockd_fd(r->client) >= 0 || now < r->listen_at_us || !renewed)
        return;
    r->listen_at_us = now + LISTEN_AGAIN_MS * INT64_C(1000);
    if (pglockd_renew(r->client, r->lease, 0) == PGLOCKD_OK)
        r->listen_at_us = 0;
}

static void hear(struct run *r)
{
    if (r->yield_signal == 0 || r->stage != RUNNING)
        return;
    listen_again(r);
    if (pglockd_fd(r->client) >= 0)
        (void)pglockd_poll(r->client, 0);
    tell_command(r);
}

/* ---- events ---- */

/* Looks without reaping: until the end the command's number must not become another process's. */
static void look_at_command(struct run *r)
{
    siginfo_t stopped = {0};

    if (waitid(P_PID, (id_t)r->pid, &r->exit, WEXITED | WNOHANG | WNOWAIT) == 0 && r->exit.si_pid) {
        r->exited = true;
        if (r->stage == RUNNING)
            r->stage = ENDED;
        return;
    }
    if (waitid(P_PID, (id_t)r->pid, &stopped, WSTOPPED | WNOHANG) == 0 && stopped.si_pid)
        on_command_stopped(r, stopped.si_status);
}

static void on_signals(struct run *r)
{
    struct signalfd_siginfo info;

    while (read(r->signals.fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            look_at_command(r);
        else if (!r->exited)
            kill(-r->pid, (int)info.ssi_signo);
    }
}

static void drain(int fd)
{
    uint64_t count;
    (void)!read(fd, &count, sizeof(count));
}

static void on_guard_gone(struct run *r)
{
    if (!r->guarded)
        return;
    r->guarded = false;
    ctl_error("the guard process has gone: if pglockctl is killed now, nothing ends the command");
}

static void loop(struct run *r)
{
    enum { SIGNALS, LOST, TIMER, GUARD, DAEMON, FDS };

    look_at_command(r);
    while (r->stage != ENDED) {
        struct pollfd p[FDS] = {
            [SIGNALS] = {.fd = r->signals.fd, .events = POLLIN},
            [LOST] = {.fd = r->lost_fd, .events = POLLIN},
            [TIMER] = {.fd = r->timer, .events = POLLIN},
            [GUARD] = {.fd = r->guarded ? r->guard.fd : -1, .events = POLLIN},
        };
        hear(r);
        p[DAEMON] =
            (struct pollfd){.fd = r->yield_signal ? pglockd_fd(r->client) : -1, .events = POLLIN};
        keep_time(r);
        int timeout_ms = r->yield_signal && p[DAEMON].fd < 0 ? LISTEN_AGAIN_MS : -1;
        if (r->stage == ENDED || poll(p, FDS, timeout_ms) < 0)
            continue;
        if (p[LOST].revents) {
            drain(r->lost_fd);
            begin_end(r, r->lost_why);
        }
        if (p[TIMER].revents)
            drain(r->timer);
        if (p[GUARD].revents)
            on_guard_gone(r);
        if (p[SIGNALS].revents)
            on_signals(r);
    }
}

/* ---- start and end ---- */

/* An id makes the LOCK safe to repeat, so that waiting survives a restart of the daemon. */
static void make_id(char id[static 33])
{
    unsigned char bytes[16] = {0};
    (void)!getrandom(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        sprintf(id + 2 * i, "%02x", bytes[i]);
}

static int take_lock(struct run *r, const char *resource)
{
    char id[33];
    pglockd_lock_options lock = PGLOCKD_LOCK_OPTIONS_INIT;

    make_id(id);
    lock.shared = o.shared;
    lock.ttl_ms = o.ttl_ms;
    lock.wait_ms = o.no_wait ? 0 : o.wait_ms == DURATION_INF ? PGLOCKD_FOREVER : o.wait_ms;
    lock.id = id;
    lock.owner = o.owner;
    lock.note = o.note;
    pglockd_status status = pglockd_lock(r->client, resource, &lock, &r->lease);
    return status == PGLOCKD_OK ? CTL_OK : ctl_fail(r->ctl, r->client, status);
}

static void set_environment(const pglockd_lease *lease)
{
    struct buf text = {0};
    const char *resource = pglockd_lease_resource(lease);
    int64_t token = pglockd_lease_token(lease);

    setenv("PGLOCK_RESOURCE", resource, 1);
    buf_put_int(&text, token);
    setenv("PGLOCK_TOKEN", buf_cstr(&text), 1);
    buf_clear(&text);
    struct json j = json_to(&text);
    buf_putc(&text, '{');
    json_string(&j, str_of(resource));
    buf_printf(&text, ":%" PRId64 "}", token);
    setenv("PGLOCK_TOKENS", buf_cstr(&text), 1);
    buf_free(&text);
}

/* Everything but the command. 0, or -1 with errno. */
static int prepare(struct run *r)
{
    r->times = run_times_for(pglockd_lease_ttl_ms(r->lease), o.kill_after_ms);
    r->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    r->lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->timer < 0 || r->lost_fd < 0 || run_signals_take(&r->signals) < 0)
        return -1;
    if (run_guard_start(&r->guard, r->ctl->connect, r->lease, r->times) < 0)
        return -1;
    r->guarded = true;
    run_terminal_open(&r->terminal);
    set_environment(r->lease);
    return 0;
}

/* CTL_OK, or why there is no command. */
static int start(struct run *r, char **argv)
{
    bool exec_failed = false;

    if (prepare(r) == 0) {
        r->pid = run_command_start(argv, &r->terminal, &r->signals, r->guard.shared, &exec_failed);
        if (r->pid > 0)
            return CTL_OK;
    }
    int error = errno;
    ctl_error("cannot run %s: %s", argv[0], strerror(error));
    return exec_failed && error == ENOENT ? CTL_NOT_FOUND : CTL_CANNOT_EXECUTE;
}

static int command_status(const struct run *r)
{
    return r->exit.si_code == CLD_EXITED ? r->exit.si_status : 128 + r->exit.si_status;
}

/*
 * Releases the lock and returns the exit status. That it was held until now is the daemon's word;
 * where none answers, the deadline's.
 */
static int release(struct run *r, int status)
{
    int64_t ms = pglockd_lease_ttl_ms(r->lease) / 4;

    ms = ms < RELEASE_MIN_MS ? RELEASE_MIN_MS : ms > RELEASE_MAX_MS ? RELEASE_MAX_MS : ms;
    pglockd_set_timeouts(r->client, (int)ms, (int)ms);
    pglockd_status released = pglockd_unlock(r->client, r->lease);
    bool overdue = pglockd_now_us() >= pglockd_lease_deadline_us(r->lease);

    if (r->guard.shared && r->guard.shared->kill_at_us != 0)
        return CTL_LOST;
    if (released == PGLOCKD_OK)
        return status;
    if (released == PGLOCKD_LOST) {
        ctl_error("the lock was lost while the command ran: %s", pglockd_error(r->client));
        return CTL_LOST;
    }
    ctl_error("the lock could not be released and stands until its TTL: %s",
              pglockd_error(r->client));
    return overdue ? CTL_LOST : status;
}

static int run_locked(struct run *r, char **argv)
{
    int status = start(r, argv);

    if (status == CTL_OK) {
        renew_here(r);
        if (r->yield_signal)
            pglockd_set_timeouts(r->client, LISTEN_MS, LISTEN_MS);
        loop(r);
        status = command_status(r);
        run_terminal_take_back(&r->terminal, r->pid, r->guard.shared->kill_at_us != 0);
    }
    if (r->guard.pid > 0)
        run_guard_finish(&r->guard);
    if (r->pid > 0)
        waitpid(r->pid, NULL, 0);
    return release(r, status);
}

static int run_main(struct ctl *ctl, const struct opt_words *words)
{
    struct run r = {.ctl = ctl};

    if (ctl->json)
        return ctl_usage_error("run has no output of its own: --json does not apply");
    if (words->nwords == 0)
        return ctl_usage_error("run needs a resource: pglockctl run RESOURCE -- COMMAND");
    if (words->nwords > 1)
        return ctl_usage_error("run takes one resource, and the command behind --");
    if (words->nrest == 0)
        return ctl_usage_error("run needs a command: pglockctl run RESOURCE -- COMMAND");
    if (o.no_wait && o.wait_ms >= 0)
        return ctl_usage_error("--nonblock and --wait exclude each other");
    if (o.yield && (r.yield_signal = signal_number(o.yield)) == 0)
        return ctl_usage_error("--yield: there is no signal %s", o.yield);
    r.client = ctl_client(ctl);
    if (r.yield_signal)
        pglockd_on_event(r.client, on_event, &r);
    int status = take_lock(&r, words->words[0]);
    if (status == CTL_OK)
        status = run_locked(&r, words->rest);
    pglockd_free(r.client);
    pglockd_lease_free(r.lease);
    return status;
}

const struct command command_run = {
    .name = "run",
    .synopsis = "RESOURCE -- COMMAND [ARGUMENT]...",
    .summary = "Run a command under a lock",
    .details =
        "\nThe command finds the lock in PGLOCK_RESOURCE and PGLOCK_TOKEN, and as a JSON object\n"
        "from resource to token in PGLOCK_TOKENS. When the lock is lost or cannot be renewed,\n"
        "the command's process group gets TERM and then KILL, before the lease can have\n"
        "expired. The exit status is the command's own, 128+N when signal N ended it, 126 or\n"
        "127 when it could not be run, and else as below.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .main = run_main,
};
