#include "pg/embedded.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "pg/connect.h"
#include "pg/embedded_parts.h"

#define LOCK_FILE "pglockd.lock"
#define PORT "5432" /* only a part of the socket's name */
#define SOCKET_FILE "/run/.s.PGSQL." PORT
#define SUPERUSER "postgres"
#define OWNER "pglockd" /* of the database of the same name */

#define POLL_MS 10
#define STOP_FAST_US (30 * INT64_C(1000000))
#define STOP_IMMEDIATE_US (10 * INT64_C(1000000))
/* Crash recovery takes as long as the write-ahead log since the last checkpoint is: 2 GB at most.
 */
#define READY_WAIT_US (600 * INT64_C(1000000))
/* How long a start is tried again while processes of a server that was killed still go down. */
#define LEFTOVER_WAIT_US (5 * INT64_C(1000000))
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define STABLE_US (60 * INT64_C(1000000))

struct embedded {
    char *dir; /* absolute */
    char *pgdata, *run, *log;
    struct buf postgres; /* path of the program */
    struct buf bindir;
    struct run_as who;
    int dir_fd, pgdata_fd, log_fd;
    int lock_fd;
    pid_t pid; /* of the postmaster, 0: none */
    int64_t started_us;
    int backoff_ms;
};

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static char *join(const char *dir, const char *name)
{
    struct buf b = {0};
    buf_printf(&b, "%s/%s", dir, name);
    char *path = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return path;
}

/* "cannot WHAT NAME: errno" */
static bool fail_errno(struct buf *err, const char *what, const char *name)
{
    buf_printf(err, "cannot %s %s: %s", what, name, strerror(errno));
    return false;
}

/* --- the directory --- */

static bool make_directories(const char *path, struct buf *err)
{
    char *part = xstrdup(path);
    bool ok = true;
    for (char *p = part + 1; ok && *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        ok = mkdir(part, 0755) == 0 || errno == EEXIST;
        if (ok)
            *p = '/';
    }
    /* The directory itself: closed, and as root open to be passed by PostgreSQL's user. */
    if (ok)
        ok = mkdir(part, geteuid() == 0 ? 0711 : 0700) == 0 || errno == EEXIST;
    if (!ok)
        fail_errno(err, "make directory", part);
    free(part);
    return ok;
}

static bool check_path(const char *dir, struct buf *err)
{
    const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    if (strlen(dir) + strlen(SOCKET_FILE) > most) {
        buf_printf(err,
                   "%s is too long: the path of a Unix socket in it would have %zu bytes, and "
                   "%zu is the most; choose a shorter directory",
                   dir, strlen(dir) + strlen(SOCKET_FILE), most);
        return false;
    }
    for (const char *p = dir; *p; p++) {
        if (*p == ',' || (unsigned char)*p < ' ') {
            buf_printf(err, "the embedded directory must not have a comma or a control character "
                            "in its path: PostgreSQL would read a list of directories");
            return false;
        }
    }
    return true;
}

