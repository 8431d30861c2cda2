#include "pg/migrate.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "pg/advisory.h"
#include "pg/connect.h"

#define SERVER_MIN 140000
#define LOCK_WAIT_US (600 * INT64_C(1000000))
#define LOCK_RETRY_MS 100

/*
 * How every file is run; sql/generate.sh writes the same into install.sql. An empty search_path
 * makes an unqualified name an error. A file that cannot get a table lock soon fails, since
 * everybody who wants that table queues up behind it.
 */
#define BEGIN_FILE                                                                                 \
    "begin isolation level read committed read write; set local search_path = '';"                 \
    " set local lock_timeout = '10s'; set local statement_timeout = 0;"                            \
    " set local idle_in_transaction_session_timeout = 0;"                                          \
    " set local client_min_messages = warning; set local check_function_bodies = off;"

/* What a database says about itself. */
struct schema_state {
    bool exists;    /* pglockd.schema_info is there */
    bool may_use;   /* the user may look into the schema */
    bool owns;      /* the user may change the schema's objects, or there is no schema */
    char owner[64]; /* of the schema */
    int version;
    int min_program;
    int functions_version; /* 0: none installed */
    char functions_sha256[65];
};

/* --- queries --- */

/* Runs one query with text parameters; NULL and a sentence in err unless it brings rows. */
static PGresult *query(PGconn *conn, const char *sql, int n, const char *const *params,
                       struct buf *err)
{
    PGresult *res = PQexecParams(conn, sql, n, NULL, params, NULL, NULL, 0);
    if (PQresultStatus(res) == PGRES_TUPLES_OK)
        return res;
    pg_put_error(err, conn, res);
    PQclear(res);
    return NULL;
}

static bool command(PGconn *conn, const char *sql, int n, const char *const *params,
                    struct buf *err)
{
    PGresult *res = PQexecParams(conn, sql, n, NULL, params, NULL, NULL, 0);
    bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;
    if (!ok)
        pg_put_error(err, conn, res);
    PQclear(res);
    return ok;
}

