/*
 * pglockctl run: a command under a lock, or under several that are taken together. The library
 * renews in the background; the loop here waits for signals, for the command and for the clock, and
 * publishes the deadline to the guard.
 *
 *     locked -> running -> ended                      the locks are released, the command's status
 *                  \-> ending (TERM) -> killed        one of them is lost, 76
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
#include "base/xalloc.h"
#include "pglockctl/ctl.h"
#include "pglockctl/path_files.h"
#include "pglockctl/run_command.h"
#include "pglockctl/run_guard.h"
#include "pglockctl/text.h"
#include "wire/duration.h"
#include "wire/resource.h"

enum {
    RELEASE_MIN_MS = 250, /* how long one attempt to release may take: a quarter of the TTL */
    RELEASE_MAX_MS = 2000,
    GROUP_POLL_US = 20000,
    LISTEN_AGAIN_MS = 1000,
    LISTEN_MS = 300, /* how long an attempt to hear of events may hold everything up */
};

static struct {
    bool shared, tree, no_wait;
    int64_t wait_ms, ttl_ms, kill_after_ms;
    const char *owner, *note, *yield;
} o = {.wait_ms = -1, .ttl_ms = 30000, .kill_after_ms = 5000};

static const struct opt options[] = {
    {.letter = 's', .name = "shared", .kind = OPT_FLAG, .into = &o.shared, .help = "lock shared"},
    {.name = "tree",
     .kind = OPT_FLAG,
     .into = &o.tree,
     .help = "lock all that is beneath the resources, too"},
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
    struct run_leases leases;
    struct run_times times;
    struct run_guard guard;
    struct run_signals signals;
    struct run_terminal terminal;
    pid_t pid; /* of the command, which leads its group; a zombie keeps the number taken */
    int timer;
    int lost_fd;                                /* written by the library's thread, once */
    char lost_resource[RESOURCE_BYTES_MAX + 1]; /* both before that */
    char lost_why[96];
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

    if (*r->lost_resource)
        return;
    snprintf(r->lost_resource, sizeof(r->lost_resource), "%s", pglockd_lease_resource(l));
    if (why == PGLOCKD_LOST)
        snprintf(r->lost_why, sizeof(r->lost_why), "it was lost (%s)", reason);
    else
        snprintf(r->lost_why, sizeof(r->lost_why), "it could not be renewed in time");
    (void)!write(r->lost_fd, &one, sizeof(one));
}

