#include "pg/migrate.h"

#include <check.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pg/advisory.h"
#include "pg/connect.h"
#include "pg/embedded.h"
#include "pg/embedded_parts.h"
#include "pg_fixture.h"

/* One server for all tests; each test has a database of its own. */
static struct embedded *server;
static PGconn *admin; /* the superuser, in the database of the test */
static PGconn *conn;  /* the owner of the database */
static struct buf err;
static char database[32];

/* --- a small set of files, which tests change as they need --- */

#define SHA(c) c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c
#define FILE_OF(n, t, c, v, m)                                                                     \
    {                                                                                              \
        .name = (n), .text = (t), .len = sizeof(t) - 1, .sha256 = SHA(c), .version = (v),          \
        .min_program = (m)                                                                         \
    }

static struct sql_file migrations[] = {
    FILE_OF("0001_one.sql", "create table pglockd.one (n int);\n", "a1", 1, 1),
    FILE_OF("0002_two.sql", "create table pglockd.two (n int);\n", "a2", 2, 1),
    FILE_OF("0003_three.sql", "create table pglockd.three (n int);\n", "a3", 3, 2),
};

/* The first one calls one that comes later. */
static struct sql_file functions[] = {
    FILE_OF("first.sql",
            "create or replace function pglockd.first() returns int language sql"
            " as $$ select pglockd.second() $$;\n",
            "b1", 0, 0),
    FILE_OF("second.sql",
            "create or replace function pglockd.second() returns int language sql"
            " as $$ select 2 $$;\n",
            "b2", 0, 0),
};

/* The program of version n. */
static struct sql_set program(size_t n)
{
    static const char *const checksums[] = {SHA("c0"), SHA("c1"), SHA("c2"), SHA("c3")};
    return (struct sql_set){
        .roles = sql_embedded.roles,
        .bootstrap = sql_embedded.bootstrap,
        .migrations = migrations,
        .n_migrations = n,
        .functions = functions,
        .n_functions = 2,
        .functions_sha256 = checksums[n],
    };
}

static void set_text(struct sql_file *file, const char *text)
{
    file->text = text;
    file->len = strlen(text);
}

/* --- connections --- */

static PGconn *connect_as(const char *user, const char *dbname)
{
    struct buf conninfo = {0};
    buf_printf(&conninfo, "host=%s/run user=%s dbname=%s", embedded_dir(server), user, dbname);
    PGconn *c = pg_connect_blocking(buf_cstr(&conninfo), &err);
    ck_assert_msg(c != NULL, "%s", buf_cstr(&err));
    buf_free(&conninfo);
    return c;
}

/* The first value of a query; lives until the next call. */
static const char *ask(PGconn *c, const char *sql)
{
    static char value[1024];
    PGresult *res = PQexec(c, sql);
    ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK,
                  "%s: %s", sql, PQerrorMessage(c));
    snprintf(value, sizeof(value), "%s", PQntuples(res) ? PQgetvalue(res, 0, 0) : "");
    PQclear(res);
    return value;
}

static void start_server(void)
{
    struct buf conninfo = {0}, why = {0};
    bool ok = embedded_start(temp_dir(), NULL, &server, &conninfo, &why);
    ck_assert_msg(ok, "%s", buf_cstr(&why));
    buf_free(&conninfo);
    buf_free(&why);
}

static void stop_server(void)
{
    embedded_stop(server);
}

static void setup(void)
{
    static const char *const users[] = {"plain", "stranger"};
    char sql[128];
    err = (struct buf){0};
    snprintf(database, sizeof(database), "test_%d", (int)getpid());
    PGconn *c = connect_as("postgres", "postgres");
    for (size_t i = 0; i < 2; i++) {
        snprintf(sql, sizeof(sql), "select from pg_roles where rolname = '%s'", users[i]);
        PGresult *res = PQexec(c, sql);
        bool has = PQntuples(res) > 0;
        PQclear(res);
        snprintf(sql, sizeof(sql), "create role %s login", users[i]);
        if (!has)
            ask(c, sql);
    }
    snprintf(sql, sizeof(sql), "create database %s owner pglockd", database);
    ask(c, sql);
    pg_close(c);
    admin = connect_as("postgres", database);
    conn = connect_as("pglockd", database);
}