/* 1: nothing in it; 0: something else than lost+found; -1: cannot be read. */
static int is_empty(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return -1;
    int empty = 1;
    for (struct dirent *entry; empty && (entry = readdir(dir));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lost+found") == 0;
    closedir(dir);
    return empty;
}

static bool open_directory(struct embedded *e, const char *dir, struct buf *err)
{
    if (!make_directories(dir, err))
        return false;
    char *real = realpath(dir, NULL);
    if (!real)
        return fail_errno(err, "use directory", dir);
    e->dir = xstrdup(real);
    free(real);
    if (!check_path(e->dir, err))
        return false;
    e->dir_fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (e->dir_fd < 0 && errno == EACCES && stat(e->dir, &st) == 0) {
        const struct passwd *owner = getpwuid(st.st_uid);
        buf_printf(err,
                   "%s belongs to user %s and is closed to others: start pglockd as that user "
                   "or as root, or choose another directory",
                   e->dir, owner ? owner->pw_name : "(unknown)");
        return false;
    }
    return e->dir_fd >= 0 || fail_errno(err, "open directory", e->dir);
}

static void put_in_use(const struct embedded *e, int lock_fd, struct buf *err)
{
    char pid[16] = "";
    ssize_t n = pread(lock_fd, pid, sizeof(pid) - 1, 0);
    pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
    buf_printf(err,
               "%s is in use by another pglockd%s%s: stop that one, or choose another "
               "directory",
               e->dir, *pid ? ", process " : "", pid);
}

/* The lock file is also the mark by which we know our own directory. */
static bool lock_directory(struct embedded *e, struct buf *err)
{
    bool marked = faccessat(e->dir_fd, LOCK_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (!marked && is_empty(e->dir_fd) != 1) {
        buf_printf(err,
                   "%s is not empty and was not made by pglockd --embedded: choose an empty "
                   "or new directory",
                   e->dir);
        return false;
    }
    e->lock_fd = openat(e->dir_fd, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (e->lock_fd < 0) {
        buf_printf(err, "cannot open %s/%s: %s", e->dir, LOCK_FILE, strerror(errno));
        return false;
    }
    if (flock(e->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        put_in_use(e, e->lock_fd, err);
        return false;
    }
    char pid[16];
    int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(e->lock_fd, 0) != 0 || pwrite(e->lock_fd, pid, (size_t)n, 0) != n)
        return fail_errno(err, "write", LOCK_FILE);

    /* An empty directory of root's that was there before us, such as one of mktemp -d. */
    struct stat st;
    if (!marked && geteuid() == 0 && fstat(e->dir_fd, &st) == 0 && st.st_uid == 0 &&
        fchmod(e->dir_fd, (st.st_mode & 07777) | 0111) != 0)
        return fail_errno(err, "change the mode of", e->dir);
    return true;
}

/* Opens DIR/name, made where missing, as a directory of PostgreSQL's user; -1 and err. */
static int open_own(const struct embedded *e, const char *name, struct buf *err)
{
    if (mkdirat(e->dir_fd, name, 0700) != 0 && errno != EEXIST) {
        fail_errno(err, "make directory", name);
        return -1;
    }
    int fd = openat(e->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        fail_errno(err, "open directory", name);
        return -1;
    }
    if ((e->who.drop && fchown(fd, e->who.uid, e->who.gid) != 0) || fchmod(fd, 0700) != 0) {
        fail_errno(err, "take over directory", name);
        close(fd);
        return -1;
    }
    return fd;
}

/* --- making the cluster --- */

/* The version that made pgdata; 0 when there is none. */
static int cluster_major(const struct embedded *e)
{
    char text[16] = "";
    char *path = join(e->pgdata, "PG_VERSION");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 ? (int)strtol(text, NULL, 10) : 0;
}

static int open_start_log(const struct embedded *e)
{
    return openat(e->dir_fd, START_LOG,
                  O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static bool run_initdb(const struct embedded *e, const char *target, struct buf *err)
{
    struct buf initdb = {0};
    buf_printf(&initdb, "%.*s/initdb", (int)e->bindir.len, e->bindir.data);
    /* C sorts by bytes: fast, and the same whatever the machine's libraries say. */
    const char *const argv[] = {buf_cstr(&initdb),
                                "-D",
                                target,
                                "-U",
                                SUPERUSER,
                                "--auth-local=trust",
                                "--auth-host=reject",
                                "--encoding=UTF8",
                                "--locale=C",
                                "--no-instructions",
                                NULL};
    int log_fd = open_start_log(e);
    bool ok = log_fd >= 0 && run_as_wait(&e->who, argv, log_fd) == 0;
    if (log_fd >= 0)
        close(log_fd);
    if (!ok) {
        buf_printf(err, "initdb could not make a cluster in %s (%s/%s has its words): ", target,
                   e->dir, START_LOG);
        logs_put_reason(e->dir_fd, e->log_fd, err);
    }
    buf_free(&initdb);
    return ok;
}

static bool remove_tree(const char *path)
{
    static const struct run_as ourselves = {0};
    const char *const argv[] = {"/bin/rm", "-rf", "--", path, NULL};
    return run_as_wait(&ourselves, argv, STDERR_FILENO) == 0;
}

/* Under another name until it is whole, so that an initdb that was cut off is made again. */
static bool make_cluster(struct embedded *e, struct buf *err)
{
    char *target = join(e->dir, "pgdata.new");
    bool ok = remove_tree(target);
    if (!ok)
        buf_printf(err, "cannot remove %s, which an earlier start left behind", target);
    int fd = ok ? open_own(e, "pgdata.new", err) : -1;
    ok = fd >= 0 && run_initdb(e, target, err);
    if (ok) {
        ok = conf_write_main(fd, &e->who) && fsync(fd) == 0 &&
             renameat(e->dir_fd, "pgdata.new", e->dir_fd, "pgdata") == 0 && fsync(e->dir_fd) == 0;
        if (!ok)
            fail_errno(err, "finish the cluster in", target);
    }
    if (fd >= 0)
        close(fd);
    if (ok)
        log_info("cluster_made", "dir=%s user=%s", log_quote(str_of(e->pgdata)), e->who.name);
    free(target);
    return ok;
}

static bool find_programs(struct embedded *e, const char *bindir, int made, struct buf *err)
{
    int major;
    if (!programs_find(bindir, made, &e->who, &e->bindir, &major, err))
        return false;
    buf_printf(&e->postgres, "%.*s/postgres", (int)e->bindir.len, e->bindir.data);
    buf_cstr(&e->postgres);
    if (made == 0 || made == major)
        return true;
    buf_printf(err,
               "%s was made by PostgreSQL %d, and the PostgreSQL in %s is version %d: install "
               "postgresql-%d or set pg_bindir to its programs, or start on a new directory",
               e->dir, made, buf_cstr(&e->bindir), major, made);
    return false;
}

static bool prepare(struct embedded *e, const char *dir, const char *bindir, struct buf *err)
{
    if (!open_directory(e, dir, err) || !lock_directory(e, err))
        return false;
    e->pgdata = join(e->dir, "pgdata");
    e->run = join(e->dir, "run");
    e->log = join(e->dir, "log");
    int made = cluster_major(e);
    if (!run_as_choose(e->dir, e->pgdata, &e->who, err) || !find_programs(e, bindir, made, err))
        return false;
    int run_fd = open_own(e, "run", err);
    if (run_fd < 0)
        return false;
    close(run_fd);
    if ((e->log_fd = open_own(e, "log", err)) < 0)
        return false;
    if (made == 0 && !make_cluster(e, err))
        return false;
    if ((e->pgdata_fd = open_own(e, "pgdata", err)) < 0)
        return false;
    logs_prune(e->log_fd);
    return conf_write_tuned(e->pgdata_fd, e->log, &e->who) ||
           fail_errno(err, "write pglockd.conf in", e->pgdata);
}

/* --- a server that was left behind --- */

/*
 * Reads postmaster.pid: its process, and whether the server says that it is ready. The process is 0
 * when there is no such file.
 */
static pid_t read_pid_file(const struct embedded *e, bool *ready)
{
    enum { STATUS_LINE = 8 };
    char text[1024];
    *ready = false;
    int fd = openat(e->pgdata_fd, "postmaster.pid", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *line = text;
    for (int i = 1; line && i < STATUS_LINE; i++)
        if ((line = strchr(line, '\n')))
            line++;
    *ready = line && strncmp(line, "ready", 5) == 0;
    return (pid_t)strtol(text, NULL, 10);
}

/* Is that process a server on our pgdata? A server's working directory is its data directory. */
static bool serves_pgdata(const struct embedded *e, pid_t pid)
{
    char link[64];
    struct stat theirs, ours;
    snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
    return stat(link, &theirs) == 0 && fstat(e->pgdata_fd, &ours) == 0 &&
           theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

/*
 * We hold the lock file, so a server that still runs here lost its daemon and is, or should be,
 * going down: see to it and wait. *found says that there was one, or its file. A file whose
 * process number is some other process's by now would keep PostgreSQL from starting: it goes. Else
 * it stays, as PostgreSQL looks in it for what a server that died has left.
 */
static bool settle_leftover(const struct embedded *e, bool *found, struct buf *err)
{
    bool ready;
    int64_t began_us = clock_mono_us();
    int sent = 0;
    pid_t pid = read_pid_file(e, &ready);
    *found = pid > 0;
    while (pid > 0 && serves_pgdata(e, pid)) {
        int64_t waited_us = clock_mono_us() - began_us;
        int want = waited_us < STOP_FAST_US ? SIGINT : SIGQUIT;
        if (want != sent) {
            log_warn("leftover_postgres", "pid=%d signal=%s", (int)pid,
                     want == SIGINT ? "INT" : "QUIT");
            kill(pid, want);
            sent = want;
        }
        if (waited_us > STOP_FAST_US + STOP_IMMEDIATE_US) {
            buf_printf(err,
                       "a PostgreSQL server of an earlier pglockd, process %d, still runs in "
                       "%s and does not stop",
                       (int)pid, e->pgdata);
            return false;
        }
        sleep_ms(POLL_MS);
        pid = read_pid_file(e, &ready);
    }
    if (pid > 0 && (kill(pid, 0) == 0 || errno == EPERM))
        unlinkat(e->pgdata_fd, "postmaster.pid", 0);
    return true;
}

/* --- starting --- */

static bool spawn_postmaster(struct embedded *e)
{
    const char *const argv[] = {e->postgres.data, "-D", e->pgdata, "-p", PORT, "-h", "", "-k",
                                e->run,           NULL};
    int log_fd = open_start_log(e);
    if (log_fd < 0)
        return false;
    pid_t pid = run_as_spawn(&e->who, argv, log_fd);
    close(log_fd);
    if (pid < 0)
        return false;
    e->pid = pid;
    e->started_us = clock_mono_us();
    return true;
}

enum wait_result { WAIT_READY, WAIT_EXITED, WAIT_TOO_LONG };

static enum wait_result wait_ready(struct embedded *e)
{
    for (;;) {
        bool ready;
        int status;
        if (waitpid(e->pid, &status, WNOHANG) == e->pid) {
            e->pid = 0;
            return WAIT_EXITED;
        }
        if (read_pid_file(e, &ready) == e->pid && ready)
            return WAIT_READY;
        if (clock_mono_us() - e->started_us > READY_WAIT_US)
            return WAIT_TOO_LONG;
        sleep_ms(POLL_MS);
    }
}

static bool start_postmaster(struct embedded *e, struct buf *err)
{
    bool leftover;
    if (!settle_leftover(e, &leftover, err))
        return false;
    int64_t began_us = clock_mono_us();
    for (;;) {
        if (!spawn_postmaster(e))
            return fail_errno(err, "start", e->postgres.data);
        switch (wait_ready(e)) {
        case WAIT_READY:
            return true;
        case WAIT_TOO_LONG:
            buf_printf(err, "PostgreSQL in %s does not accept connections after ten minutes",
                       e->dir);
            return false;
        case WAIT_EXITED:
            break;
        }
        /* Backends of a server that was killed hold its shared memory for a moment. */
        if (!leftover || clock_mono_us() - began_us > LEFTOVER_WAIT_US) {
            buf_puts(err, "PostgreSQL did not start: ");
            logs_put_reason(e->dir_fd, e->log_fd, err);
            buf_printf(err, " (logs are %s/%s and %s)", e->dir, START_LOG, e->log);
            return false;
        }
        sleep_ms(BACKOFF_MIN_MS);
    }
}

/* --- the database in it --- */

/* What is said here is not taken from the environment (PGHOSTADDR and its like). */
static void put_conninfo(const struct embedded *e, const char *user, const char *dbname,
                         struct buf *out)
{
    buf_puts(out, "host='");
    for (const char *p = e->run; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_putc(out, '\\');
        buf_putc(out, *p);
    }
    buf_printf(out,
               "' hostaddr='' port=" PORT " user=%s dbname=%s options='' "
               "target_session_attrs=any gssencmode=disable",
               user, dbname);
}

static bool has_row(PGconn *conn, const char *sql, bool *has, struct buf *err)
{
    PGresult *res = PQexec(conn, sql);
    bool ok = PQresultStatus(res) == PGRES_TUPLES_OK;
    if (ok)
        *has = PQntuples(res) > 0;
    else
        pg_put_error(err, conn, res);
    PQclear(res);
    return ok;
}

static bool execute(PGconn *conn, const char *sql, struct buf *err)
{
    PGresult *res = PQexec(conn, sql);
    bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;
    if (!ok)
        pg_put_error(err, conn, res);
    PQclear(res);
    return ok;
}

/* The daemon works as an owner without superuser rights, as it would on somebody's server. */
static bool make_owner(PGconn *conn, struct buf *err)
{
    bool has;
    if (!has_row(conn, "select from pg_roles where rolname = '" OWNER "'", &has, err))
        return false;
    return has ||
           (execute(conn, "create role " OWNER " login createrole in role pg_monitor", err) &&
            execute(conn, "comment on role " OWNER " is 'pglockd: the daemon'", err));
}

static bool make_database(PGconn *conn, struct buf *err)
{
    bool has;
    if (!has_row(conn, "select from pg_database where datname = '" OWNER "'", &has, err))
        return false;
    return has || execute(conn, "create database " OWNER " owner " OWNER, err);
}

static bool provision(const struct embedded *e, struct buf *err)
{
    struct buf conninfo = {0};
    put_conninfo(e, SUPERUSER, "postgres", &conninfo);
    PGconn *conn = pg_connect_blocking(buf_cstr(&conninfo), err);
    bool ok = conn && make_owner(conn, err) && make_database(conn, err);
    pg_close(conn);
    buf_free(&conninfo);
    return ok;
}

/* --- what the owner calls --- */

bool embedded_start(const char *dir, const char *bindir, struct embedded **out,
                    struct buf *conninfo, struct buf *err)
{
    struct embedded *e = xcalloc(1, sizeof(*e));
    e->dir_fd = e->pgdata_fd = e->log_fd = e->lock_fd = -1;
    if (!prepare(e, dir, bindir, err) || !start_postmaster(e, err) || !provision(e, err)) {
        embedded_stop(e);
        return false;
    }
    log_info("postgres_started", "dir=%s pid=%d user=%s bindir=%s", log_quote(str_of(e->dir)),
             (int)e->pid, e->who.name, log_quote(buf_str(&e->bindir)));
    put_conninfo(e, OWNER, OWNER, conninfo);
    *out = e;
    return true;
}

const char *embedded_dir(const struct embedded *e)
{
    return e->dir;
}

pid_t embedded_pid(const struct embedded *e)
{
    return e->pid;
}

int embedded_exited(struct embedded *e, int status)
{
    struct buf reason = {0};
    logs_put_reason(e->dir_fd, e->log_fd, &reason);
    bool stable = clock_mono_us() - e->started_us >= STABLE_US;
    int doubled = e->backoff_ms * 2 < BACKOFF_MAX_MS ? e->backoff_ms * 2 : BACKOFF_MAX_MS;
    e->backoff_ms = stable || e->backoff_ms == 0 ? BACKOFF_MIN_MS : doubled;
    log_error("postgres_exited", "pid=%d %s=%d restart_ms=%d reason=%s", (int)e->pid,
              WIFSIGNALED(status) ? "signal" : "exit",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), e->backoff_ms,
              log_quote(buf_str(&reason)));
    buf_free(&reason);
    e->pid = 0;
    return e->backoff_ms;
}

bool embedded_respawn(struct embedded *e)
{
    if (!spawn_postmaster(e)) {
        log_error("postgres_spawn_failed", "reason=%s", log_quote(str_of(strerror(errno))));
        return false;
    }
    log_info("postgres_restarted", "pid=%d", (int)e->pid);
    return true;
}

void embedded_prune_logs(const struct embedded *e)
{
    logs_prune(e->log_fd);
}

/* Sends the signal and waits at most that long; true when the postmaster is gone. */
static bool stop_with(struct embedded *e, int signal, int64_t wait_us)
{
    int64_t began_us = clock_mono_us();
    kill(e->pid, signal);
    for (;;) {
        pid_t got = waitpid(e->pid, NULL, WNOHANG);
        if (got == e->pid || (got < 0 && errno == ECHILD))
            return true;
        if (clock_mono_us() - began_us >= wait_us)
            return false;
        sleep_ms(POLL_MS);
    }
}

static void stop_postmaster(struct embedded *e)
{
    if (e->pid <= 0)
        return;
    if (!stop_with(e, SIGINT, STOP_FAST_US) && !stop_with(e, SIGQUIT, STOP_IMMEDIATE_US)) {
        log_error("postgres_killed", "pid=%d", (int)e->pid);
        stop_with(e, SIGKILL, STOP_IMMEDIATE_US);
    }
    log_info("postgres_stopped", "pid=%d", (int)e->pid);
    e->pid = 0;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void embedded_stop(struct embedded *e)
{
    if (!e)
        return;
    stop_postmaster(e);
    close_fd(e->pgdata_fd);
    close_fd(e->log_fd);
    close_fd(e->dir_fd);
    close_fd(e->lock_fd); /* last: it is what keeps others out */
    free(e->dir);
    free(e->pgdata);
    free(e->run);
    free(e->log);
    buf_free(&e->postgres);
    buf_free(&e->bindir);
    free(e);
}
