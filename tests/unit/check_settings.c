#include "config/settings.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "config.h"
#include "unit.h"

enum { ARGS_MAX = 12 };

static char dir[64];
static char ini[96];
static char captured[65536];

/* A place of its own, and none of the environment that the tests run in. */
static void set_up(void)
{
    snprintf(dir, sizeof(dir), "/tmp/check_settings.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(ini, sizeof(ini), "%s/pglockd.ini", dir);
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        char name[64];
        char *p = name;

        snprintf(name, sizeof(name), "PGLOCKD_%s", settings_table[i].name);
        for (; *p; p++)
            *p = (char)toupper((unsigned char)*p);
        unsetenv(name);
    }
    setenv("PGLOCKD_CONFIG", "/dev/null", 1); /* not the file of the machine */
}

static void tear_down(void)
{
    unlink(ini);
    rmdir(dir);
}

static void write_bytes(const char *path, struct str text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text.p, 1, text.n, file), text.n);
    fclose(file);
}

static void write_ini(const char *text)
{
    write_bytes(ini, str_of(text));
}

/* One way to call settings_load(): the file (NULL: none), then options up to a NULL. */
struct run {
    struct settings s;
    struct buf err;
    char *argv[ARGS_MAX + 4];
    enum settings_result result;
};

static void load(struct run *run, const char *text, const char *const *options)
{
    int argc = 0;

    memset(run, 0, sizeof(*run));
    run->argv[argc++] = (char *)(uintptr_t) "pglockd";
    if (text) {
        write_ini(text);
        run->argv[argc++] = (char *)(uintptr_t) "--config";
        run->argv[argc++] = ini;
    }
    for (size_t i = 0; options && options[i]; i++)
        run->argv[argc++] = (char *)(uintptr_t)options[i];
    run->result = settings_load(&run->s, argc, run->argv, &run->err);
}

#define LOAD(run, text, ...) load(run, text, (const char *const[]){__VA_ARGS__, NULL})

static void finish(struct run *run)
{
    settings_free(&run->s);
    buf_free(&run->err);
}

static void expect_run(struct run *run)
{
    ck_assert_msg(run->result == SETTINGS_RUN, "%s", buf_cstr(&run->err));
    ck_assert_uint_eq(run->err.len, 0);
}

/* The error is one line and has every one of the words. */
static void expect_bad(struct run *run, const char *a, const char *b)
{
    const char *text = buf_cstr(&run->err);

    ck_assert_msg(run->result == SETTINGS_BAD_CONFIG, "accepted; want \"%s\" \"%s\"", a, b);
    ck_assert_msg(strstr(text, a) && strstr(text, b), "got \"%s\", want \"%s\" \"%s\"", text, a, b);
    ck_assert_ptr_null(strchr(text, '\n'));
}

START_TEST(defaults)
{
    struct run run;

    LOAD(&run, NULL, "--embedded", "/d");
    expect_run(&run);
    ck_assert_uint_eq(run.s.listen.n, 1);
    ck_assert_str_eq(run.s.listen.items[0], "127.0.0.1:7432");
    ck_assert_str_eq(run.s.http, "127.0.0.1:7433");
    ck_assert_uint_eq(run.s.http_hosts.n, 0);
    ck_assert_ptr_null(run.s.dsn);
    ck_assert_ptr_null(run.s.dsn_file);
    ck_assert_ptr_null(run.s.pg_bindir);
    ck_assert_str_eq(run.s.embedded, "/d");
    ck_assert_str_eq(settings_table[SETTING_INDEX_config].default_text, "/etc/pglockd/pglockd.ini");
    ck_assert_int_eq(run.s.migrate, SETTINGS_MIGRATE_AUTO);
    ck_assert_int_eq(run.s.ttl_ms, 30000);
    ck_assert_int_eq(run.s.ttl_min_ms, 100);
    ck_assert_int_eq(run.s.ttl_max_ms, 600000);
    ck_assert_int_eq(run.s.request_timeout_ms, 2000);
    ck_assert_int_eq(run.s.drain_timeout_ms, 30000);
    ck_assert_int_eq(run.s.requeue_grace_ms, 30000);
    ck_assert_uint_eq(run.s.line_max, 65536);
    ck_assert_uint_eq(run.s.max_connections, 20000);
    ck_assert_uint_eq(run.s.max_inflight, 1024);
    ck_assert_uint_eq(run.s.max_input, 262144);
    ck_assert_uint_eq(run.s.max_output, 1048576);
    ck_assert_uint_eq(run.s.max_waiters, 100000);
    ck_assert_uint_eq(run.s.lanes, 1);
    ck_assert_uint_eq(run.s.batch_max, 512);
    ck_assert_int_eq(run.s.log_level, LOG_INFO);
    finish(&run);
    LOAD(&run, NULL, "--dsn", "host=h");
    expect_run(&run);
    ck_assert_int_eq(run.s.migrate, SETTINGS_MIGRATE_CHECK);
    finish(&run);
}
END_TEST

