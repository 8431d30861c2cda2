#include "pg/query.h"

#include <libpq-fe.h>
#include <stdint.h>
#include <stdlib.h>

#include "pg/connect.h"

/* struct pg_result is libpq's PGresult under a name that needs no libpq-fe.h. */
static const PGresult *result_of(const struct pg_result *rows)
{
    return (const PGresult *)(const void *)rows;
}

struct pg_result *pg_query(struct pg_conn *conn, const char *sql, int n, const char *const *params,
                           struct buf *err)
{
    PGresult *res = PQexecParams((PGconn *)(void *)conn, sql, n, NULL, params, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        return (struct pg_result *)(void *)res;
    pg_put_error(err, conn, (const struct pg_result *)(void *)res);
    PQclear(res);
    return NULL;
}

int pg_rows(const struct pg_result *rows)
{
    return PQntuples(result_of(rows));
}

int pg_columns(const struct pg_result *rows)
{
    return PQnfields(result_of(rows));
}

int pg_changed(const struct pg_result *rows)
{
    return (int)strtol(PQcmdTuples((PGresult *)(void *)(uintptr_t)rows), NULL, 10);
}

const char *pg_value(const struct pg_result *rows, int row, int column)
{
    return PQgetisnull(result_of(rows), row, column) ? NULL
                                                     : PQgetvalue(result_of(rows), row, column);
}

void pg_rows_free(struct pg_result *rows)
{
    PQclear((PGresult *)(void *)rows);
}
