#ifndef PGLOCKD_PGLOCKCTL_DATABASE_H
#define PGLOCKD_PGLOCKCTL_DATABASE_H

/* The database itself, for the commands that work without a daemon: which one, and opening it. */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "pglockctl/options.h"

struct ctl;
struct embedded;
struct pg_conn;
struct pg_result;

/* --dsn, --dsn-file, --embedded, --pg-bindir, --config */
extern const struct opt database_options[];
enum { DATABASE_OPTIONS = 5 };

/* An open database; embedded is NULL for a server that is not ours. */
struct database {
    struct pg_conn *conn;
    struct embedded *embedded;
};

/*
 * Opens what the options and the daemon's configuration name. The cluster of --embedded DIR is
 * started; with beside_daemon it is used as it is where a daemon runs it. Returns CTL_OK; or
 * another exit status, and err has one sentence.
 */
int database_open(struct database *db, bool beside_daemon, struct buf *err);
void database_close(struct database *db);

/*
 * Prints what a query answered, and frees it: with --json its one value, else a table beneath these
 * heads. CTL_OK; CTL_UNREACHABLE where rows is NULL.
 */
int database_print(const struct ctl *ctl, struct pg_result *rows, const char *const *heads,
                   size_t nheads);

#endif
