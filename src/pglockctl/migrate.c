/* The schema of a database, without a daemon. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "config/settings.h"
#include "pg/connect.h"
#include "pg/embedded.h"
#include "pg/migrate.h"
#include "pglockctl/ctl.h"

static struct {
    const char *dsn, *dsn_file, *embedded, *pg_bindir, *config;
} o;

static const struct opt options[] = {
    {.name = "dsn",
     .kind = OPT_STRING,
     .into = &o.dsn,
     .value = "CONNINFO",
     .help = "the database (passwords belong into --dsn-file)"},
    {.name = "dsn-file",
     .kind = OPT_STRING,
     .into = &o.dsn_file,
     .value = "PATH",
     .help = "a file whose first line is the connection string"},
    {.name = "embedded",
     .kind = OPT_STRING,
     .into = &o.embedded,
     .value = "DIR",
     .help = "the private cluster of pglockd --embedded DIR, not running"},
    {.name = "pg-bindir",
     .kind = OPT_STRING,
     .into = &o.pg_bindir,
     .value = "DIR",
     .help = "where postgres is, for --embedded"},
    {.name = "config",
     .kind = OPT_STRING,
     .into = &o.config,
     .value = "PATH",
     .help = "pglockd's configuration, used where none of these is given"},
};

/* An open database; embedded is NULL for a server that exists. */
struct database {
    struct pg_conn *conn;
    struct embedded *embedded;
};

/* The daemon's own reading of its settings, with our options as its command line. */
static bool load_settings(struct settings *s, struct buf *err)
{
    const struct {
        const char *name, *value;
    } given[] = {
        {"--dsn", o.dsn},           {"--dsn_file", o.dsn_file},
        {"--embedded", o.embedded}, {"--pg_bindir", o.pg_bindir},
        {"--config", o.config},
    };
    char *argv[2 * 5 + 2] = {(char *)"pglockctl"};
    int argc = 1;

    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++)
        if (given[i].value) {
            argv[argc++] = (char *)given[i].name;
            argv[argc++] = (char *)given[i].value;
        }
    return settings_load(s, argc, argv, err) == SETTINGS_RUN;
}

static int open_database(struct database *db, struct buf *err)
{
    struct settings s;
    struct buf conninfo = {0};
    int status = CTL_CONFIG;

    *db = (struct database){0};
    if (load_settings(&s, err)) {
        bool ready = s.embedded
                         ? embedded_start(s.embedded, s.pg_bindir, &db->embedded, &conninfo, err)
                         : settings_read_dsn(&s, &conninfo, err);
        if (ready) {
            db->conn = pg_connect_blocking(buf_cstr(&conninfo), err);
            status = db->conn ? CTL_OK : CTL_UNREACHABLE;
        }
    }
    settings_free(&s);
    buf_free(&conninfo);
    return status;
}

static void close_database(struct database *db)
{
    pg_close(db->conn);
    embedded_stop(db->embedded);
}

static void print_status_json(const struct migrate_status *s)
{
    struct buf out = {0};
    struct json j = json_to(&out);

    json_begin_object(&j);
    json_put_int(&j, "version", s->version);
    json_put_int(&j, "min_program", s->min_program);
    json_put_int(&j, "program_version", s->program_version);
    json_key(&j, "pending");
    json_begin_array(&j);
    for (size_t i = 0; i < s->n_pending; i++)
        json_string(&j, str_of(s->pending[i].name));
    json_end_array(&j);
    json_put_bool(&j, "functions_current", s->functions_current);
    json_end_object(&j);
    puts(buf_cstr(&out));
    buf_free(&out);
}

static void print_status(const struct migrate_status *s)
{
    printf("schema version %d, this program's %d\n", s->version, s->program_version);
    for (size_t i = 0; i < s->n_pending; i++)
        printf("pending: %s\n", s->pending[i].name);
    if (s->n_pending == 0 && !s->functions_current)
        puts("pending: the functions of this release");
}

static int show_status(const struct ctl *ctl, struct pg_conn *conn, struct buf *err)
{
    struct migrate_status s;

    if (!migrate_status(conn, &s, err))
        return CTL_CONFIG;
    if (ctl->json)
        print_status_json(&s);
    else
        print_status(&s);
    return migrate_check(conn, err) == MIGRATE_OK ? CTL_OK : CTL_CONFIG;
}

static int migrate_main(struct ctl *ctl, const struct opt_words *words)
{
    bool up = words->nwords == 1 && strcmp(words->words[0], "up") == 0;
    struct database db;
    struct buf err = {0};

    if (words->dashes || words->nwords != 1 || (!up && strcmp(words->words[0], "status") != 0))
        return ctl_usage_error("migrate takes up or status");
    /* The cluster's start and stop are no news here. */
    log_set_level(LOG_WARN);
    int status = open_database(&db, &err);
    if (status == CTL_OK && up && !migrate_up(db.conn, &err))
        status = CTL_CONFIG;
    if (status == CTL_OK)
        status = show_status(ctl, db.conn, &err);
    if (err.len > 0)
        ctl_error("%s", buf_cstr(&err));
    close_database(&db);
    buf_free(&err);
    return status;
}

const struct command command_migrate = {
    .name = "migrate",
    .synopsis = "up|status",
    .summary = "Bring the schema of a database up to date, or show it",
    .details = "\nWorks on the database itself; no daemon is needed. status exits 78 where this\n"
               "release of pglockd cannot use the schema as it is.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .main = migrate_main,
};
