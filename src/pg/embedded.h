#ifndef PGLOCKD_PG_EMBEDDED_H
#define PGLOCKD_PG_EMBEDDED_H

/*
 * A private PostgreSQL cluster in a directory, for `pglockd --embedded DIR`:
 *
 *     DIR/pglockd.lock   held with flock() by the one daemon that uses DIR
 *     DIR/pgdata/        the cluster; pglockd.conf in it is rewritten at every start, local.conf is
 *                        the administrator's and is read last
 *     DIR/run/           the Unix socket, the only way in
 *     DIR/log/           PostgreSQL's log, the newest ten files of 10 MB
 *
 * Access control is the mode of DIR/run (0700): who reaches the socket is trusted. Started as root,
 * PostgreSQL runs as an unprivileged user who owns pgdata, run and log; otherwise as ourselves.
 * The server never outlives this process: the kernel tells it to shut down when we die.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct embedded;

/*
 * Blocks: makes the cluster where DIR is empty or missing, starts PostgreSQL (after waiting for one
 * that a killed daemon left behind), waits until it accepts connections, and sees to the database
 * pglockd and its owner, the user pglockd. bindir is where initdb and postgres are; NULL or "":
 * look for the version that made DIR, then 15, then the newest. On success *out is the caller's,
 * to be ended with embedded_stop(), and conninfo gets the connection string of the user pglockd. On
 * failure appends one sentence to err and leaves nothing running.
 */
bool embedded_start(const char *dir, const char *bindir, struct embedded **out,
                    struct buf *conninfo, struct buf *err);

/* The directory as an absolute path without symbolic links; lives as long as e. */
const char *embedded_dir(const struct embedded *e);

/* The postmaster, for a child watcher; 0 while none runs. Changes with embedded_respawn(). */
pid_t embedded_pid(const struct embedded *e);

/*
 * To be called when the postmaster was reaped (status of waitpid) without embedded_stop(). Logs it
 * and returns after how many milliseconds to call embedded_respawn(): 100, doubled up to 10,000
 * while it keeps dying within a minute.
 */
int embedded_exited(struct embedded *e, int status);

/*
 * Starts the postmaster again and does not wait for it: connections are refused until it is up.
 * False when no process could be made; then try again after embedded_exited()'s delay.
 */
bool embedded_respawn(struct embedded *e);

/* Removes log files above the bound; cheap, to be called about once a minute. Never fails. */
void embedded_prune_logs(const struct embedded *e);

/*
 * Blocks: fast shutdown (SIGINT), after 30 s immediate shutdown (SIGQUIT), after 10 s more SIGKILL.
 * Reaps the postmaster itself, so no child watcher may be running. Frees e; NULL is fine.
 */
void embedded_stop(struct embedded *e);

#endif