/* The words of a choice and the enums that the programs compare with. */
START_TEST(choices)
{
    static const char *const migrate[] = {"auto", "check", "off"};

    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        struct run run;

        LOAD(&run, NULL, "--embedded=/d", "--log_level", log_level_name((enum log_level)level));
        expect_run(&run);
        ck_assert_int_eq(run.s.log_level, level);
        finish(&run);
    }
    for (int i = SETTINGS_MIGRATE_AUTO; i <= SETTINGS_MIGRATE_OFF; i++) {
        struct run run;

        LOAD(&run, NULL, "--dsn=host=h", "--migrate", migrate[i]);
        expect_run(&run);
        ck_assert_int_eq(run.s.migrate, i);
        finish(&run);
    }
}
END_TEST

START_TEST(from_file)
{
    struct run run;

    LOAD(&run,
         "\xef\xbb\xbf; a comment ; with semicolons\r\n"
         "  # an indented comment\r\n"
         "\n"
         "[pglockd]\r\n"
         "dsn = host=/run/pg dbname=d;x options='-c a=b'\n"
         "listen=127.0.0.1:1 , unix:/tmp/a b\n"
         "listen = [::1]:2\n"
         "http = off\n"
         "http_hosts = locks.example.org, locks\n"
         "ttl = 45s\n"
         "line_max = 1024",
         NULL);
    expect_run(&run);
    ck_assert_str_eq(run.s.dsn, "host=/run/pg dbname=d;x options='-c a=b'");
    ck_assert_uint_eq(run.s.listen.n, 3);
    ck_assert_str_eq(run.s.listen.items[0], "127.0.0.1:1");
    ck_assert_str_eq(run.s.listen.items[1], "unix:/tmp/a b");
    ck_assert_str_eq(run.s.listen.items[2], "[::1]:2");
    ck_assert_ptr_null(run.s.http);
    ck_assert_uint_eq(run.s.http_hosts.n, 2);
    ck_assert_str_eq(run.s.http_hosts.items[1], "locks");
    ck_assert_int_eq(run.s.ttl_ms, 45000);
    ck_assert_uint_eq(run.s.line_max, 1024);
    finish(&run);
}
END_TEST

START_TEST(precedence)
{
    struct run run;

    setenv("PGLOCKD_TTL", "40s", 1);
    setenv("PGLOCKD_TTL_MIN", "2s", 1);
    setenv("PGLOCKD_HTTP", "", 1); /* empty is not set */
    setenv("PGLOCKD_LISTEN", "127.0.0.1:5,127.0.0.1:6", 1);
    setenv("PGLOCKD_PORT", "tcp://10.0.0.1:7432", 1); /* not ours: container platforms set it */
    LOAD(&run, "[pglockd]\nembedded=/d\nttl=35s\nttl_min=1s\nttl_max=5m\nlisten=127.0.0.1:1\n",
         "--ttl", "50s", "--http-hosts=a", "--http_hosts", "b");
    expect_run(&run);
    ck_assert_int_eq(run.s.ttl_ms, 50000);
    ck_assert_int_eq(run.s.ttl_min_ms, 2000);
    ck_assert_int_eq(run.s.ttl_max_ms, 300000);
    ck_assert_str_eq(run.s.http, "127.0.0.1:7433");
    ck_assert_uint_eq(run.s.listen.n, 2);
    ck_assert_str_eq(run.s.listen.items[1], "127.0.0.1:6");
    ck_assert_uint_eq(run.s.http_hosts.n, 2);
    finish(&run);
    LOAD(&run, NULL, "--embedded=/d", "--ttl=1m", "--ttl=2m"); /* the last one counts */
    expect_run(&run);
    ck_assert_int_eq(run.s.ttl_ms, 120000);
    finish(&run);
}
END_TEST