static void teardown(void)
{
    char sql[64];
    pg_close(conn);
    pg_close(admin);
    PGconn *c = connect_as("postgres", "postgres");
    snprintf(sql, sizeof(sql), "drop database %s with (force)", database);
    ask(c, sql);
    pg_close(c);
    buf_free(&err);
}

static void up(const struct sql_set *set)
{
    bool ok = migrate_set_up(conn, set, &err);
    ck_assert_msg(ok, "%s", buf_cstr(&err));
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
}

static void has_words(const char *words)
{
    ck_assert_msg(strstr(buf_cstr(&err), words), "\"%s\" lacks \"%s\"", buf_cstr(&err), words);
    ck_assert_ptr_null(strchr(buf_cstr(&err), '\n'));
}

static void up_fails(PGconn *c, const struct sql_set *set, const char *words)
{
    buf_clear(&err);
    ck_assert(!migrate_set_up(c, set, &err));
    has_words(words);
    ck_assert_int_eq(PQtransactionStatus(c), PQTRANS_IDLE);
    ck_assert_str_eq(ask(c, "select count(*) from pg_locks where locktype = 'advisory'"), "0");
}

static void check_says(PGconn *c, const struct sql_set *set, enum migrate_result result,
                       const char *words)
{
    buf_clear(&err);
    ck_assert_int_eq(migrate_set_check(c, set, &err), result);
    if (words)
        has_words(words);
    else
        ck_assert_str_eq(buf_cstr(&err), "");
}

static struct migrate_status status_of(const struct sql_set *set)
{
    struct migrate_status status;
    bool ok = migrate_set_status(conn, set, &status, &err);
    ck_assert_msg(ok, "%s", buf_cstr(&err));
    return status;
}

/* --- roles: first, while none exist --- */

START_TEST(says_what_to_run_where_roles_cannot_be_created)
{
    struct sql_set set = program(1);
    char sql[128];
    snprintf(sql, sizeof(sql), "grant create on database %s to plain", database);
    ask(admin, sql);
    PGconn *plain = connect_as("plain", database);
    up_fails(plain, &set, "roles of pglockd are missing and user plain may not create roles");
    has_words("An administrator must run: create role pglockd_service nologin; create role "
              "pglockd_client nologin; create role pglockd_reader nologin; create role "
              "pglockd_admin nologin;");
    ask(admin, "create role pglockd_service nologin");
    up_fails(plain, &set, "must run: create role pglockd_client nologin;");

    /* Once they are there, no more is needed. */
    ask(admin, "create role pglockd_client nologin");
    ask(admin, "create role pglockd_reader nologin");
    ask(admin, "create role pglockd_admin nologin");
    ck_assert_msg(migrate_set_up(plain, &set, &err), "%s", buf_cstr(&err));
    pg_close(plain);
}
END_TEST

START_TEST(makes_roles_that_cannot_log_in)
{
    struct sql_set set = program(1);
    PGconn *other = connect_as("postgres", "postgres");
    ask(other, "drop role if exists pglockd_service, pglockd_client, pglockd_reader, "
               "pglockd_admin");
    pg_close(other);
    up(&set);
    ck_assert_str_eq(ask(admin, "select count(*) || ' ' || bool_or(rolcanlogin) from pg_roles"
                                " where rolname ~ '^pglockd_'"),
                     "4 false");
}
END_TEST

/* --- up --- */

