#include "pg/embedded.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "pg/connect.h"
#include "pg/embedded_parts.h"
#include "pg_fixture.h"

#define SECOND_US INT64_C(1000000)

static struct buf err, conninfo;
static char dir[4096]; /* the embedded directory of this test */
static const char *temp;

static void setup(void)
{
    temp = temp_dir();
    snprintf(dir, sizeof(dir), "%s/db", temp);
    err = conninfo = (struct buf){0};
}

static void teardown(void)
{
    buf_free(&err);
    buf_free(&conninfo);
}

static struct embedded *start(void)
{
    struct embedded *e = NULL;
    buf_clear(&conninfo);
    bool ok = embedded_start(dir, NULL, &e, &conninfo, &err);
    ck_assert_msg(ok, "%s", buf_cstr(&err));
    return e;
}

/* A start that must fail with these words. */
static void start_fails(const char *bindir, const char *words)
{
    struct embedded *e = NULL;
    buf_clear(&err);
    ck_assert(!embedded_start(dir, bindir, &e, &conninfo, &err));
    ck_assert_ptr_null(e);
    ck_assert_msg(strstr(buf_cstr(&err), words), "\"%s\" lacks \"%s\"", buf_cstr(&err), words);
}

static PGconn *connect_db(void)
{
    PGconn *conn = pg_connect_blocking(buf_cstr(&conninfo), &err);
    ck_assert_msg(conn != NULL, "%s", buf_cstr(&err));
    return conn;
}

/* The first value of a query; lives until the next call. */
static const char *ask(PGconn *conn, const char *sql)
{
    static char value[1024];
    PGresult *res = PQexec(conn, sql);
    ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK,
                  "%s: %s", sql, PQerrorMessage(conn));
    snprintf(value, sizeof(value), "%s", PQntuples(res) ? PQgetvalue(res, 0, 0) : "");
    PQclear(res);
    return value;
}

