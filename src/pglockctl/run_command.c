#include "pglockctl/run_command.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int run_signals_take(struct run_signals *s)
{
    static const int handled[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                  SIGUSR2, SIGCONT, SIGTSTP, SIGCHLD, SIGWINCH};
    struct sigaction normal = {.sa_handler = SIG_DFL};
    sigset_t set, blocked;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
        sigaddset(&set, handled[i]);
    /* Handing the terminal over from the background must not stop us. */
    blocked = set;
    sigaddset(&blocked, SIGTTOU);
    sigaddset(&blocked, SIGTTIN);
    /* An inherited "ignore" would reap the command before we see how it ended. */
    sigaction(SIGCHLD, &normal, &s->on_chld);
    sigprocmask(SIG_BLOCK, &blocked, &s->before);
    s->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return s->fd < 0 ? -1 : 0;
}

/* ---- terminal ---- */

void run_terminal_open(struct run_terminal *t)
{
    t->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    t->modes_known = t->fd >= 0 && tcgetattr(t->fd, &t->modes) == 0;
}

bool run_terminal_give(const struct run_terminal *t, pid_t group)
{
    return t->fd >= 0 && tcgetpgrp(t->fd) == getpgrp() && tcsetpgrp(t->fd, group) == 0;
}

void run_terminal_take_back(const struct run_terminal *t, pid_t group, bool restore)
{
    if (t->fd < 0 || tcgetpgrp(t->fd) != group)
        return;
    tcsetpgrp(t->fd, getpgrp());
    if (restore && t->modes_known)
        tcsetattr(t->fd, TCSADRAIN, &t->modes);
}

/*
 * A command that reads from the terminal gets it at once. In a pipe such as "… | less" another
 * process of the job may need it; there the command gets it when it asks, by being stopped for it.
 */
static bool wants_terminal(void)
{
    struct stat st;
    return isatty(STDIN_FILENO) && !(fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode));
}

/* ---- start ---- */

static _Noreturn void exec_command(char **argv, const struct run_terminal *t,
                                   const struct run_signals *s, struct run_shared *shared,
                                   bool foreground, pid_t parent, int error_fd)
{
    /* If pglockctl and its guard are both killed, the kernel at least tells the command. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0);
    shared->group = getpid();
    if (foreground)
        tcsetpgrp(t->fd, getpid());
    sigaction(SIGCHLD, &s->on_chld, NULL);
    sigprocmask(SIG_SETMASK, &s->before, NULL);
    execvp(argv[0], argv);
    int error = errno;
    (void)!write(error_fd, &error, sizeof(error));
    _exit(127);
}

pid_t run_command_start(char **argv, const struct run_terminal *t, const struct run_signals *s,
                        struct run_shared *shared, bool *exec_failed)
{
    int fds[2], error;
    pid_t parent = getpid();
    bool foreground = wants_terminal() && t->fd >= 0 && tcgetpgrp(t->fd) == getpgrp();

    *exec_failed = false;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        exec_command(argv, t, s, shared, foreground, parent, fds[1]);
    error = errno;
    close(fds[1]);
    if (pid > 0) {
        setpgid(pid, pid); /* as the child does: whoever comes first */
        ssize_t n;
        do
            n = read(fds[0], &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        *exec_failed = n == sizeof(error);
        if (*exec_failed) {
            shared->group = 0;
            waitpid(pid, NULL, 0);
            run_terminal_take_back(t, pid, false);
            pid = -1;
        }
    }
    close(fds[0]);
    errno = error;
    return pid;
}