START_TEST(brings_an_empty_database_to_the_version_of_the_program)
{
    struct sql_set set = program(2);
    struct migrate_status status = status_of(&set);
    ck_assert_int_eq(status.version, 0);
    ck_assert_uint_eq(status.n_pending, 2);
    ck_assert_str_eq(status.pending[0].name, "0001_one.sql");
    ck_assert(!status.functions_current);
    check_says(conn, &set, MIGRATE_TOO_OLD, "has no pglockd schema yet");

    up(&set);
    ck_assert_str_eq(ask(conn, "select pglockd.first()"), "2");
    ck_assert_str_eq(ask(conn, "select string_agg(concat_ws(' ', version, name, left(checksum, 2),"
                               " min_program, applied_by), ', ' order by version)"
                               " from pglockd.migration"),
                     "1 0001_one.sql a1 1 pglockd, 2 0002_two.sql a2 1 pglockd");
    ck_assert_str_eq(ask(conn, "select concat_ws(' ', version, min_program, functions_version,"
                               " left(functions_checksum, 2)) from pglockd.schema_info"),
                     "2 1 2 c2");
    status = status_of(&set);
    ck_assert_int_eq(status.version, 2);
    ck_assert_int_eq(status.min_program, 1);
    ck_assert_int_eq(status.program_version, 2);
    ck_assert_uint_eq(status.n_pending, 0);
    ck_assert(status.functions_current);
    check_says(conn, &set, MIGRATE_OK, NULL);
}
END_TEST

START_TEST(writes_nothing_the_second_time)
{
    struct sql_set set = program(2);
    up(&set);
    char before[64], after[64];
    const char *sql = "select max(xmin::text::bigint) from (select xmin from pglockd.migration"
                      " union all select xmin from pglockd.function_set"
                      " union all select xmin from pg_proc"
                      " union all select xmin from pg_class) as all_of_them";
    snprintf(before, sizeof(before), "%s", ask(conn, sql));
    up(&set);
    snprintf(after, sizeof(after), "%s", ask(conn, sql));
    ck_assert_str_eq(before, after);
}
END_TEST

START_TEST(comments_on_what_it_makes_itself)
{
    struct sql_set set = program(1);
    up(&set);
    ck_assert_str_eq(
        ask(conn, "select count(*) from pg_class c left join pg_attribute a"
                  "    on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
                  " where c.relnamespace = 'pglockd'::regnamespace and c.relkind in ('r', 'v')"
                  "   and c.relname <> 'one'"
                  "   and (obj_description(c.oid, 'pg_class') is null"
                  "        or col_description(c.oid, a.attnum) is null)"),
        "0");
    ck_assert_str_eq(ask(conn, "select count(*) from pg_namespace where nspname = 'pglockd'"
                               " and obj_description(oid, 'pg_namespace') is not null"),
                     "1");
}
END_TEST

