/* The schema of a database, without a daemon. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "pg/migrate.h"
#include "pglockctl/ctl.h"
#include "pglockctl/database.h"

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
    int status = database_open(&db, false, &err);
    if (status == CTL_OK && up && !migrate_up(db.conn, &err))
        status = CTL_CONFIG;
    if (status == CTL_OK)
        status = show_status(ctl, db.conn, &err);
    if (err.len > 0)
        ctl_error("%s", buf_cstr(&err));
    database_close(&db);
    buf_free(&err);
    return status;
}

const struct command command_migrate = {
    .name = "migrate",
    .synopsis = "up|status",
    .summary = "Bring the schema of a database up to date, or show it",
    .details = "\nWorks on the database itself; no daemon is needed. status exits 78 where this\n"
               "release of pglockd cannot use the schema as it is.\n",
    .options = database_options,
    .noptions = DATABASE_OPTIONS,
    .main = migrate_main,
};