static void begin_end(struct run *r, const char *resource, const char *why)
{
    if (r->stage != RUNNING)
        return;
    r->stage = ENDING;
    ctl_error("the lock on %s no longer holds: %s; ending the command", resource, why);
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
        const pglockd_lease *first = run_leases_first_to_end(&r->leases);
        int64_t deadline = pglockd_lease_deadline_us(first);
        int64_t kill_us = deadline - r->times.margin_us;
        int64_t next = now + run_leases_ttl_ms(&r->leases) * 1000 / 6;

        s->deadline_us = deadline;
        if (now >= kill_us || s->kill_at_us != 0)
            begin_end(r, pglockd_lease_resource(first), "it could not be renewed in time");
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
    if (!run_leases_keep(r->client, &r->leases, lead_ms, on_lost, r))
        begin_end(r, pglockd_lease_resource(r->leases.at[0]), pglockd_error(r->client));
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

/* The leases as the guard leaves them: it may have renewed, or have lost them. */
static void take_leases_back(struct run *r)
{
    struct run_shared *s = r->guard.shared;

    run_guard_give_back(&r->guard);
    struct run_leases l = run_leases_adopt(&r->leases, s->deadline_us);
    if (l.n > 0) {
        run_leases_free(&r->leases);
        r->leases = l;
    }
    if (s->lost || s->kill_at_us != 0)
        begin_end(r, pglockd_lease_resource(r->leases.at[0]),
                  "it, or one that was taken with it, was lost while the job was suspended");
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
        run_leases_unkeep(r->client, &r->leases);
        r->guard.shared->deadline_us = run_leases_deadline_us(&r->leases);
        run_guard_take_over(&r->guard);
    }
    stop_job(r);
    if (r->stage == RUNNING)
        take_leases_back(r);
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
 * Events come over the connection that took the locks. Where it was lost, another one renews the
 * leases, by which it hears of them from then on.
 */
static void listen_again(struct run *r)
{
    int64_t now = pglockd_now_us();
    int64_t left_us = run_leases_deadline_us(&r->leases) - now;
    bool renewed = left_us > run_leases_ttl_ms(&r->leases) * 500; /* so a daemon answers */
    if (pglockd_fd(r->client) >= 0 || now < r->listen_at_us || !renewed)
        return;
    r->listen_at_us = now + LISTEN_AGAIN_MS * INT64_C(1000);
    for (size_t i = 0; i < r->leases.n; i++)
        if (pglockd_renew(r->client, r->leases.at[i], 0) != PGLOCKD_OK)
            return;
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
        /* The guard may have ended it a moment before the clock told us to. */
        if (r->stage == RUNNING && r->guard.shared->kill_at_us != 0)
            begin_end(r, pglockd_lease_resource(run_leases_first_to_end(&r->leases)),
                      "it could not be renewed in time");
        else if (r->stage == RUNNING)
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
            begin_end(r, r->lost_resource, r->lost_why);
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

/* All of them, or none. */
static int take_locks(struct run *r, const pglockd_member *members, size_t n)
{
    char id[33];
    pglockd_lock_options lock = PGLOCKD_LOCK_OPTIONS_INIT;

    make_id(id);
    lock.ttl_ms = o.ttl_ms;
    lock.wait_ms = o.no_wait ? 0 : o.wait_ms == DURATION_INF ? PGLOCKD_FOREVER : o.wait_ms;
    lock.id = id;
    lock.owner = o.owner;
    lock.note = o.note;
    r->leases = run_leases_new(n);
    pglockd_status status = pglockd_lock_all(r->client, members, n, &lock, r->leases.at);
    return status == PGLOCKD_OK ? CTL_OK : ctl_fail(r->ctl, r->client, status);
}

/* The first lock in two variables, all of them as JSON in a third. */
static void set_environment(const struct run_leases *leases)
{
    struct buf text = {0};
    struct json j = json_to(&text);

    buf_putc(&text, '{');
    for (size_t i = 0; i < leases->n; i++) {
        json_string(&j, str_of(pglockd_lease_resource(leases->at[i])));
        buf_printf(&text, ":%" PRId64, pglockd_lease_token(leases->at[i]));
    }
    buf_putc(&text, '}');
    setenv("PGLOCK_TOKENS", buf_cstr(&text), 1);
    setenv("PGLOCK_RESOURCE", pglockd_lease_resource(leases->at[0]), 1);
    buf_clear(&text);
    buf_put_int(&text, pglockd_lease_token(leases->at[0]));
    setenv("PGLOCK_TOKEN", buf_cstr(&text), 1);
    buf_free(&text);
}

/* Everything but the command. 0, or -1 with errno. */
static int prepare(struct run *r)
{
    r->times = run_times_for(run_leases_ttl_ms(&r->leases), o.kill_after_ms);
    r->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    r->lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->timer < 0 || r->lost_fd < 0 || run_signals_take(&r->signals) < 0)
        return -1;
    r->guard.tls = &r->ctl->tls;
    if (run_guard_start(&r->guard, r->ctl->connect, ctl_key(r->ctl), &r->leases, r->times) < 0)
        return -1;
    r->guarded = true;
    run_terminal_open(&r->terminal);
    set_environment(&r->leases);
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
 * Releases the locks. Returns OK; LOST when one of them was lost; else why one could not be
 * released. Where no daemon answers, the others are not asked for. *why is a sentence.
 */
static pglockd_status unlock_all(struct run *r, struct buf *why)
{
    pglockd_status worst = PGLOCKD_OK;

    for (size_t i = 0; i < r->leases.n; i++) {
        pglockd_status status = pglockd_unlock(r->client, r->leases.at[i]);
        if (status == PGLOCKD_OK || worst == PGLOCKD_LOST)
            continue;
        worst = status;
        buf_clear(why);
        buf_puts(why, pglockd_error(r->client));
        if (status != PGLOCKD_LOST)
            break;
    }
    return worst;
}

/*
 * The exit status after the locks were released. That they were held until now is the daemon's
 * word; where none answers, the deadline's.
 */
static int release(struct run *r, int status)
{
    struct buf why = {0};
    int64_t ms = run_leases_ttl_ms(&r->leases) / 4;

    ms = ms < RELEASE_MIN_MS ? RELEASE_MIN_MS : ms > RELEASE_MAX_MS ? RELEASE_MAX_MS : ms;
    pglockd_set_timeouts(r->client, (int)ms, (int)ms);
    int64_t deadline_us = run_leases_deadline_us(&r->leases);
    pglockd_status released = unlock_all(r, &why);
    bool overdue = pglockd_now_us() >= deadline_us;

    if (r->guard.shared && r->guard.shared->kill_at_us != 0) {
        status = CTL_LOST;
    } else if (released == PGLOCKD_LOST) {
        ctl_error("the lock was lost while the command ran: %s", buf_cstr(&why));
        status = CTL_LOST;
    } else if (released != PGLOCKD_OK) {
        ctl_error("the lock could not be released and stands until its TTL: %s", buf_cstr(&why));
        status = overdue ? CTL_LOST : status;
    }
    buf_free(&why);
    return status;
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

/* What is wrong with the command line, or NULL. */
static const char *find_mistake(const struct ctl *ctl, const struct opt_words *words)
{
    if (ctl->json)
        return "run has no output of its own: --json does not apply";
    if (words->nwords == 0 && !path_wanted())
        return "run needs a resource: pglockctl run RESOURCE... -- COMMAND";
    if (words->nrest == 0)
        return "run needs a command: pglockctl run RESOURCE... -- COMMAND";
    if (o.no_wait && o.wait_ms >= 0)
        return "--nonblock and --wait exclude each other";
    return NULL;
}

/* A resource that another one in the list locks as well: nobody can be granted both. */
static const char *find_overlap(const pglockd_member *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) {
            bool same = i < k && strcmp(m[i].resource, m[k].resource) == 0;
            bool beneath = i != k && m[i].tree &&
                           resource_covers(str_of(m[i].resource), str_of(m[k].resource));
            if (same || beneath)
                return m[k].resource;
        }
    return NULL;
}

static int members_of_words(const struct opt_words *words, pglockd_member **members, size_t *n)
{
    *n = words->nwords;
    *members = xcalloc(*n + 1, sizeof(**members));
    for (size_t i = 0; i < *n; i++)
        (*members)[i] = (pglockd_member){words->words[i], o.shared, o.tree};
    const char *overlap = find_overlap(*members, *n);
    if (overlap)
        return ctl_usage_error("%s is named twice, or in a tree that is named, too", overlap);
    return CTL_OK;
}

/* The names own the resources. */
static int members_of_files(const struct opt_words *words, struct path_names *names,
                            pglockd_member **members, size_t *n)
{
    const struct opt_words files = {.words = words->words, .nwords = words->nwords};
    int status = path_names_get(names, &files, false);

    for (size_t i = 0; i < names->n; i++)
        names->at[i].tree |= o.tree;
    path_names_reduce(names);
    *n = names->n;
    *members = xcalloc(*n + 1, sizeof(**members));
    for (size_t i = 0; i < *n; i++)
        (*members)[i] = (pglockd_member){names->at[i].resource, o.shared, names->at[i].tree};
    if (status == CTL_OK && *n == 0)
        status = ctl_usage_error("no file was named");
    return status;
}

static int run_main(struct ctl *ctl, const struct opt_words *words)
{
    struct run r = {.ctl = ctl};
    struct path_names names = {0};
    pglockd_member *members;
    size_t n;
    const char *mistake = find_mistake(ctl, words);

    if (mistake)
        return ctl_usage_error("%s", mistake);
    if (o.yield && (r.yield_signal = signal_number(o.yield)) == 0)
        return ctl_usage_error("--yield: there is no signal %s", o.yield);
    r.client = ctl_client(ctl);
    if (r.yield_signal)
        pglockd_on_event(r.client, on_event, &r);
    int status = path_wanted() ? members_of_files(words, &names, &members, &n)
                               : members_of_words(words, &members, &n);
    if (status == CTL_OK)
        status = take_locks(&r, members, n);
    if (status == CTL_OK)
        status = run_locked(&r, words->rest);
    pglockd_free(r.client);
    run_leases_free(&r.leases);
    free(members);
    path_names_free(&names);
    return status;
}

const struct command command_run = {
    .name = "run",
    .synopsis = "RESOURCE... -- COMMAND [ARGUMENT]...",
    .summary = "Run a command under a lock",
    .details =
        "\nSeveral resources are locked together or not at all. With --files they are files, and\n"
        "directories with all that is beneath them. The command finds the lock in\n"
        "PGLOCK_RESOURCE and PGLOCK_TOKEN, and all of them as a JSON object from resource to\n"
        "token in PGLOCK_TOKENS. When a lock is lost or cannot be renewed, the command's process\n"
        "group gets TERM and then KILL, before the lease can have expired. The exit status is\n"
        "the command's own, 128+N when signal N ended it, 126 or 127 when it could not be run,\n"
        "and else as below.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .files = FILES_BY_ITSELF,
    .main = run_main,
};
