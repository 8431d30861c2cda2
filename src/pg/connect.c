#include "pg/connect.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define CONNECT_TIMEOUT_SECONDS "10"

void pg_put_one_line(struct buf *out, const char *text)
{
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, "\r\n");
        const char *next = text + n;
        while (n > 0 && isspace((unsigned char)*text)) {
            text++;
            n--;
        }
        while (n > 0 && isspace((unsigned char)text[n - 1]))
            n--;
        if (n > 0) {
            if (!first)
                buf_puts(out, "; ");
            buf_put(out, text, n);
            first = false;
        }
        text = next + strspn(next, "\r\n");
    }
}

void pg_put_error(struct buf *out, const struct pg_conn *conn, const struct pg_result *res)
{
    static const int parts[] = {PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_MESSAGE_DETAIL,
                                PG_DIAG_MESSAGE_HINT};
    bool first = true;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const char *text = res ? PQresultErrorField(res, parts[i]) : NULL;
        if (!text || !*text)
            continue;
        if (!first)
            buf_puts(out, "; ");
        pg_put_one_line(out, text);
        first = false;
    }
    if (first)
        pg_put_one_line(out, PQerrorMessage(conn));
}

static void log_notice(void *arg, const PGresult *res)
{
    (void)arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    if (severity && strcmp(severity, "WARNING") == 0)
        log_warn("postgres_notice", "message=%s", log_quote(str_of(text)));
    else
        log_debug("postgres_notice", "message=%s", log_quote(str_of(text)));
}

/* libpq quotes what it cannot parse, and that may be a part of a password: so not its words. */
bool pg_conninfo_is_valid(const char *conninfo, struct buf *err)
{
    char *libpq_error = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &libpq_error);
    PQfreemem(libpq_error);
    if (!options) {
        buf_puts(err, "the connection string (dsn) cannot be read: write key=value words such as "
                      "\"host=db.example dbname=app\", or postgresql://user@host/dbname");
        return false;
    }
    PQconninfoFree(options);
    return true;
}

struct pg_conn *pg_connect_blocking(const char *conninfo, struct buf *err)
{
    if (!pg_conninfo_is_valid(conninfo, err))
        return NULL;

    /* What stands before dbname is a default for the conninfo; what stands after overrides it. */
    const char *timeout = getenv("PGCONNECT_TIMEOUT") ? NULL : CONNECT_TIMEOUT_SECONDS;
    const char *const keys[] = {"connect_timeout", "fallback_application_name", "dbname",
                                "client_encoding", NULL};
    const char *const values[] = {timeout, "pglockd", conninfo, "UTF8", NULL};
    PGconn *conn = PQconnectdbParams(keys, values, 1);
    if (PQstatus(conn) != CONNECTION_OK) {
        if (conn)
            pg_put_one_line(err, PQerrorMessage(conn));
        else
            buf_puts(err, "libpq is out of memory");
        PQfinish(conn);
        return NULL;
    }
    PQsetNoticeReceiver(conn, log_notice, NULL);
    return conn;
}

void pg_close(struct pg_conn *conn)
{
    PQfinish(conn);
}
