#ifndef PGLOCKD_PG_CONNECT_H
#define PGLOCKD_PG_CONNECT_H

/*
 * Blocking connections for what happens before the event loop runs or outside it: start-up checks,
 * migrations, the command line. The lanes of the daemon connect without blocking, elsewhere.
 */

#include <stdbool.h>

#include "base/buf.h"

struct pg_conn;   /* libpq's PGconn, for those who do not include libpq-fe.h */
struct pg_result; /* libpq's PGresult */

/* Can libpq read it? If not, appends one sentence to err, without a part of the conninfo. */
bool pg_conninfo_is_valid(const char *conninfo, struct buf *err);

/*
 * Connects with a conninfo string or URI. What it does not say is filled in: application_name
 * pglockd, connect_timeout 10 s; the client encoding is always UTF-8. Returns NULL and appends one
 * sentence to err on failure; err never holds the conninfo or a part of it. The server's notices on
 * this connection are logged. Close with pg_close().
 */
struct pg_conn *pg_connect_blocking(const char *conninfo, struct buf *err);
/* NULL is fine. */
void pg_close(struct pg_conn *conn);

/* Appends text in one line: line breaks become "; ", blanks around them go. */
void pg_put_one_line(struct buf *out, const char *text);
/*
 * Appends the server's error in one line: message, detail and hint; libpq's own message where the
 * server sent none (the connection broke). res may be NULL.
 */
void pg_put_error(struct buf *out, const struct pg_conn *conn, const struct pg_result *res);

#endif
