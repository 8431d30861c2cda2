#ifndef PGLOCKD_PG_MIGRATE_H
#define PGLOCKD_PG_MIGRATE_H

/*
 * Brings the schema of a database to the version of this program, and says whether this program may
 * use a database. Everything blocks and runs on a connection of the caller's (pg_connect_blocking)
 * that is outside a transaction; it is left as it was found.
 *
 * The version of a program is the number of the last migration it embeds. A program of version N
 * runs on schema N and, so that daemons can be restarted one by one, on newer schemas as long as
 * their min_program is not above N.
 */

#include <stdbool.h>

#include "base/buf.h"
#include "pg/sql_files.h"

struct pg_conn;

struct migrate_status {
    int version;                    /* of the database; 0: nothing of pglockd is there */
    int min_program;                /* of the database; 0 with version 0 */
    int program_version;            /* of this program */
    const struct sql_file *pending; /* the migrations this program would apply, in order */
    size_t n_pending;
    bool functions_current; /* the functions are those of this program, or of a newer one */
};

enum migrate_result {
    MIGRATE_OK,
    MIGRATE_TOO_OLD, /* the database is older than the program: run pglockctl migrate up */
    MIGRATE_TOO_NEW, /* the database needs a newer program */
    MIGRATE_DENIED,  /* the session's user may not use pglockd's schema */
    MIGRATE_FAILED,  /* a query failed, or a released migration was changed */
};

/*
 * Creates missing roles, applies the pending migrations in order, each in a transaction of its own,
 * then installs the functions in one transaction where they differ. Under a session advisory lock
 * (ADVISORY_MIGRATE), so that several may start at once; waits for another migration for up to ten
 * minutes. Nothing is written where nothing is pending; a newer database is left alone. False and
 * one sentence in err on failure; what was applied before the failure stays, so that a second run
 * continues there.
 */
bool migrate_up(struct pg_conn *conn, struct buf *err);

/* False and one sentence in err where the database cannot be read. Changes nothing. */
bool migrate_status(struct pg_conn *conn, struct migrate_status *out, struct buf *err);

/*
 * May this program use this database? Changes nothing. All but MIGRATE_OK append one sentence to
 * msg that names the versions and what to do. With MIGRATE_OK msg may get a sentence too, worth a
 * warning: the schema is right but the functions are another release's.
 */
enum migrate_result migrate_check(struct pg_conn *conn, struct buf *msg);

/* The same for another set of files than the embedded one. set must outlive *out. */
bool migrate_set_up(struct pg_conn *conn, const struct sql_set *set, struct buf *err);
bool migrate_set_status(struct pg_conn *conn, const struct sql_set *set, struct migrate_status *out,
                        struct buf *err);
enum migrate_result migrate_set_check(struct pg_conn *conn, const struct sql_set *set,
                                      struct buf *msg);

#endif
