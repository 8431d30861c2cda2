#include "pglockctl/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "config/settings.h"
#include "pg/connect.h"
#include "pg/embedded.h"
#include "pg/query.h"
#include "pglockctl/ctl.h"
#include "pglockctl/text.h"

static struct {
    const char *dsn, *dsn_file, *embedded, *pg_bindir, *config;
} o;

const struct opt database_options[DATABASE_OPTIONS] = {
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
     .help = "the private cluster of pglockd --embedded DIR"},
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

/* The cluster of an embedded daemon that runs: its socket is there. NULL where none does. */
static struct pg_conn *connect_running(const char *dir)
{
    struct buf conninfo = {0}, ignored = {0};
    struct stat st;
    struct pg_conn *conn = NULL;

    buf_printf(&conninfo, "%s/run/.s.PGSQL.5432", dir);
    if (stat(buf_cstr(&conninfo), &st) == 0) {
        char *full = realpath(dir, NULL);
        buf_clear(&conninfo);
        buf_printf(&conninfo, "host='%s/run' dbname=pglockd user=pglockd", full ? full : dir);
        conn = pg_connect_blocking(buf_cstr(&conninfo), &ignored);
        free(full);
    }
    buf_free(&conninfo);
    buf_free(&ignored);
    return conn;
}

int database_open(struct database *db, bool beside_daemon, struct buf *err)
{
    struct settings s;
    struct buf conninfo = {0};
    int status = CTL_CONFIG;

    *db = (struct database){0};
    bool loaded = load_settings(&s, err);
    if (loaded && s.embedded && beside_daemon && (db->conn = connect_running(s.embedded)) != NULL) {
        status = CTL_OK;
    } else if (loaded) {
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

void database_close(struct database *db)
{
    pg_close(db->conn);
    embedded_stop(db->embedded);
}

int database_print(const struct ctl *ctl, struct pg_result *rows, const char *const *heads,
                   size_t nheads)
{
    struct table t = {.ncols = nheads};
    struct buf out = {0};

    if (rows == NULL)
        return CTL_UNREACHABLE;
    if (ctl->json) {
        buf_printf(&out, "%s\n", pg_value(rows, 0, 0));
    } else {
        for (size_t i = 0; i < nheads; i++)
            table_add(&t, heads[i]);
        for (int r = 0; r < pg_rows(rows); r++)
            for (int c = 0; c < pg_columns(rows); c++)
                table_add(&t, pg_value(rows, r, c));
        table_put(&t, "", &out);
    }
    fputs(buf_cstr(&out), stdout);
    table_free(&t);
    buf_free(&out);
    pg_rows_free(rows);
    return CTL_OK;
}
