#ifndef PGLOCKD_PG_QUERY_H
#define PGLOCKD_PG_QUERY_H

/* One query at a time on a blocking connection, for the command line. Everything is text. */

#include "base/buf.h"

struct pg_conn;
struct pg_result;

/*
 * Runs one query with text parameters (NULL: SQL null) and returns its rows, none for a command.
 * NULL on failure, with the server's sentence in err. Free with pg_rows_free().
 */
struct pg_result *pg_query(struct pg_conn *conn, const char *sql, int n, const char *const *params,
                           struct buf *err);
int pg_rows(const struct pg_result *rows);
int pg_columns(const struct pg_result *rows);
/* How many rows a command changed. */
int pg_changed(const struct pg_result *rows);
/* NULL for SQL null; lives as long as the rows. */
const char *pg_value(const struct pg_result *rows, int row, int column);
void pg_rows_free(struct pg_result *rows);

#endif