/* The result of several statements at once: that of the last one, or the first error. */
static bool script_succeeded(const PGresult *res)
{
    ExecStatusType status = PQresultStatus(res);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

static bool script(PGconn *conn, const char *sql, struct buf *err)
{
    PGresult *res = PQexec(conn, sql);
    bool ok = script_succeeded(res);
    if (!ok)
        pg_put_error(err, conn, res);
    PQclear(res);
    return ok;
}

static bool is_true(const PGresult *res, int row, int column)
{
    return PQgetvalue(res, row, column)[0] == 't';
}

static int int_at(const PGresult *res, int row, int column)
{
    return (int)strtol(PQgetvalue(res, row, column), NULL, 10);
}

static void copy_at(char *to, size_t size, const PGresult *res, int row, int column)
{
    size_t n = strnlen(PQgetvalue(res, row, column), size - 1);
    memcpy(to, PQgetvalue(res, row, column), n);
    to[n] = '\0';
}

/* --- what the database is --- */

static int program_version(const struct sql_set *set)
{
    return (int)set->n_migrations;
}

/* Looks into the catalogues only: they can be read without any right on the schema. */
static bool read_rights(PGconn *conn, struct schema_state *state, struct buf *err)
{
    PGresult *res = query(
        conn,
        "select pg_catalog.count(c.oid) > 0,"
        "       coalesce(pg_catalog.bool_or(pg_catalog.pg_has_role(n.nspowner, 'usage')"
        "                or exists (select from pg_catalog.pg_roles as r"
        "                            where r.rolname = 'pglockd_service'"
        "                              and pg_catalog.pg_has_role(r.oid, 'usage'))), true),"
        "       coalesce(pg_catalog.bool_or(pg_catalog.pg_has_role(n.nspowner, 'usage')), true),"
        "       coalesce(pg_catalog.max(pg_catalog.pg_get_userbyid(n.nspowner)::text), '')"
        "  from pg_catalog.pg_namespace as n"
        "  left join pg_catalog.pg_class as c"
        "    on c.relnamespace = n.oid and c.relname = 'schema_info'"
        " where n.nspname = 'pglockd'",
        0, NULL, err);
    if (!res)
        return false;
    state->exists = is_true(res, 0, 0);
    state->may_use = is_true(res, 0, 1);
    state->owns = is_true(res, 0, 2);
    copy_at(state->owner, sizeof(state->owner), res, 0, 3);
    PQclear(res);
    return true;
}

static bool read_info(PGconn *conn, struct schema_state *state, struct buf *err)
{
    PGresult *res = query(conn,
                          "select version, min_program, coalesce(functions_version, 0),"
                          "       coalesce(functions_checksum, '')"
                          "  from pglockd.schema_info",
                          0, NULL, err);
    if (!res)
        return false;
    state->version = int_at(res, 0, 0);
    state->min_program = int_at(res, 0, 1);
    state->functions_version = int_at(res, 0, 2);
    copy_at(state->functions_sha256, sizeof(state->functions_sha256), res, 0, 3);
    PQclear(res);
    return true;
}

static bool read_state(PGconn *conn, struct schema_state *state, struct buf *err)
{
    *state = (struct schema_state){0};
    if (!read_rights(conn, state, err))
        return false;
    return !state->exists || !state->may_use || read_info(conn, state, err);
}

/* Is row i of pglockd.migration, in order of version, what the set has? */
static bool check_applied_row(const PGresult *res, int i, const struct sql_set *set,
                              struct buf *err)
{
    const char *name = PQgetvalue(res, i, 1);
    if (int_at(res, i, 0) != i + 1) {
        buf_printf(err,
                   "migration %s is recorded in pglockd.migration, but number %d before it is "
                   "missing",
                   name, i + 1);
        return false;
    }
    if (i >= program_version(set))
        return true;
    const struct sql_file *file = &set->migrations[i];
    const char *checksum = PQgetvalue(res, i, 2);
    if (strcmp(name, file->name) == 0 && strcmp(checksum, file->sha256) == 0)
        return true;
    buf_printf(err,
               "migration %s of this program (checksum %.12s) is not what was applied to the "
               "database as %s (checksum %.12s): a released migration never changes",
               file->name, file->sha256, name, checksum);
    return false;
}

/* False when a migration that was applied has changed since, or one was left out. */
static bool check_applied(PGconn *conn, const struct sql_set *set, struct buf *err)
{
    PGresult *res =
        query(conn, "select version, name, checksum from pglockd.migration order by version", 0,
              NULL, err);
    bool ok = res != NULL;
    for (int i = 0; ok && i < PQntuples(res); i++)
        ok = check_applied_row(res, i, set, err);
    PQclear(res);
    return ok;
}

static bool functions_are_current(const struct schema_state *state, const struct sql_set *set)
{
    return state->functions_version > program_version(set) ||
           strcmp(state->functions_sha256, set->functions_sha256) == 0;
}

static void put_too_new(struct buf *msg, const struct schema_state *state,
                        const struct sql_set *set)
{
    buf_printf(msg,
               "the database is at schema version %d, which needs a program of schema version "
               "%d or newer, and this one is of version %d: use a newer pglockd",
               state->version, state->min_program, program_version(set));
}

static void put_denied(struct buf *msg, const struct schema_state *state)
{
    buf_printf(msg,
               "schema pglockd belongs to %s, and the user of this connection is neither that "
               "role nor a member of pglockd_service: grant pglockd_service to it",
               state->owner);
}

/* --- applying --- */

/* 1-based line of a 1-based position that counts characters, not bytes. */
static int line_of_position(const struct sql_file *file, long position)
{
    int line = 1;
    long seen = 1;
    for (size_t i = 0; i < file->len && seen < position; i++) {
        if (file->text[i] == '\n')
            line++;
        if (((unsigned char)file->text[i] & 0xC0) != 0x80)
            seen++;
    }
    return line;
}

/* Runs the text of one file in the open transaction. The error names the file and the line. */
static bool run_file(PGconn *conn, const struct sql_file *file, struct buf *err)
{
    PGresult *res = PQexec(conn, file->text);
    bool ok = script_succeeded(res);
    if (!ok) {
        const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);
        buf_puts(err, file->name);
        if (position)
            buf_printf(err, " line %d", line_of_position(file, strtol(position, NULL, 10)));
        buf_puts(err, ": ");
        pg_put_error(err, conn, res);
    } else if (PQtransactionStatus(conn) != PQTRANS_INTRANS) {
        buf_printf(err, "%s ends the transaction it runs in: it must not have begin or commit",
                   file->name);
        ok = false;
    }
    PQclear(res);
    return ok;
}

/* Ends the transaction: commits if ok so far, else rolls back and stays false. */
static bool end_transaction(PGconn *conn, bool ok, struct buf *err)
{
    if (ok)
        return command(conn, "commit", 0, NULL, err);
    if (PQtransactionStatus(conn) != PQTRANS_IDLE)
        PQclear(PQexec(conn, "rollback"));
    return false;
}

