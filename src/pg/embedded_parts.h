#ifndef PGLOCKD_PG_EMBEDDED_PARTS_H
#define PGLOCKD_PG_EMBEDDED_PARTS_H

/* What embedded.c is made of; included by src/pg/embedded*.c and their tests only. */

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

/* --- embedded_spawn.c: processes of another user --- */

/* Who PostgreSQL runs as. Without drop: as ourselves. */
struct run_as {
    bool drop;
    uid_t uid;
    gid_t gid;
    char name[64];
};

/*
 * Chooses who PostgreSQL runs as. As root: the owner of the directory pgdata where there is one,
 * else the first of postgres, pglockd, nobody that can pass every directory on the way to dir.
 * Otherwise ourselves. dir is absolute. False and one sentence in err.
 */
bool run_as_choose(const char *dir, const char *pgdata, struct run_as *out, struct buf *err);

/*
 * Starts a program in a session of its own (a Ctrl-C in our terminal is ours alone), with standard
 * input closed, output and errors to out_fd, a small fixed environment, and an order to the kernel
 * to send it SIGINT when we die. Returns the process, or -1 with errno set. A program that cannot
 * be run says so on out_fd and exits with 127.
 */
pid_t run_as_spawn(const struct run_as *who, const char *const argv[], int out_fd);

/* Spawns, waits, and returns the exit status; -1 when it could not start or died of a signal. */
int run_as_wait(const struct run_as *who, const char *const argv[], int out_fd);

/* --- embedded_programs.c: where PostgreSQL is --- */

/*
 * Appends the directory of initdb and postgres to bindir and sets *major. setting (NULL or "" when
 * not set) is the only place looked at when set. Otherwise the programs of version wanted_major
 * (0: any) come first, then the directory known at build time, version 15, newer to older ones, and
 * PATH. A version other than wanted_major may be what is found: the caller compares.
 */
bool programs_find(const char *setting, int wanted_major, const struct run_as *who,
                   struct buf *bindir, int *major, struct buf *err);

/* --- embedded_conf.c: configuration files --- */

/* Writes name in directory fd anew, in one step, owned by who. False with errno set. */
bool conf_write_file(int fd, const char *name, struct str text, const struct run_as *who);

/* postgresql.conf of a new cluster: includes pglockd.conf and the administrator's local.conf. */
bool conf_write_main(int pgdata_fd, const struct run_as *who);
/* pglockd.conf, made for this machine. log_dir is an absolute path. */
bool conf_write_tuned(int pgdata_fd, const char *log_dir, const struct run_as *who);

/* --- embedded_log.c: PostgreSQL's log files --- */

/* Removes all but the newest files of DIR/log. log_fd is that directory. */
void logs_prune(int log_fd);
/*
 * Appends why the server ended: the last FATAL or PANIC line of start.log in dir_fd, or of the
 * newest file in log_fd where the server came to open it, else the last line of start.log. Nothing
 * where they say nothing, as after a kill -9.
 */
void logs_put_reason(int dir_fd, int log_fd, struct buf *out);

#define START_LOG "start.log"

#endif