START_TEST(two_at_once_apply_everything_once)
{
    struct sql_set set = program(3);
    set_text(&migrations[0], "create table pglockd.one (n int); select pg_catalog.pg_sleep(0.3);");
    pid_t children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            PGconn *c = connect_as("pglockd", database);
            bool ok = migrate_set_up(c, &set, &err);
            if (!ok)
                fprintf(stderr, "%s\n", buf_cstr(&err));
            _exit(ok ? 0 : 1);
        }
    }
    for (int i = 0; i < 3; i++) {
        int status;
        waitpid(children[i], &status, 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_str_eq(ask(conn, "select count(*) from pglockd.migration"), "3");
    check_says(conn, &set, MIGRATE_OK, NULL);
}
END_TEST

START_TEST(holds_its_documented_lock)
{
    struct sql_set set = program(1);
    set_text(&migrations[0], "create table pglockd.one as select classid::bigint as n"
                             " from pg_catalog.pg_locks where locktype = 'advisory'"
                             " and objsubid = 2 and pid = pg_catalog.pg_backend_pid();");
    char class[16];
    snprintf(class, sizeof(class), "%d", ADVISORY_MIGRATE);
    up(&set);
    ck_assert_str_eq(ask(conn, "select n from pglockd.one"), class);
}
END_TEST

START_TEST(a_file_that_fails_is_named_and_leaves_nothing)
{
    struct sql_set set = program(2);
    set_text(&migrations[1], "-- \xc3\xa9\xc3\xa9\xc3\xa9\ncreate table pglockd.two (n int);\n\n"
                             "create table pglockd.bad (n nonsense);\n");
    up_fails(conn, &set, "0002_two.sql line 4: type \"nonsense\" does not exist");
    ck_assert_int_eq(status_of(&set).version, 1);
    ck_assert_str_eq(ask(conn, "select to_regclass('pglockd.two') is null"), "t");
    check_says(conn, &set, MIGRATE_TOO_OLD, "at schema version 1 and this program needs version 2");

    set_text(&migrations[1], "create table pglockd.two (n int);\n");
    up(&set);
    check_says(conn, &set, MIGRATE_OK, NULL);
}
END_TEST

START_TEST(a_file_may_not_end_its_transaction)
{
    struct sql_set set = program(1);
    set_text(&migrations[0], "create table pglockd.one (n int); commit;");
    up_fails(conn, &set, "0001_one.sql ends the transaction");
}
END_TEST

START_TEST(a_file_may_not_make_unqualified_objects)
{
    struct sql_set set = program(1);
    set_text(&migrations[0], "create table one (n int);");
    up_fails(conn, &set, "no schema has been selected");
}
END_TEST

START_TEST(a_changed_migration_is_named)
{
    struct sql_set set = program(2);
    up(&set);
    migrations[0].sha256 = SHA("d1");
    up_fails(conn, &set,
             "migration 0001_one.sql of this program (checksum d1d1d1d1d1d1) is not "
             "what was applied");
    struct migrate_status status;
    ck_assert(!migrate_set_status(conn, &set, &status, &err));
}
END_TEST

START_TEST(a_missing_migration_is_noticed)
{
    struct sql_set set = program(2);
    up(&set);
    ask(conn, "delete from pglockd.migration where version = 1");
    up_fails(conn, &set, "0002_two.sql is recorded in pglockd.migration, but number 1");
}
END_TEST

START_TEST(functions_that_fail_leave_the_old_ones)
{
    struct sql_set set = program(1);
    up(&set);
    set.functions_sha256 = SHA("c9");
    set_text(&functions[0], "create or replace function pglockd.first() returns int language sql"
                            " as $$ select 9 $$;");
    set_text(&functions[1], "create function nonsense");
    up_fails(conn, &set, "second.sql line 1: syntax error");
    ck_assert_str_eq(ask(conn, "select pglockd.first()"), "2");
    check_says(conn, &set, MIGRATE_OK, "functions in the database are those of another release");

    set.n_functions = 1;
    up(&set);
    ck_assert_str_eq(ask(conn, "select pglockd.first()"), "9");
    check_says(conn, &set, MIGRATE_OK, NULL);
}
END_TEST

/* --- programs and databases of different versions --- */

START_TEST(a_program_runs_on_a_newer_schema_that_admits_it)
{
    struct sql_set older = program(2), newer = program(3);
    up(&newer);
    check_says(conn, &older, MIGRATE_OK, NULL);
    up(&older);
    struct migrate_status status = status_of(&older);
    ck_assert_int_eq(status.version, 3);
    ck_assert_int_eq(status.min_program, 2);
    ck_assert_uint_eq(status.n_pending, 0);
    ck_assert(status.functions_current);
    ck_assert_str_eq(ask(conn, "select functions_version from pglockd.schema_info"), "3");
}
END_TEST

START_TEST(a_program_below_min_program_refuses)
{
    struct sql_set older = program(1), newer = program(3);
    up(&newer);
    const char *words = "the database is at schema version 3, which needs a program of schema "
                        "version 2 or newer, and this one is of version 1";
    check_says(conn, &older, MIGRATE_TOO_NEW, words);
    up_fails(conn, &older, words);
}
END_TEST

START_TEST(an_older_database_is_too_old)
{
    struct sql_set older = program(1), newer = program(2);
    up(&older);
    check_says(conn, &newer, MIGRATE_TOO_OLD,
               "at schema version 1 and this program needs version 2: run pglockctl migrate up");
    ask(conn, "insert into pglockd.migration values (2, '0002_two.sql', repeat('a2', 32), 1)");
    check_says(conn, &newer, MIGRATE_TOO_OLD, "its functions are of version 1");
}
END_TEST

/* --- rights --- */

START_TEST(a_stranger_is_told_what_is_missing)
{
    struct sql_set set = program(1), newer = program(2);
    up(&set);
    ask(admin, "revoke pglockd_service from stranger");
    PGconn *stranger = connect_as("stranger", database);
    const char *words = "schema pglockd belongs to pglockd, and the user of this connection is "
                        "neither that role nor a member of pglockd_service";
    check_says(stranger, &set, MIGRATE_DENIED, words);
    up_fails(stranger, &set, words);

    ask(admin, "grant pglockd_service to stranger");
    check_says(stranger, &set, MIGRATE_OK, NULL);
    buf_clear(&err);
    ck_assert_msg(migrate_set_up(stranger, &set, &err), "%s", buf_cstr(&err));
    up_fails(stranger, &newer,
             "only pglockd, the owner of schema pglockd, may migrate it from "
             "version 1 to 2");
    pg_close(stranger);
}
END_TEST

/* --- the real files, and psql --- */

/* Runs a generated file; output holds what psql said. */
static int psql(const char *file, char *output, size_t size)
{
    struct buf command = {0};
    const char *builddir = getenv("BUILDDIR");
    buf_printf(&command, "psql -X -h %s/run -U pglockd -d %s -f %s/sql/%s 2>&1",
               embedded_dir(server), database, builddir ? builddir : ".", file);
    FILE *f = popen(buf_cstr(&command), "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(output, 1, size - 1, f);
    output[n] = '\0';
    buf_free(&command);
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void psql_says(const char *file, int status, const char *words)
{
    char output[8192];
    int got = psql(file, output, sizeof(output));
    ck_assert_msg(got == status, "%s exits %d: %s", file, got, output);
    ck_assert_msg(strstr(output, words), "\"%s\" lacks \"%s\"", output, words);
}

static void real_is_current(void)
{
    struct migrate_status status;
    ck_assert_msg(migrate_status(conn, &status, &err), "%s", buf_cstr(&err));
    ck_assert_int_eq(status.version, status.program_version);
    ck_assert_uint_eq(status.n_pending, 0);
    ck_assert(status.functions_current);
    ck_assert_int_eq(migrate_check(conn, &err), MIGRATE_OK);
    ck_assert_str_eq(buf_cstr(&err), "");
}

START_TEST(psql_does_what_migrate_does)
{
    psql_says("install.sql", 0, "applying 0001_");
    real_is_current();
    char output[8192];
    ck_assert_int_eq(psql("install.sql", output, sizeof(output)), 0);
    ck_assert_ptr_null(strstr(output, "applying"));
    ck_assert_ptr_null(strstr(output, "installing"));
    psql_says("upgrade.sql", 0, "is in place");
    ck_assert_msg(migrate_up(conn, &err), "%s", buf_cstr(&err));
    real_is_current();
}
END_TEST

START_TEST(migrate_does_what_psql_does)
{
    ck_assert_msg(migrate_up(conn, &err), "%s", buf_cstr(&err));
    real_is_current();
    char output[8192];
    ck_assert_int_eq(psql("install.sql", output, sizeof(output)), 0);
    ck_assert_ptr_null(strstr(output, "applying"));
    ck_assert_ptr_null(strstr(output, "installing"));
    real_is_current();

    ask(conn, "update pglockd.function_set set checksum = repeat('0', 64)");
    psql_says("upgrade.sql", 0, "installing functions");
    real_is_current();
}
END_TEST

START_TEST(psql_upgrades_only_what_is_there)
{
    psql_says("upgrade.sql", 3, "to upgrade: run install.sql");
    ck_assert_str_eq(ask(conn, "select count(*) from pg_namespace where nspname = 'pglockd'"), "0");
}
END_TEST

START_TEST(psql_refuses_a_newer_or_changed_database)
{
    ck_assert_msg(migrate_up(conn, &err), "%s", buf_cstr(&err));
    ask(conn, "insert into pglockd.migration (version, name, checksum, min_program)"
              " select version + 1, 'next.sql', repeat('a', 64), 1 from pglockd.schema_info");
    psql_says("install.sql", 3, "newer than version");
    psql_says("upgrade.sql", 3, "newer than version");
    ask(conn, "delete from pglockd.migration where name = 'next.sql'");
    ask(conn, "update pglockd.migration set checksum = repeat('a', 64) where version = 1");
    psql_says("upgrade.sql", 3, "a released migration never changes");
}
END_TEST

/* --- connecting --- */

START_TEST(an_error_never_shows_the_conninfo)
{
    static const char *const bad[] = {"password=hunter2 hunter2 x", "postgresql://u:hunter2@[::1/x",
                                      "hunter2", "host=/nonexistent password=hunter2",
                                      "postgresql://u:hunter2@127.0.0.1:1/x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        buf_clear(&err);
        ck_assert_ptr_null(pg_connect_blocking(bad[i], &err));
        ck_assert_uint_gt(err.len, 10);
        ck_assert_ptr_null(strstr(buf_cstr(&err), "hunter2"));
        ck_assert_ptr_null(strchr(buf_cstr(&err), '\n'));
    }
    ck_assert_str_eq(ask(conn, "show application_name"), "pglockd");
    ck_assert_str_eq(ask(conn, "show client_encoding"), "UTF8");
}
END_TEST

/* What the build embedded is what the files say, byte for byte. */
START_TEST(files_are_embedded_as_they_are)
{
    const char *srcdir = getenv("SRCDIR");
    char path[4096];
    ck_assert_uint_ge(sql_embedded.n_migrations, 1);
    for (size_t i = 0; i < sql_embedded.n_migrations + sql_embedded.n_functions; i++) {
        bool function = i >= sql_embedded.n_migrations;
        const struct sql_file *file = function
                                          ? &sql_embedded.functions[i - sql_embedded.n_migrations]
                                          : &sql_embedded.migrations[i];
        snprintf(path, sizeof(path), "%s/sql/%s/%s", srcdir ? srcdir : ".",
                 function ? "functions" : "migrations", file->name);
        FILE *f = fopen(path, "r");
        ck_assert_msg(f != NULL, "%s", path);
        char *text = malloc(file->len + 2);
        size_t n = fread(text, 1, file->len + 2, f);
        fclose(f);
        ck_assert_uint_eq(n, file->len);
        ck_assert_mem_eq(text, file->text, n);
        free(text);
    }
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("migrate");
    TCase *tcase = tcase_create("migrate");
    tcase_add_unchecked_fixture(tcase, start_server, stop_server);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, says_what_to_run_where_roles_cannot_be_created);
    tcase_add_test(tcase, makes_roles_that_cannot_log_in);
    tcase_add_test(tcase, brings_an_empty_database_to_the_version_of_the_program);
    tcase_add_test(tcase, writes_nothing_the_second_time);
    tcase_add_test(tcase, comments_on_what_it_makes_itself);
    tcase_add_test(tcase, two_at_once_apply_everything_once);
    tcase_add_test(tcase, holds_its_documented_lock);
    tcase_add_test(tcase, a_file_that_fails_is_named_and_leaves_nothing);
    tcase_add_test(tcase, a_file_may_not_end_its_transaction);
    tcase_add_test(tcase, a_file_may_not_make_unqualified_objects);
    tcase_add_test(tcase, a_changed_migration_is_named);
    tcase_add_test(tcase, a_missing_migration_is_noticed);
    tcase_add_test(tcase, functions_that_fail_leave_the_old_ones);
    tcase_add_test(tcase, a_program_runs_on_a_newer_schema_that_admits_it);
    tcase_add_test(tcase, a_program_below_min_program_refuses);
    tcase_add_test(tcase, an_older_database_is_too_old);
    tcase_add_test(tcase, a_stranger_is_told_what_is_missing);
    tcase_add_test(tcase, psql_does_what_migrate_does);
    tcase_add_test(tcase, migrate_does_what_psql_does);
    tcase_add_test(tcase, psql_upgrades_only_what_is_there);
    tcase_add_test(tcase, psql_refuses_a_newer_or_changed_database);
    tcase_add_test(tcase, an_error_never_shows_the_conninfo);
    tcase_add_test(tcase, files_are_embedded_as_they_are);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_or_skip(make_suite());
}
