#include "pg/embedded_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: gives up root for good. */
static bool become(const struct run_as *who)
{
    if (!who->drop)
        return true;
    return setgroups(1, &who->gid) == 0 && setgid(who->gid) == 0 && setuid(who->uid) == 0;
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child, after output goes to fd 2. */
static void __attribute__((noreturn)) child_fails(const char *what, const char *name)
{
    dprintf(STDERR_FILENO, "FATAL:  cannot %s %s: %s\n", what, name, strerror(errno));
    _exit(127);
}

static void __attribute__((noreturn))
run_child(const struct run_as *who, const char *const argv[], int out_fd, pid_t parent)
{
    static const char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC",
                                      "HOME=/", NULL};
    reset_signals();
    setsid();
    umask(0077);
    int null_fd = open("/dev/null", O_RDWR);
    dup2(null_fd, STDIN_FILENO);
    dup2(out_fd, STDOUT_FILENO);
    dup2(out_fd, STDERR_FILENO);
    close_range(3, ~0U, 0);
    if (!become(who))
        child_fails("become user", who->name);
    /* After the change of user, which clears it. We may have been orphaned before it was set. */
    prctl(PR_SET_PDEATHSIG, SIGINT);
    if (getppid() != parent)
        _exit(127);
    if (chdir("/") != 0)
        child_fails("change to", "/");
    execve(argv[0], (char *const *)argv, (char *const *)env);
    child_fails("run", argv[0]);
}

pid_t run_as_spawn(const struct run_as *who, const char *const argv[], int out_fd)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        run_child(who, argv, out_fd, parent);
    return pid;
}

/* waitpid() that goes on after a signal; -1 unless the process exited by itself. */
static int wait_exit(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int run_as_wait(const struct run_as *who, const char *const argv[], int out_fd)
{
    pid_t pid = run_as_spawn(who, argv, out_fd);
    return pid < 0 ? -1 : wait_exit(pid);
}

/* --- choosing the user --- */

/* Cuts path after its n-th directory: 0 is "/", 1 "/a", 2 "/a/b". False past the end. */
static bool nth_directory(const char *path, int n, char *out, size_t size)
{
    size_t end = 0;
    for (int i = 0; i < n; i++) {
        if (!path[end])
            return false;
        end += 1 + strcspn(path + end + 1, "/");
    }
    snprintf(out, size, "%.*s", end ? (int)end : 1, path);
    return true;
}

/*
 * The number of the first directory on the way to dir that who cannot pass, -1 for none. Asked by a
 * process of that user, so that access control lists count too.
 */
static int first_closed_directory(const struct run_as *who, const char *dir)
{
    enum { OPEN = 255, UNKNOWN = 254 };
    pid_t pid = fork();
    if (pid == 0) {
        char part[4096];
        if (!become(who))
            _exit(UNKNOWN);
        for (int n = 0; nth_directory(dir, n, part, sizeof(part)); n++)
            if (access(part, X_OK) != 0)
                _exit(n);
        _exit(OPEN);
    }
    int status = pid < 0 ? -1 : wait_exit(pid);
    return status == OPEN ? -1 : status < 0 || status == UNKNOWN ? 0 : status;
}

static bool can_reach(const struct run_as *who, const char *dir, struct buf *err)
{
    int n = first_closed_directory(who, dir);
    if (n < 0)
        return true;
    char closed[4096];
    struct stat st = {0};
    nth_directory(dir, n, closed, sizeof(closed));
    stat(closed, &st);
    buf_printf(err,
               "PostgreSQL does not run as root, and user %s cannot reach %s: %s (mode %04o) is "
               "closed to it; choose another directory, or open that one with chmod o+x",
               who->name, dir, closed, (unsigned)st.st_mode & 07777);
    return false;
}

static void set_name(struct run_as *who, const struct passwd *pw)
{
    if (pw)
        snprintf(who->name, sizeof(who->name), "%s", pw->pw_name);
    else
        snprintf(who->name, sizeof(who->name), "%lu", (unsigned long)who->uid);
}

static bool choose_owner(const char *dir, const char *pgdata, const struct stat *st,
                         struct run_as *out, struct buf *err)
{
    *out = (struct run_as){.drop = true, .uid = st->st_uid, .gid = st->st_gid};
    if (out->uid == 0) {
        buf_printf(err,
                   "%s belongs to root, and PostgreSQL does not run as root: chown -R it to "
                   "the user it shall run as, such as postgres",
                   pgdata);
        return false;
    }
    set_name(out, getpwuid(out->uid));
    return can_reach(out, dir, err);
}

static bool choose_candidate(const char *dir, struct run_as *out, struct buf *err)
{
    static const char *const names[] = {"postgres", "pglockd", "nobody"};
    struct buf why = {0}, first = {0};
    bool found = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !found; i++) {
        const struct passwd *pw = getpwnam(names[i]);
        if (!pw || pw->pw_uid == 0)
            continue;
        *out = (struct run_as){.drop = true, .uid = pw->pw_uid, .gid = pw->pw_gid};
        set_name(out, pw);
        buf_clear(&why);
        found = can_reach(out, dir, &why);
        if (!found && first.len == 0)
            buf_put(&first, why.data, why.len);
    }
    if (!found && first.len > 0)
        buf_put(err, first.data, first.len);
    else if (!found)
        buf_puts(err, "PostgreSQL does not run as root, and there is no user postgres, pglockd or "
                      "nobody that it could run as: make one with useradd --system pglockd");
    buf_free(&why);
    buf_free(&first);
    return found;
}

bool run_as_choose(const char *dir, const char *pgdata, struct run_as *out, struct buf *err)
{
    struct stat st;
    bool made = lstat(pgdata, &st) == 0;
    if (geteuid() == 0)
        return made ? choose_owner(dir, pgdata, &st, out, err) : choose_candidate(dir, out, err);

    *out = (struct run_as){.uid = geteuid(), .gid = getegid()};
    set_name(out, getpwuid(out->uid));
    if (!made || st.st_uid == out->uid)
        return true;
    const struct passwd *owner = getpwuid(st.st_uid);
    buf_printf(err, "%s belongs to user %s: start pglockd as that user or as root", pgdata,
               owner ? owner->pw_name : "(unknown)");
    return false;
}
