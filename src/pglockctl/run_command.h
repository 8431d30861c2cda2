#ifndef PGLOCKD_PGLOCKCTL_RUN_COMMAND_H
#define PGLOCKD_PGLOCKCTL_RUN_COMMAND_H

/* The command of pglockctl run: its process group, its terminal, its signals. */

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

#include "pglockctl/run_guard.h"

struct run_terminal {
    int fd; /* the controlling terminal, or -1 */
    bool modes_known;
    struct termios modes;
};

/* The signals of pglockctl while the command runs: all blocked, read from fd. */
struct run_signals {
    int fd;
    sigset_t before;          /* the mask that the command gets */
    struct sigaction on_chld; /* and its disposition of SIGCHLD */
};

/* 0, or -1 with errno. */
int run_signals_take(struct run_signals *s);

void run_terminal_open(struct run_terminal *t);
/*
 * Gives the terminal to group when it is ours to give. Returns whether it was.
 */
bool run_terminal_give(const struct run_terminal *t, pid_t group);
/* Takes it back from group, if that has it; with restore also the modes that it had at first. */
void run_terminal_take_back(const struct run_terminal *t, pid_t group, bool restore);

/*
 * Starts argv in a process group of its own, in the foreground when pglockctl is, with the
 * environment as it is. Returns the process id, or -1 with errno when it could not be started; with
 * *exec_failed set when it was execvp() that failed.
 */
pid_t run_command_start(char **argv, const struct run_terminal *t, const struct run_signals *s,
                        struct run_shared *shared, bool *exec_failed);

#endif