START_TEST(which_file)
{
    struct run run;
    char other[128];

    snprintf(other, sizeof(other), "%s/missing.ini", dir);
    write_ini("[pglockd]\nembedded = /from-file\n");
    setenv("PGLOCKD_CONFIG", ini, 1);
    LOAD(&run, NULL, NULL);
    expect_run(&run);
    ck_assert_str_eq(run.s.embedded, "/from-file");
    ck_assert_str_eq(run.s.config, ini);
    finish(&run);
    LOAD(&run, NULL, "--config", other, "--embedded=/d"); /* named, so it must be there */
    expect_bad(&run, other, "No such file");
    finish(&run);
    LOAD(&run, NULL, "--config", dir, "--embedded=/d");
    expect_bad(&run, dir, "Is a directory");
    finish(&run);
    unsetenv("PGLOCKD_CONFIG");
    if (access("/etc/pglockd/pglockd.ini", F_OK) != 0) { /* the default may be missing */
        LOAD(&run, NULL, "--embedded=/d");
        expect_run(&run);
        finish(&run);
    }
}
END_TEST

#define HEAD "[pglockd]\nembedded=/d\n"

START_TEST(bad_files)
{
    static const struct {
        const char *text, *where, *why;
    } rows[] = {
        {HEAD "tll = 5s\n", ":3: \"tll\"", "no such setting"},
        {HEAD "TTL = 5s\n", ":3: ", "no such setting"},
        {HEAD "max-input = 5\n", ":3: ", "no such setting"},
        {HEAD "config = /x\n", ":3: ", "cannot stand in it"},
        {HEAD "ttl = 5s\n\nttl = 5s\n", ":5: ", "second time"},
        {HEAD "ttl = 5s ; note\n", ":3: ", "line of its own"},
        {HEAD "dsn = a\t;b\n", ":3: ", "line of its own"},
        {HEAD "ttl = \"5s\"\n", ":3: ", "without quotes"},
        {HEAD " ttl = 5s\n", ":3: ", "begins with a blank"},
        {HEAD "\tttl = 5s\n", ":3: ", "begins with a blank"},
        {HEAD "ttl\n", ":3: ", "neither"},
        {HEAD "ttl: 5s\n", ":3: ", "neither"},
        {HEAD "listen: a=b\n", ":3: ", "neither"},
        {HEAD "[other]\n", ":3: ", "only section"},
        {HEAD "[pglockd] ttl = 5s\n", ":3: ", "only section"},
        {HEAD "[pglockd\n", ":3: ", "only section"},
        {"embedded=/d\n", ":1: ", "before the section"},
        {HEAD "= x\n", ":3: ", "no such setting"},
        {HEAD "ttl =\n", ":3: ttl is \"\"", "whole number with a unit"},
        {HEAD "ttl = 5\n", ":3: ttl is \"5\"", "needs a unit"},
        {HEAD "ttl = inf\n", ":3: ", "not accepted here"},
        {HEAD "ttl = 0s\n", ":3: ", "from 1ms to 1d"},
        {HEAD "ttl = 25h\n", ":3: ", "from 1ms to 1d"},
        {HEAD "request_timeout = 99ms\n", ":3: ", "from 100ms to 1h"},
        {HEAD "lanes = 0\n", ":3: ", "from 1 to 8"},
        {HEAD "lanes = 9\n", ":3: ", "from 1 to 8"},
        {HEAD "lanes = 99999999999999999999999999\n", ":3: ", "from 1 to 8"},
        {HEAD "lanes = -1\n", ":3: ", "whole number from 1 to 8"},
        {HEAD "lanes = 0x1\n", ":3: ", "whole number from 1 to 8"},
        {HEAD "lanes =\n", ":3: ", "whole number from 1 to 8"},
        {HEAD "lanes = 1 000\n", ":3: ", "whole number from 1 to 8"},
        {HEAD "log_level = verbose\n", ":3: ", "one of error|warn|info|debug"},
        {HEAD "log_level = inf\n", ":3: ", "one of error|warn|info|debug"},
        {HEAD "log_level =\n", ":3: ", "one of error|warn|info|debug"},
        {HEAD "migrate = error\n", ":3: ", "one of auto|check|off"},
        {HEAD "migrate = auto|check\n", ":3: ", "one of auto|check|off"},
        {HEAD "listen =\n", ":3: ", "number of its items must be from 1 to 64"},
        {HEAD "listen = 127.0.0.1:1,,127.0.0.1:2\n", ":3: ", "empty"},
        {HEAD "listen = 127.0.0.1:1,\n", ":3: ", "empty"},
        {HEAD "listen = localhost\n", ":3: ", "HOST:PORT"},
        {HEAD "listen = off\n", ":3: ", "HOST:PORT"},
        {HEAD "listen = 0.0.0.0:7432\n", ":3: listen is \"0.0.0.0:7432\"", "auth is off"},
        {HEAD "listen = 127.0.0.1:1\nlisten = db.example.org:7432\n",
         ":4: ", "set auth_off_on_network = yes"},
        {HEAD "http = [::]:7433\n", ":3: http is ", "set auth = on"},
        {HEAD "auth = yes\n", ":3: ", "one of off|on"},
        {HEAD "auth = on\nlisten = 0.0.0.0:1\n", ":4: ", "set plaintext_auth = yes"},
        {HEAD "plaintext_auth = on\n", ":3: ", "one of no|yes"},
        {HEAD "peer_names = build\n", ":3: ", "USER:NAME"},
        {HEAD "peer_names = :ci\n", ":3: ", "USER:NAME"},
        {HEAD "peer_names = build:\n", ":3: ", "a name is 1 to 128"},
        {HEAD "peer_names = build:a b\n", ":3: ", "a name is 1 to 128"},
        {HEAD "http = unix:/tmp/x\n", ":3: ", "HTTP is served on HOST:PORT"},
        {HEAD "http =\n", ":3: ", "from 1 to"},
        {HEAD "http_hosts = a:7433\n", ":3: ", "no port"},
        {HEAD "http_hosts = http://a\n", ":3: ", "host name"},
        {HEAD "pg_bindir =\n", ":3: ", "length"},
        {HEAD "pg_bindir = /a\x01\n", ":3: ", "control character"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct run run;
        char where[160];

        LOAD(&run, rows[i].text, NULL);
        snprintf(where, sizeof(where), "%s%s", ini, rows[i].where);
        expect_bad(&run, where, rows[i].why);
        finish(&run);
    }
}
END_TEST

/* inih's buffer: what fits into it arrives whole, what does not is refused. */
START_TEST(line_lengths)
{
    for (size_t n = 190; n < 210; n++) {
        char text[400];
        struct run run;
        int used = snprintf(text, sizeof(text), "[pglockd]\nembedded=/");

        memset(text + used, 'x', n - strlen("embedded=/"));
        snprintf(text + strlen("[pglockd]\n") + n, 3, "%s", n % 2 ? "\r\n" : "");
        LOAD(&run, text, NULL);
        if (n <= 197) {
            expect_run(&run);
            ck_assert_uint_eq(strlen(run.s.embedded), n - strlen("embedded="));
        } else {
            expect_bad(&run, ":2: the line has ", "at most 197");
            ck_assert_ptr_nonnull(strstr(run.err.data, "dsn_file"));
        }
        finish(&run);
    }
}
END_TEST

START_TEST(odd_files)
{
    struct run run;
    char *huge = malloc((1 << 20) + 10);

    LOAD(&run, "", "--embedded=/d");
    expect_run(&run);
    finish(&run);
    LOAD(&run, "\n\n\n", "--embedded=/d");
    expect_run(&run);
    finish(&run);
    memset(huge, '\n', (1 << 20) + 9);
    huge[(1 << 20) + 9] = '\0';
    LOAD(&run, huge, "--embedded=/d");
    expect_bad(&run, ini, "1 MiB");
    finish(&run);
    free(huge);
    write_bytes(ini, STR_LIT("[pglockd]\nttl=5s\0x\n"));
    LOAD(&run, NULL, "--config", ini, "--embedded=/d");
    expect_bad(&run, ":2: ", "NUL");
    finish(&run);
}
END_TEST

START_TEST(bad_options)
{
    static const struct {
        const char *options[5];
        const char *a, *b;
    } rows[] = {
        {{"--nope", "1"}, "\"--nope\"", "not an option"},
        {{"--nope=secret"}, "\"--nope\" ", "not an option"},
        {{"nope"}, "\"nope\"", "not an option"},
        {{"-x"}, "\"-x\"", "not an option"},
        {{"--"}, "\"--\"", "not an option"},
        {{"--embedded=/d", "--ttl"}, "--ttl needs a value", "DURATION"},
        {{"--embedded", "--ttl", "5s"}, "--embedded needs a value", "DIR"},
        {{"--embedded=/d", "--ttl=5"}, "option --ttl: ttl is \"5\"", "needs a unit"},
        {{"--embedded=/d", "--max-input=5"}, "option --max_input", "from 1024"},
        {{"--embedded=/d", "--listen=10.0.0.1:1"}, "option --listen", "auth is off"},
        {{"--embedded=/d", "--listen=10.0.0.1:1", "--plaintext_auth=yes"}, "listen", "auth is off"},
        {{"--embedded=/d", "--auth=on", "--auth_off_on_network=yes", "--http=10.0.0.1:1"},
         "option --http",
         "unencrypted"},
        {{"--embedded=/d", "--log_level=loud\nlevel=x"}, "loud\\nlevel=x", "control character"},
        {{"--embedded="}, "option --embedded", "length"},
        {{"--ttl=5s"}, "no database is named", "embedded"},
        {{"--embedded=/d", "--dsn=host=h"}, "dsn (host=h, option --dsn)", "exclude each other"},
        {{"--dsn_file=/f", "--dsn=host=h"}, "dsn_file (/f, option --dsn_file)", "keep one"},
        {{"--embedded=/d", "--ttl_min=31s"},
         "ttl_min (31s, option --ttl_min)",
         "must not be above ttl (30s, default)"},
        {{"--embedded=/d", "--ttl=11m"}, "ttl (11m, option --ttl)", "ttl_max (10m, default)"},
        {{"--embedded=/d", "--ttl_max=5s"}, "ttl (30s, default)", "ttl_max (5s, option --ttl_max)"},
        {{"--embedded=/d", "--ttl_max=5s", "--ttl_min=6s"}, "ttl_min (6s", "ttl_max (5s"},
        {{"--embedded=/d", "--line_max=300000"}, "line_max (300000", "max_input (262144, default)"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct run run;

        load(&run, NULL, rows[i].options);
        expect_bad(&run, rows[i].a, rows[i].b);
        finish(&run);
    }
}
END_TEST

START_TEST(bad_environment)
{
    struct run run;

    setenv("PGLOCKD_MAX_WAITERS", "many", 1);
    LOAD(&run, NULL, "--embedded=/d");
    expect_bad(&run, "environment PGLOCKD_MAX_WAITERS: max_waiters is \"many\"", "whole number");
    finish(&run);
    LOAD(&run, NULL, "--embedded=/d", "--max_waiters=5"); /* wrong is wrong, also when unused */
    expect_bad(&run, "PGLOCKD_MAX_WAITERS", "whole number");
    finish(&run);
}
END_TEST

/* The strongest source that names a database wins; two in one source are a mistake. */
START_TEST(one_database)
{
    struct run run;

    LOAD(&run, "[pglockd]\ndsn=host=h\n", "--embedded", "/d");
    expect_run(&run);
    ck_assert_ptr_null(run.s.dsn);
    ck_assert_str_eq(run.s.embedded, "/d");
    ck_assert_int_eq(run.s.migrate, SETTINGS_MIGRATE_AUTO);
    finish(&run);
    setenv("PGLOCKD_DSN", "host=h password=x", 1); /* in the environment it is the user's own */
    LOAD(&run, "[pglockd]\nembedded=/d\n", NULL);
    expect_run(&run);
    ck_assert_ptr_null(run.s.embedded);
    ck_assert_str_eq(run.s.dsn, "host=h password=x");
    finish(&run);
    unsetenv("PGLOCKD_DSN");
    LOAD(&run, "[pglockd]\nembedded=/d\ndsn_file=/f\n", "--ttl=5s");
    expect_bad(&run, ":3)", ":2)");
    finish(&run);
}
END_TEST

START_TEST(password_on_the_command_line)
{
    static const char *const dsns[] = {
        "--dsn=host=h password=S3cret",
        "--dsn=postgresql://u:S3cret@h/d",
        "--dsn=postgresql://h/d?password=S3cret",
    };

    for (size_t i = 0; i < COUNT(dsns); i++) {
        struct run run;

        LOAD(&run, NULL, dsns[i]);
        expect_bad(&run, "option --dsn", "dsn_file");
        ck_assert_ptr_null(strstr(run.err.data, "S3cret"));
        finish(&run);
    }
}
END_TEST

START_TEST(no_password_in_errors)
{
    struct run run;
    char text[300];

    snprintf(text, sizeof(text), "[pglockd]\ndsn=password=S3cret\nembedded=/d\n");
    LOAD(&run, text, NULL);
    expect_bad(&run, "***", "exclude each other");
    ck_assert_ptr_null(strstr(run.err.data, "S3cret"));
    finish(&run);
    snprintf(text, sizeof(text), "[pglockd]\ndsn=password=S3cret\x01\n");
    LOAD(&run, text, NULL);
    expect_bad(&run, ":2: dsn: ", "control character");
    ck_assert_ptr_null(strstr(run.err.data, "S3cret"));
    finish(&run);
}
END_TEST

/* Standard output of one settings_load(), which must say EXIT_OK. */
static const char *output_of(const char *text, const char *const *options)
{
    char path[96];
    struct run run;
    int saved, fd;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/out", dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    fflush(stdout);
    saved = dup(STDOUT_FILENO);
    dup2(fd, STDOUT_FILENO);
    load(&run, text, options);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    n = pread(fd, captured, sizeof(captured) - 1, 0);
    close(fd);
    unlink(path);
    ck_assert_int_ge(n, 0);
    captured[n] = '\0';
    ck_assert_msg(run.result == SETTINGS_EXIT_OK, "%s", buf_cstr(&run.err));
    finish(&run);
    return captured;
}

#define OUTPUT(text, ...) output_of(text, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(help_and_version)
{
    const char *text = OUTPUT(NULL, "--help");

    for (int i = 0; i < SETTINGS_COUNT; i++) {
        char line[128];

        snprintf(line, sizeof(line), "\n  --%s %s\n", settings_table[i].name,
                 settings_table[i].value);
        ck_assert_msg(strstr(text, line), "--help lacks %s", line);
    }
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        ck_assert_uint_le(strcspn(p, "\n"), 80);
    ck_assert_ptr_nonnull(strstr(text, "Default: 30s. Accepted: from 1ms to 1d."));
    ck_assert_str_eq(OUTPUT(NULL, "--version"), "pglockd " PACKAGE_VERSION "\n");
    /* even where the rest makes no sense */
    ck_assert_ptr_nonnull(strstr(OUTPUT(NULL, "--ttl=x", "--help", "--nope"), "Usage:"));
    ck_assert_ptr_nonnull(strstr(OUTPUT("nonsense", "-V"), "pglockd "));
}
END_TEST

START_TEST(show_config)
{
    const char *text;
    char want[200];

    setenv("PGLOCKD_TTL_MAX", "120s", 1);
    text = OUTPUT("[pglockd]\ndsn=host=h password=S3cret\nlisten=127.0.0.1:1\nlisten=unix:/x\n",
                  "--lanes=2", "--show-config", "--http=off");
    ck_assert_ptr_null(strstr(text, "S3cret"));
    ck_assert_ptr_nonnull(strstr(text, "dsn = host=h password=*** "));
    ck_assert_ptr_nonnull(strstr(text, "ttl_max = 2m "));
    ck_assert_ptr_nonnull(strstr(text, "# environment PGLOCKD_TTL_MAX, default 10m\n"));
    ck_assert_ptr_nonnull(strstr(text, "lanes = 2 "));
    ck_assert_ptr_nonnull(strstr(text, "# option --lanes, default 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "http = off "));
    ck_assert_ptr_nonnull(strstr(text, "listen = 127.0.0.1:1,unix:/x "));
    snprintf(want, sizeof(want), "# %s:4, default 127.0.0.1:7432\n", ini);
    ck_assert_ptr_nonnull(strstr(text, want));
    ck_assert_ptr_nonnull(strstr(text, "migrate = check "));
    ck_assert_ptr_nonnull(strstr(text, "# default\n"));
}
END_TEST

START_TEST(check_config)
{
    struct run run;
    char path[128];

    ck_assert_str_eq(OUTPUT("[pglockd]\nembedded=/d\n", "--check-config"),
                     "the configuration is valid\n");
    snprintf(path, sizeof(path), "%s/missing", dir);
    LOAD(&run, NULL, "--check-config", "--dsn_file", path);
    expect_bad(&run, "dsn_file", "No such file");
    finish(&run);
    LOAD(&run, NULL, "--check-config", "--embedded=/d", "--lanes=9");
    expect_bad(&run, "lanes", "from 1 to 8");
    finish(&run);
}
END_TEST

START_TEST(read_dsn)
{
    static const struct {
        struct str text;
        const char *dsn, *error;
    } rows[] = {
        {STR_LIT("host=h password=p\n"), "host=h password=p", NULL},
        {STR_LIT("host=h\r\nsecond line\n"), "host=h", NULL},
        {STR_LIT("host=h"), "host=h", NULL},
        {STR_LIT(""), NULL, "is empty"},
        {STR_LIT("\nhost=h\n"), NULL, "is empty"},
        {STR_LIT("ho\0st=h\n"), NULL, "NUL"},
    };
    char path[128];

    snprintf(path, sizeof(path), "%s/dsn", dir);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct run run;
        struct buf out = {0};

        write_bytes(path, rows[i].text);
        LOAD(&run, NULL, "--dsn-file", path);
        expect_run(&run);
        ck_assert(settings_read_dsn(&run.s, &out, &run.err) == (rows[i].dsn != NULL));
        if (rows[i].dsn)
            ck_assert_str_eq(buf_cstr(&out), rows[i].dsn);
        else
            ck_assert_ptr_nonnull(strstr(buf_cstr(&run.err), rows[i].error));
        buf_free(&out);
        finish(&run);
    }
    unlink(path);
}
END_TEST

START_TEST(read_dsn_elsewhere)
{
    struct run run;
    struct buf out = {0};

    LOAD(&run, NULL, "--dsn", "host=h");
    ck_assert(settings_read_dsn(&run.s, &out, &run.err));
    ck_assert_str_eq(buf_cstr(&out), "host=h");
    buf_free(&out);
    finish(&run);
    LOAD(&run, NULL, "--embedded=/d");
    ck_assert(!settings_read_dsn(&run.s, &out, &run.err));
    ck_assert_uint_gt(run.err.len, 0);
    ck_assert_uint_eq(out.len, 0);
    finish(&run);
}
END_TEST

START_TEST(reload)
{
    struct run run;
    const char *dsn;

    setenv("PGLOCKD_MAX_INFLIGHT", "7", 1);
    LOAD(&run, "[pglockd]\ndsn=host=h\nttl=20s\nmax_inflight=5\nmax_waiters=5\n",
         "--max-waiters=6");
    expect_run(&run);
    dsn = run.s.dsn;
    write_ini("[pglockd]\ndsn=host=h\nttl=25s\nhttp_hosts=a,b\nmax_inflight=8\nmax_waiters=8\n"
              "log_level=debug\n");
    ck_assert(settings_reload(&run.s, &run.err));
    ck_assert_str_eq(buf_cstr(&run.err), "");
    ck_assert_int_eq(run.s.ttl_ms, 25000);
    ck_assert_uint_eq(run.s.http_hosts.n, 2);
    ck_assert_int_eq(run.s.log_level, LOG_DEBUG);
    ck_assert_uint_eq(run.s.max_inflight, 7); /* environment and options still win */
    ck_assert_uint_eq(run.s.max_waiters, 6);
    ck_assert_ptr_eq(run.s.dsn, dsn);
    /* what is gone from the file has its default again */
    write_ini("[pglockd]\ndsn=host=h\n");
    ck_assert(settings_reload(&run.s, &run.err));
    ck_assert_int_eq(run.s.ttl_ms, 30000);
    ck_assert_int_eq(run.s.log_level, LOG_INFO);
    ck_assert_uint_eq(run.s.http_hosts.n, 0);
    finish(&run);
}
END_TEST

/* Off loopback only for who says so by the name of what is missing. */
START_TEST(exposure)
{
    static const struct {
        const char *options[5];
        const char *exposed;
    } rows[] = {
        {{"--embedded=/d"}, NULL},
        {{"--embedded=/d", "--auth=on"}, NULL},
        {{"--embedded=/d", "--auth=on", "--listen=unix:/x", "--http=off"}, NULL},
        {{"--embedded=/d", "--auth=on", "--listen=10.0.0.1:1", "--plaintext_auth=yes"},
         "10.0.0.1:1"},
        {{"--embedded=/d", "--http=10.0.0.1:1", "--auth_off_on_network=yes"}, "10.0.0.1:1"},
    };
    struct run run;

    for (size_t i = 0; i < COUNT(rows); i++) {
        load(&run, NULL, rows[i].options);
        expect_run(&run);
        ck_assert_pstr_eq(settings_exposed(&run.s), rows[i].exposed);
        finish(&run);
    }
}
END_TEST

START_TEST(peers)
{
    struct run run;

    LOAD(&run, "[pglockd]\nembedded=/d\npeer_names=build:ci, 1000:a.b@c\npeer_names=x:y\n", NULL);
    expect_run(&run);
    ck_assert_uint_eq(run.s.peer_names.n, 3);
    ck_assert_str_eq(run.s.peer_names.items[1], "1000:a.b@c");
    write_ini("[pglockd]\nembedded=/d\npeer_names=z:y\nauth=on\n");
    ck_assert(settings_reload(&run.s, &run.err));
    ck_assert_str_eq(buf_cstr(&run.err), "auth changed: restart pglockd for that");
    ck_assert_uint_eq(run.s.peer_names.n, 1);
    ck_assert_int_eq(run.s.auth, SETTINGS_AUTH_OFF);
    finish(&run);
}
END_TEST

START_TEST(reload_needs_restart)
{
    struct run run;

    LOAD(&run, "[pglockd]\ndsn=host=h\n", NULL);
    expect_run(&run);
    write_ini("[pglockd]\ndsn=host=g password=S3cret\nlisten=127.0.0.1:9\nttl=25s\n");
    ck_assert(settings_reload(&run.s, &run.err));
    ck_assert_str_eq(buf_cstr(&run.err), "listen, dsn changed: restart pglockd for that");
    ck_assert_str_eq(run.s.dsn, "host=h");
    ck_assert_str_eq(run.s.listen.items[0], "127.0.0.1:7432");
    ck_assert_int_eq(run.s.ttl_ms, 25000);
    finish(&run);
}
END_TEST

START_TEST(reload_of_bad_file)
{
    static const char *const texts[] = {
        "[pglockd]\nembedded=/d\nttl=21s\nlanes=9\n",
        "[pglockd]\nembedded=/d\nttl=21s\nttl_max=20s\n",
        "[pglockd]\nttl=21s\n",
        /* line_max stays, so max_input may not go below the old one */
        "[pglockd]\nembedded=/d\nttl=21s\nline_max=2048\nmax_input=4096\n",
    };
    struct run run;

    LOAD(&run, "[pglockd]\nembedded=/d\nttl=20s\n", NULL);
    expect_run(&run);
    for (size_t i = 0; i < COUNT(texts); i++) {
        buf_clear(&run.err);
        write_ini(texts[i]);
        ck_assert_msg(!settings_reload(&run.s, &run.err), "%s", texts[i]);
        ck_assert_uint_gt(run.err.len, 0);
        ck_assert_int_eq(run.s.ttl_ms, 20000);
        ck_assert_uint_eq(run.s.max_input, 262144);
        ck_assert_uint_eq(run.s.line_max, 65536);
        ck_assert_str_eq(run.s.embedded, "/d");
    }
    unlink(ini); /* it was named on the command line */
    buf_clear(&run.err);
    ck_assert(!settings_reload(&run.s, &run.err));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&run.err), "No such file"));
    finish(&run);
}
END_TEST