static bool run_in_transaction(PGconn *conn, const struct sql_file *file, struct buf *err)
{
    bool ok = script(conn, BEGIN_FILE, err) && run_file(conn, file, err);
    return end_transaction(conn, ok, err);
}

static bool record_migration(PGconn *conn, const struct sql_file *file, struct buf *err)
{
    char version[12], min_program[12];
    snprintf(version, sizeof(version), "%d", file->version);
    snprintf(min_program, sizeof(min_program), "%d", file->min_program);
    const char *const params[] = {version, file->name, file->sha256, min_program};
    return command(conn,
                   "insert into pglockd.migration (version, name, checksum, min_program)"
                   " values ($1::int, $2, $3, $4::int)",
                   4, params, err);
}

static bool apply_migration(PGconn *conn, const struct sql_file *file, struct buf *err)
{
    int64_t began_us = clock_mono_us();
    bool ok = script(conn, BEGIN_FILE, err) && run_file(conn, file, err) &&
              record_migration(conn, file, err);
    if (!end_transaction(conn, ok, err))
        return false;
    log_info("migration_applied", "name=%s duration_ms=%lld", file->name,
             (long long)(clock_mono_us() - began_us) / 1000);
    return true;
}

static bool record_functions(PGconn *conn, const struct sql_set *set, struct buf *err)
{
    char version[12];
    snprintf(version, sizeof(version), "%d", program_version(set));
    const char *const params[] = {version, set->functions_sha256};
    return command(conn,
                   "insert into pglockd.function_set (version, checksum) values ($1::int, $2)"
                   " on conflict (one) do update"
                   " set version = excluded.version, checksum = excluded.checksum,"
                   " installed_at = excluded.installed_at, installed_by = excluded.installed_by",
                   2, params, err);
}

static bool install_functions(PGconn *conn, const struct sql_set *set, struct buf *err)
{
    bool ok = script(conn, BEGIN_FILE, err);
    for (size_t i = 0; ok && i < set->n_functions; i++)
        ok = run_file(conn, &set->functions[i], err);
    ok = ok && record_functions(conn, set, err);
    if (!end_transaction(conn, ok, err))
        return false;
    log_info("functions_installed", "files=%zu checksum=%.12s", set->n_functions,
             set->functions_sha256);
    return true;
}

/* May the pending work be done at all? What is asked of the database here is cheap. */
static bool may_apply(const struct schema_state *state, const struct sql_set *set, struct buf *err)
{
    if (state->min_program > program_version(set)) {
        put_too_new(err, state, set);
        return false;
    }
    if (!state->may_use) {
        put_denied(err, state);
        return false;
    }
    bool pending = !state->exists || state->version < program_version(set) ||
                   !functions_are_current(state, set);
    if (pending && !state->owns) {
        buf_printf(err,
                   "only %s, the owner of schema pglockd, may migrate it from version %d to "
                   "%d: run pglockctl migrate up as that user",
                   state->owner, state->version, program_version(set));
        return false;
    }
    return true;
}

static bool up_locked(PGconn *conn, const struct sql_set *set, struct buf *err)
{
    struct schema_state state;
    if (!read_state(conn, &state, err) || !may_apply(&state, set, err))
        return false;
    if (!run_in_transaction(conn, &set->roles, err))
        return false;
    if (!state.exists && !run_in_transaction(conn, &set->bootstrap, err))
        return false;
    if (!check_applied(conn, set, err))
        return false;
    for (int v = state.version; v < program_version(set); v++)
        if (!apply_migration(conn, &set->migrations[v], err))
            return false;
    if (state.version > program_version(set) || functions_are_current(&state, set))
        return true;
    return install_functions(conn, set, err);
}

/* --- one at a time --- */

/* Sets *got. Trying again and again instead of waiting: a waiting statement holds a snapshot. */
static bool try_lock(PGconn *conn, bool *got, struct buf *err)
{
    char class[12];
    snprintf(class, sizeof(class), "%d", (int)ADVISORY_MIGRATE);
    const char *const params[] = {class};
    PGresult *res =
        query(conn, "select pg_catalog.pg_try_advisory_lock($1::int, 0)", 1, params, err);
    if (!res)
        return false;
    *got = is_true(res, 0, 0);
    PQclear(res);
    return true;
}