static void write_file(const char *name, const char *text)
{
    char path[8192];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static struct stat stat_of(const char *name)
{
    char path[8192];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    ck_assert_int_eq(lstat(path, &st), 0);
    return st;
}

static uid_t uid_of_process(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_uid;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static void wait_gone(pid_t pid, int64_t wait_us)
{
    int64_t until_us = clock_mono_us() + wait_us;
    while (kill(pid, 0) == 0 && clock_mono_us() < until_us)
        sleep_ms(20);
    ck_assert_msg(kill(pid, 0) != 0, "process %d still runs", (int)pid);
}

START_TEST(makes_a_cluster)
{
    struct embedded *e = start();
    ck_assert_str_eq(embedded_dir(e), dir);
    PGconn *conn = connect_db();
    ck_assert_str_eq(ask(conn, "select current_user || ' ' || current_database()"),
                     "pglockd pglockd");
    ck_assert_str_eq(ask(conn, "select rolsuper from pg_roles where rolname = current_user"), "f");
    static const char *const settings[][2] = {
        {"listen_addresses", ""},     {"fsync", "on"},
        {"synchronous_commit", "on"}, {"jit", "off"},
        {"autovacuum_naptime", "5s"}, {"TimeZone", "UTC"},
        {"max_wal_size", "2GB"},      {"max_locks_per_transaction", "256"},
        {"server_encoding", "UTF8"},  {"lc_collate", "C"},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        char sql[128];
        snprintf(sql, sizeof(sql), "show %s", settings[i][0]);
        ck_assert_str_eq(ask(conn, sql), settings[i][1]);
    }
    pg_close(conn);

    ck_assert_uint_eq(stat_of("run").st_mode & 07777, 0700);
    ck_assert_uint_eq(stat_of("pgdata").st_mode & 07777, 0700);
    ck_assert_uint_ne(uid_of_process(embedded_pid(e)), 0);
    pid_t pid = embedded_pid(e);
    embedded_stop(e);
    ck_assert_int_ne(kill(pid, 0), 0);
}
END_TEST

START_TEST(finds_its_data_again)
{
    struct embedded *e = start();
    PGconn *conn = connect_db();
    ask(conn, "create table kept as select 42 as n");
    pg_close(conn);
    embedded_stop(e);

    write_file("pgdata/local.conf", "max_connections = 77\n");
    char path[8192];
    snprintf(path, sizeof(path), "%s/pgdata/local.conf", dir);
    chmod(path, 0644);
    e = start();
    conn = connect_db();
    ck_assert_str_eq(ask(conn, "select n from kept"), "42");
    ck_assert_str_eq(ask(conn, "show max_connections"), "77");
    pg_close(conn);
    embedded_stop(e);
}
END_TEST

START_TEST(takes_an_existing_empty_directory_of_any_name)
{
    snprintf(dir, sizeof(dir), "%s/it's a \\ dir", temp);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    setenv("PGHOSTADDR", "192.0.2.1", 1);
    setenv("PGPORT", "1", 1);
    setenv("PGOPTIONS", "-c nonsense=1", 1);
    struct embedded *e = start();
    PGconn *conn = connect_db();
    ck_assert_str_eq(ask(conn, "select 1"), "1");
    pg_close(conn);
    embedded_stop(e);
}
END_TEST

START_TEST(refuses_another_major_version)
{
    embedded_stop(start());
    write_file("pgdata/PG_VERSION", "14\n");
    start_fails("/usr/lib/postgresql/15/bin", "was made by PostgreSQL 14");
    start_fails("/usr/lib/postgresql/15/bin", "is version 15");
    start_fails("/usr/lib/postgresql/15/bin", "install postgresql-14");
    write_file("pgdata/PG_VERSION", "15\n");
    embedded_stop(start());
}
END_TEST

START_TEST(refuses_a_path_too_long_for_a_socket)
{
    size_t n = strlen(dir);
    memset(dir + n, 'x', 100);
    dir[n + 100] = '\0';
    start_fails(NULL, "107 is the most");
}
END_TEST

START_TEST(refuses_a_comma_in_the_path)
{
    strcat(dir, ",b");
    start_fails(NULL, "comma");
}
END_TEST

START_TEST(refuses_a_directory_that_is_not_ours)
{
    ck_assert_int_eq(mkdir(dir, 0755), 0);
    write_file("letter.txt", "Dear all,");
    start_fails(NULL, "is not empty and was not made by pglockd");
    char path[8192];
    snprintf(path, sizeof(path), "%s/pglockd.lock", dir);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(refuses_a_file)
{
    snprintf(dir, sizeof(dir), "%s", temp);
    write_file("file", "");
    strcat(dir, "/file");
    start_fails(NULL, "/file");
}
END_TEST

START_TEST(refuses_a_second_daemon)
{
    struct embedded *e = start();
    char words[64];
    snprintf(words, sizeof(words), "in use by another pglockd, process %d", (int)getpid());
    start_fails(NULL, words);
    ck_assert_int_eq(kill(embedded_pid(e), 0), 0);
    embedded_stop(e);
}
END_TEST

START_TEST(says_where_there_is_no_postgres)
{
    start_fails("/nonexistent/bin", "pg_bindir is /nonexistent/bin");
}
END_TEST

START_TEST(makes_a_cluster_after_one_that_was_cut_off)
{
    ck_assert_int_eq(mkdir(dir, 0711), 0);
    write_file("pglockd.lock", "");
    strcat(dir, "/pgdata.new");
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    write_file("PG_VERSION", "15\n");
    *strrchr(dir, '/') = '\0';
    embedded_stop(start());
}
END_TEST

/* Starts in a process of its own, and returns that process and the postmaster's number. */
static pid_t start_elsewhere(pid_t *postmaster)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        struct embedded *e = NULL;
        pid_t pid = embedded_start(dir, NULL, &e, &conninfo, &err) ? embedded_pid(e) : 0;
        if (write(fds[1], &pid, sizeof(pid)) != sizeof(pid))
            _exit(1);
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(fds[0], postmaster, sizeof(*postmaster)), sizeof(*postmaster));
    ck_assert_int_gt(*postmaster, 0);
    return child;
}

START_TEST(postgres_does_not_outlive_a_killed_daemon)
{
    pid_t postmaster;
    pid_t daemon = start_elsewhere(&postmaster);
    kill(daemon, SIGKILL);
    waitpid(daemon, NULL, 0);
    wait_gone(postmaster, 10 * SECOND_US);
    embedded_stop(start());
}
END_TEST

START_TEST(waits_for_a_server_that_is_still_going_down)
{
    pid_t postmaster;
    pid_t daemon = start_elsewhere(&postmaster);
    /* Frozen, so that it is surely there still when the next one starts. */
    kill(postmaster, SIGSTOP);
    kill(daemon, SIGKILL);
    waitpid(daemon, NULL, 0);
    int64_t began_us = clock_mono_us();
    pid_t waker = fork();
    if (waker == 0) {
        sleep_ms(1000);
        kill(postmaster, SIGCONT);
        _exit(0);
    }
    embedded_stop(start());
    ck_assert_int_ge(clock_mono_us() - began_us, SECOND_US / 2);
    waitpid(waker, NULL, 0);
}
END_TEST

/* A machine that crashed leaves the file, and the number may be anybody's at the next start. */
START_TEST(a_stale_pid_file_does_not_keep_it_from_starting)
{
    embedded_stop(start());
    struct stat st = stat_of("pgdata");
    char path[8192], text[8192];
    snprintf(path, sizeof(path), "%s/pgdata/postmaster.pid", dir);

    /* A process of PostgreSQL's own user: PostgreSQL itself would refuse. */
    pid_t other = fork();
    if (other == 0) {
        if (geteuid() == 0 && (setgid(st.st_gid) != 0 || setuid(st.st_uid) != 0))
            _exit(1);
        for (;;)
            pause();
    }
    snprintf(text, sizeof(text), "%d\n%s/pgdata\n", (int)other, dir);
    write_file("pgdata/postmaster.pid", text);
    ck_assert_int_eq(chown(path, st.st_uid, st.st_gid), 0);
    sleep_ms(100);
    embedded_stop(start());
    ck_assert_int_eq(kill(other, 0), 0);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}
END_TEST

static PGconn *connect_within(int64_t wait_us)
{
    int64_t until_us = clock_mono_us() + wait_us;
    for (;;) {
        buf_clear(&err);
        PGconn *conn = pg_connect_blocking(buf_cstr(&conninfo), &err);
        if (conn)
            return conn;
        ck_assert_msg(clock_mono_us() < until_us, "%s", buf_cstr(&err));
        sleep_ms(50);
    }
}

START_TEST(is_started_again_with_back_off)
{
    struct embedded *e = start();
    PGconn *conn = connect_db();
    ask(conn, "create table kept as select 42 as n");
    pg_close(conn);

    int status;
    int delay_ms = 0;
    for (int i = 0; i < 2; i++) {
        pid_t before = embedded_pid(e);
        kill(before, SIGKILL);
        ck_assert_int_eq(waitpid(before, &status, 0), before);
        int next_ms = embedded_exited(e, status);
        ck_assert_int_eq(next_ms, delay_ms ? 2 * delay_ms : 100);
        ck_assert_int_eq(embedded_pid(e), 0);
        delay_ms = next_ms;
        /* Backends of the killed one may still be there: then this one exits, and so on. */
        do {
            sleep_ms(500);
            ck_assert(embedded_respawn(e));
            ck_assert_int_gt(embedded_pid(e), 0);
            sleep_ms(300);
        } while (waitpid(embedded_pid(e), &status, WNOHANG) > 0);
        conn = connect_within(20 * SECOND_US);
        ck_assert_str_eq(ask(conn, "select n from kept"), "42");
        pg_close(conn);
    }
    embedded_stop(e);
}
END_TEST

START_TEST(stop_is_quick_with_clients_connected)
{
    struct embedded *e = start();
    PGconn *conn = connect_db();
    ask(conn, "begin");
    int64_t began_us = clock_mono_us();
    embedded_stop(e);
    ck_assert_int_lt(clock_mono_us() - began_us, 10 * SECOND_US);
    pg_close(conn);
}
END_TEST

START_TEST(keeps_the_newest_logs)
{
    struct embedded *e = start();
    char name[64], newest[8192];
    for (int i = 10; i < 30; i++) {
        snprintf(name, sizeof(name), "log/postgres-200001%d-000000.log", i);
        write_file(name, "old");
    }
    write_file("log/notes.txt", "somebody's");
    embedded_prune_logs(e);
    ck_assert_int_ne(stat_of("log/notes.txt").st_mode, 0);
    ck_assert_int_ne(stat_of("log/postgres-20000129-000000.log").st_mode, 0);
    ck_assert_int_ne(stat_of("log/postgres-20000121-000000.log").st_mode, 0);
    snprintf(newest, sizeof(newest), "%s/log/postgres-20000120-000000.log", dir);
    ck_assert_int_ne(access(newest, F_OK), 0);
    embedded_stop(e);
}
END_TEST

/* --- as root only --- */

START_TEST(root_says_which_directory_is_closed)
{
    char closed[8192];
    snprintf(closed, sizeof(closed), "%s/closed", temp);
    ck_assert_int_eq(mkdir(closed, 0700), 0);
    snprintf(dir, sizeof(dir), "%s/closed/a/db", temp);
    strcat(closed, " (mode 0700) is closed");
    start_fails(NULL, closed);
    start_fails(NULL, "user postgres cannot reach");
}
END_TEST

START_TEST(root_refuses_a_cluster_of_roots)
{
    embedded_stop(start());
    char pgdata[8192];
    snprintf(pgdata, sizeof(pgdata), "%s/pgdata", dir);
    ck_assert_int_eq(chown(pgdata, 0, 0), 0);
    start_fails(NULL, "belongs to root");
}
END_TEST

/* Runs the rest of the test as nobody. */
static void become_nobody(void)
{
    const struct passwd *pw = getpwnam("nobody");
    ck_assert_ptr_nonnull(pw);
    ck_assert_int_eq(chown(temp, pw->pw_uid, pw->pw_gid), 0);
    gid_t gid = pw->pw_gid;
    ck_assert_int_eq(setgroups(1, &gid), 0);
    ck_assert_int_eq(setgid(gid), 0);
    ck_assert_int_eq(setuid(pw->pw_uid), 0);
}

START_TEST(a_user_runs_it_as_themselves)
{
    become_nobody();
    struct embedded *e = start();
    ck_assert_uint_eq(uid_of_process(embedded_pid(e)), geteuid());
    ck_assert_uint_eq(stat_of("pgdata").st_uid, geteuid());
    PGconn *conn = connect_db();
    ck_assert_str_eq(ask(conn, "select 1"), "1");
    pg_close(conn);
    embedded_stop(e);
    embedded_stop(start());
}
END_TEST

START_TEST(root_goes_on_as_the_owner_of_the_cluster)
{
    pid_t user = fork();
    if (user == 0) {
        become_nobody();
        struct embedded *e = NULL;
        bool ok = embedded_start(dir, NULL, &e, &conninfo, &err);
        embedded_stop(e);
        _exit(ok ? 0 : 1);
    }
    int status;
    waitpid(user, &status, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(chmod(dir, 0711), 0);
    struct embedded *e = start();
    ck_assert_uint_eq(uid_of_process(embedded_pid(e)), stat_of("pgdata").st_uid);
    embedded_stop(e);
}
END_TEST

/* Starts as nobody, in a process of its own so that root can clean up. */
static void nobody_fails(const char *words)
{
    pid_t user = fork();
    if (user == 0) {
        struct embedded *e = NULL;
        become_nobody();
        bool ok = embedded_start(dir, NULL, &e, &conninfo, &err);
        fprintf(stderr, "%s\n", buf_cstr(&err));
        _exit(!ok && strstr(buf_cstr(&err), words) ? 0 : 1);
    }
    int status;
    waitpid(user, &status, 0);
    ck_assert_int_eq(status, 0);
}

START_TEST(a_user_is_told_whose_cluster_it_is)
{
    embedded_stop(start());
    nobody_fails("db belongs to user root and is closed");
}
END_TEST

START_TEST(a_user_is_told_whose_cluster_it_is_in_an_open_directory)
{
    embedded_stop(start());
    char lock[8192];
    snprintf(lock, sizeof(lock), "%s/pglockd.lock", dir);
    ck_assert_int_eq(chmod(lock, 0666), 0);
    ck_assert_int_eq(chmod(dir, 0755), 0);
    nobody_fails("pgdata belongs to user postgres");
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("embedded");
    TCase *tcase = tcase_create("any user");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, makes_a_cluster);
    tcase_add_test(tcase, finds_its_data_again);
    tcase_add_test(tcase, takes_an_existing_empty_directory_of_any_name);
    tcase_add_test(tcase, refuses_another_major_version);
    tcase_add_test(tcase, refuses_a_path_too_long_for_a_socket);
    tcase_add_test(tcase, refuses_a_comma_in_the_path);
    tcase_add_test(tcase, refuses_a_directory_that_is_not_ours);
    tcase_add_test(tcase, refuses_a_file);
    tcase_add_test(tcase, refuses_a_second_daemon);
    tcase_add_test(tcase, says_where_there_is_no_postgres);
    tcase_add_test(tcase, makes_a_cluster_after_one_that_was_cut_off);
    tcase_add_test(tcase, postgres_does_not_outlive_a_killed_daemon);
    tcase_add_test(tcase, waits_for_a_server_that_is_still_going_down);
    tcase_add_test(tcase, a_stale_pid_file_does_not_keep_it_from_starting);
    tcase_add_test(tcase, is_started_again_with_back_off);
    tcase_add_test(tcase, stop_is_quick_with_clients_connected);
    tcase_add_test(tcase, keeps_the_newest_logs);
    suite_add_tcase(suite, tcase);

    if (geteuid() == 0) {
        TCase *root = tcase_create("root");
        tcase_add_checked_fixture(root, setup, teardown);
        tcase_set_timeout(root, 120);
        tcase_add_test(root, root_says_which_directory_is_closed);
        tcase_add_test(root, root_refuses_a_cluster_of_roots);
        tcase_add_test(root, a_user_runs_it_as_themselves);
        tcase_add_test(root, root_goes_on_as_the_owner_of_the_cluster);
        tcase_add_test(root, a_user_is_told_whose_cluster_it_is);
        tcase_add_test(root, a_user_is_told_whose_cluster_it_is_in_an_open_directory);
        suite_add_tcase(suite, root);
    }
    return suite;
}

int main(void)
{
    return run_or_skip(make_suite());
}