static void put_man_row(const struct setting *row, struct buf *out)
{
    buf_printf(out, ".It Ic %s No = Ar %s\n", row->name, row->value);
    for (const char *p = row->help; *p;) { /* a sentence a line, as mdoc wants it */
        const char *end = strstr(p, ". ");
        size_t n = end ? (size_t)(end - p) + 1 : strlen(p);

        buf_printf(out, "%.*s\n", (int)n, p);
        p += n + (end != NULL);
    }
    if (row->default_text && *row->default_text)
        buf_printf(out, "Default:\n.Ql %s .\n", row->default_text);
    if (row->kind == SETTING_DURATION || row->kind == SETTING_SIZE) {
        buf_puts(out, "Accepted: ");
        settings_put_range(row, out);
        buf_puts(out, ".\n");
    }
    if (row->reloadable)
        buf_puts(out, ".Em Reloadable .\n");
}

/*
 * The list in the manual page is what the table says. PGLOCKD_UPDATE_MAN=1 writes it:
 *     PGLOCKD_UPDATE_MAN=1 SRCDIR=. tests/unit/check_settings
 */
START_TEST(manual_page)
{
    static const char begin[] = ".\\\" begin of settings: generated by check_settings\n";
    static const char end[] = ".\\\" end of settings\n";
    const char *srcdir = getenv("SRCDIR");
    char path[512];
    struct buf want = {0};
    char *p, *q;
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "%s/docs/man/pglockd.ini.5", srcdir ? srcdir : ".");
    file = fopen(path, "r");
    ck_assert_msg(file, "cannot open %s: set SRCDIR to the source directory", path);
    n = fread(captured, 1, sizeof(captured) - 1, file);
    fclose(file);
    captured[n] = '\0';
    p = strstr(captured, begin);
    q = strstr(captured, end);
    ck_assert(p && q && p < q);
    p += strlen(begin);
    for (int i = SETTING_INDEX_config + 1; i < SETTINGS_COUNT; i++) /* not for use in the file */
        put_man_row(&settings_table[i], &want);
    if (getenv("PGLOCKD_UPDATE_MAN")) {
        struct buf page = {0};

        buf_put(&page, captured, (size_t)(p - captured));
        buf_put(&page, want.data, want.len);
        buf_puts(&page, q);
        write_bytes(path, buf_str(&page));
        buf_free(&page);
    } else {
        *q = '\0';
        ck_assert_msg(strcmp(p, buf_cstr(&want)) == 0,
                      "docs/man/pglockd.ini.5 is not what the table of settings says: run "
                      "PGLOCKD_UPDATE_MAN=1 SRCDIR=%s tests/unit/check_settings",
                      srcdir ? srcdir : ".");
    }
    buf_free(&want);
}
END_TEST

UNIT_MAIN_WITH("settings", set_up, tear_down, defaults, choices, from_file, precedence, which_file,
               bad_files, line_lengths, odd_files, bad_options, bad_environment, one_database,
               password_on_the_command_line, no_password_in_errors, help_and_version, show_config,
               check_config, read_dsn, read_dsn_elsewhere, exposure, peers, reload,
               reload_needs_restart, reload_of_bad_file, manual_page)