static bool lock(PGconn *conn, struct buf *err)
{
    int64_t began_us = clock_mono_us();
    bool said = false;
    for (;;) {
        bool got;
        if (!try_lock(conn, &got, err))
            return false;
        if (got)
            return true;
        if (clock_mono_us() - began_us >= LOCK_WAIT_US) {
            buf_puts(err, "another migration of this database has been running for ten minutes: "
                          "look for its advisory lock in pg_locks");
            return false;
        }
        if (!said)
            log_info("migration_waits", "reason=another_migration_runs");
        said = true;
        nanosleep(&(struct timespec){0, LOCK_RETRY_MS * 1000000L}, NULL);
    }
}

/* Where this fails the connection is broken, and the server has dropped the lock. */
static void unlock(PGconn *conn)
{
    char class[12];
    snprintf(class, sizeof(class), "%d", (int)ADVISORY_MIGRATE);
    const char *const params[] = {class};
    PQclear(PQexecParams(conn, "select pg_catalog.pg_advisory_unlock($1::int, 0)", 1, NULL, params,
                         NULL, NULL, 0));
}

static bool server_is_supported(PGconn *conn, struct buf *err)
{
    if (PQserverVersion(conn) >= SERVER_MIN)
        return true;
    buf_printf(err, "pglockd needs PostgreSQL %d or newer, and this server is %s",
               SERVER_MIN / 10000, PQparameterStatus(conn, "server_version"));
    return false;
}

/* --- what callers use --- */

bool migrate_set_up(struct pg_conn *conn, const struct sql_set *set, struct buf *err)
{
    if (!server_is_supported(conn, err) || !lock(conn, err))
        return false;
    bool ok = up_locked(conn, set, err);
    unlock(conn);
    return ok;
}

bool migrate_set_status(struct pg_conn *conn, const struct sql_set *set, struct migrate_status *out,
                        struct buf *err)
{
    struct schema_state state;
    if (!read_state(conn, &state, err))
        return false;
    if (!state.may_use) {
        put_denied(err, &state);
        return false;
    }
    if (state.exists && !check_applied(conn, set, err))
        return false;
    int last = program_version(set);
    int first = state.version < last ? state.version : last;
    *out = (struct migrate_status){
        .version = state.version,
        .min_program = state.min_program,
        .program_version = last,
        .pending = set->migrations + first,
        .n_pending = (size_t)(last - first),
        .functions_current = functions_are_current(&state, set),
    };
    return true;
}

/* The schema is there and may be used: do version and functions fit this program? */
static enum migrate_result check_versions(const struct schema_state *state,
                                          const struct sql_set *set, struct buf *msg)
{
    int program = program_version(set);
    if (state->min_program > program) {
        put_too_new(msg, state, set);
        return MIGRATE_TOO_NEW;
    }
    if (state->version < program) {
        buf_printf(msg,
                   "the database is at schema version %d and this program needs version %d: "
                   "run pglockctl migrate up",
                   state->version, program);
        return MIGRATE_TOO_OLD;
    }
    if (state->functions_version < program) {
        buf_printf(msg,
                   "the database is at schema version %d, but its functions are of version %d "
                   "and this program needs version %d: run pglockctl migrate up",
                   state->version, state->functions_version, program);
        return MIGRATE_TOO_OLD;
    }
    if (!functions_are_current(state, set))
        buf_printf(msg,
                   "the functions in the database are those of another release for schema "
                   "version %d: run pglockctl migrate up with the newest one",
                   program);
    return MIGRATE_OK;
}

enum migrate_result migrate_set_check(struct pg_conn *conn, const struct sql_set *set,
                                      struct buf *msg)
{
    struct schema_state state;
    if (!server_is_supported(conn, msg) || !read_state(conn, &state, msg))
        return MIGRATE_FAILED;
    if (!state.may_use) {
        put_denied(msg, &state);
        return MIGRATE_DENIED;
    }
    if (!state.exists) {
        buf_printf(msg,
                   "database %s has no pglockd schema yet, and this program needs version %d: "
                   "run pglockctl migrate up",
                   PQdb(conn), program_version(set));
        return MIGRATE_TOO_OLD;
    }
    return check_versions(&state, set, msg);
}

bool migrate_up(struct pg_conn *conn, struct buf *err)
{
    return migrate_set_up(conn, &sql_embedded, err);
}

bool migrate_status(struct pg_conn *conn, struct migrate_status *out, struct buf *err)
{
    return migrate_set_status(conn, &sql_embedded, out, err);
}

enum migrate_result migrate_check(struct pg_conn *conn, struct buf *msg)
{
    return migrate_set_check(conn, &sql_embedded, msg);
}
