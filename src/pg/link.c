#include "pg/link.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "pg/connect.h"
#include "pg/hosts.h"
#include "pg/sqlstate.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    HOST_TIMEOUT_MS = 4000, /* the same where there is another host to try */
    RETRY_FIRST_MS = 50,    /* wait before a new connect; doubled up to RETRY_MAX_MS */
    RETRY_MAX_MS = 1000,
};

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_SETTING_UP, LINK_UP };

struct round {
    struct list list;
    link_rows_fn *rows;
    link_end_fn *end;
    void *arg;
    int call; /* the one whose result comes next */
    bool failed;
    bool not_replicated;
    char sqlstate[6];
    char *message;
};

struct link {
    struct link_options o;
    PGconn *conn;
    enum link_state state;
    ev_io io;
    int io_events;
    ev_timer timer; /* connect timeout, or the wait before the next connect */
    int retry_ms;
    unsigned hosts;      /* that the connection string names */
    unsigned first_host; /* the one to begin with, counted around */
    bool lost_before;
    struct list rounds; /* sent */
    struct list spare;  /* struct round to use again */
    int open_rounds;
};

/* --- parameters and rows --- */

void link_params_clear(struct link_params *p)
{
    buf_clear(&p->bytes);
    p->count = 0;
}

void link_params_free(struct link_params *p)
{
    buf_free(&p->bytes);
}

void link_param_open(struct link_params *p)
{
    p->start[p->count] = p->bytes.len;
}

void link_param_close(struct link_params *p)
{
    p->length[p->count] = (int)(p->bytes.len - p->start[p->count]);
    p->count++;
}

void link_param_null(struct link_params *p)
{
    p->start[p->count] = 0;
    p->length[p->count++] = -1;
}

void link_param_int4(struct link_params *p, int32_t v)
{
    uint32_t be = htonl((uint32_t)v);
    link_param_open(p);
    buf_put(&p->bytes, &be, sizeof(be));
    link_param_close(p);
}

void link_param_int8(struct link_params *p, int64_t v)
{
    uint64_t be = htobe64((uint64_t)v);
    link_param_open(p);
    buf_put(&p->bytes, &be, sizeof(be));
    link_param_close(p);
}

void link_param_bool(struct link_params *p, bool v)
{
    link_param_open(p);
    buf_putc(&p->bytes, v ? 1 : 0);
    link_param_close(p);
}

void link_param_text(struct link_params *p, struct str s)
{
    if (s.p == NULL) {
        link_param_null(p);
        return;
    }
    link_param_open(p);
    buf_put(&p->bytes, s.p, s.n);
    link_param_close(p);
}

void link_param_text_array1(struct link_params *p, struct str s)
{
    struct array_writer w;
    link_param_open(p);
    array_begin(&w, &p->bytes, PG_TEXT);
    array_put_text(&w, s);
    array_end(&w);
    link_param_close(p);
}

void link_param_int8_array1(struct link_params *p, int64_t v)
{
    struct array_writer w;
    link_param_open(p);
    array_begin(&w, &p->bytes, PG_INT8);
    array_put_int8(&w, v);
    array_end(&w);
    link_param_close(p);
}

static const PGresult *result_of(const struct link_rows *rows)
{
    return (const PGresult *)(const void *)rows;
}

int link_rows_count(const struct link_rows *rows)
{
    return PQntuples(result_of(rows));
}

bool link_is_null(const struct link_rows *rows, int row, int column)
{
    return PQgetisnull(result_of(rows), row, column) != 0;
}

const void *link_bytes(const struct link_rows *rows, int row, int column, int *length)
{
    *length = 0;
    if (link_is_null(rows, row, column))
        return NULL;
    *length = PQgetlength(result_of(rows), row, column);
    return PQgetvalue(result_of(rows), row, column);
}

struct str link_text(const struct link_rows *rows, int row, int column)
{
    int length;
    const char *p = link_bytes(rows, row, column, &length);
    return (struct str){p, (size_t)length};
}

int64_t link_int(const struct link_rows *rows, int row, int column)
{
    int length;
    const char *p = link_bytes(rows, row, column, &length);
    if (p == NULL)
        return 0;
    if (PQfformat(result_of(rows), column) == 0)
        return *p == 't' ? 1 : strtoll(p, NULL, 10);
    uint64_t v = 0;
    for (int i = 0; i < length; i++)
        v = v << 8 | (unsigned char)p[i];
    return length == 4 ? (int32_t)v : (int64_t)v;
}

/* --- rounds --- */

static struct round *round_new(struct link *l)
{
    if (list_empty(&l->spare)) {
        struct round *r = xcalloc(1, sizeof(*r));
        list_init(&r->list);
        return r;
    }
    struct round *r = list_first(&l->spare, struct round, list);
    list_remove(&r->list);
    return r;
}

/* Reports the end of a round and keeps the struct for the next one. */
static void round_end(struct link *l, struct round *r, enum link_end end)
{
    struct link_outcome outcome = {.end = end, .message = r->message ? r->message : ""};
    memcpy(outcome.sqlstate, r->sqlstate, sizeof(outcome.sqlstate));
    list_remove(&r->list);
    l->open_rounds--;
    r->end(r->arg, &outcome);
    free(r->message);
    *r = (struct round){0};
    list_init(&r->list);
    list_append(&l->spare, &r->list);
}

static void note_error(struct link *l, struct round *r, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    metric_add1(M_POSTGRES_ERRORS, sqlstate_class(state ? state : ""), 1);
    if (r->failed)
        return; /* the first error is the cause */
    struct buf text = {0};
    pg_put_error(&text, (const struct pg_conn *)(const void *)l->conn,
                 (const struct pg_result *)(const void *)res);
    r->failed = true;
    r->message = xstrdup(buf_cstr(&text));
    buf_free(&text);
    if (state)
        memcpy(r->sqlstate, state, strnlen(state, 5));
}

/* --- the connection --- */

static void on_io(struct ev_loop *loop, ev_io *w, int revents);

static void watch(struct link *l, int events)
{
    int fd = PQsocket(l->conn);
    /* While it connects, libpq may close a socket and open the next one with the same number. */
    if (ev_is_active(&l->io) && l->io_events == events && l->io.fd == fd &&
        l->state != LINK_CONNECTING)
        return;
    ev_io_stop(l->o.loop, &l->io);
    ev_io_set(&l->io, fd, events);
    ev_io_start(l->o.loop, &l->io);
    l->io_events = events;
}

static void start_timer(struct link *l, int ms)
{
    ev_timer_stop(l->o.loop, &l->timer);
    ev_timer_set(&l->timer, ms / 1000.0, 0.);
    ev_timer_start(l->o.loop, &l->timer);
}

/* Every way to lose a connection goes through here. */
static void lose(struct link *l, const char *why)
{
    struct buf text = {0};
    bool was_up = l->state == LINK_UP;
    pg_put_one_line(&text, why);
    log_event(was_up ? LOG_WARN : LOG_DEBUG, "postgres_lost", "link=%s reason=%s retry_ms=%d",
              log_quote(str_of(l->o.label)), log_quote(buf_str(&text)), l->retry_ms);
    buf_free(&text);
    ev_io_stop(l->o.loop, &l->io);
    PQfinish(l->conn);
    l->conn = NULL;
    l->state = LINK_DOWN;
    start_timer(l, l->retry_ms);
    l->retry_ms = l->retry_ms * 2 < RETRY_MAX_MS ? l->retry_ms * 2 : RETRY_MAX_MS;
    while (!list_empty(&l->rounds))
        round_end(l, list_first(&l->rounds, struct round, list), LINK_UNKNOWN);
    if (was_up)
        l->o.down(l->o.arg);
}

static void flush(struct link *l)
{
    int left = PQflush(l->conn);
    if (left < 0 || PQstatus(l->conn) == CONNECTION_BAD) {
        /* libpq may have closed the socket: no event would come. The read side finds the cause. */
        ev_feed_event(l->o.loop, &l->io, EV_READ);
        return;
    }
    watch(l, left > 0 ? EV_READ | EV_WRITE : EV_READ);
}

static void notice(void *arg, const PGresult *res)
{
    struct link *l = arg;
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    /*
     * A cancelled wait for a synchronous standby ends as success with a warning of this state. Its
     * text is translated, so that any such warning is taken for it.
     */
    if (state && strcmp(state, "01000") == 0 && !list_empty(&l->rounds))
        list_first(&l->rounds, struct round, list)->not_replicated = true;
    log_debug("postgres_notice", "link=%s sqlstate=%s message=%s", log_quote(str_of(l->o.label)),
              state ? state : "?", log_quote(str_of(text)));
}

static void ignore_rows(void *arg, int call, const struct link_rows *rows)
{
    (void)arg, (void)call, (void)rows;
}

static void set_up_end(void *arg, const struct link_outcome *outcome)
{
    struct link *l = arg;
    if (outcome->end != LINK_COMMITTED) {
        l->first_host++;
        if (outcome->end == LINK_REFUSED && outcome->sqlstate[0] != '\0')
            log_error("postgres_session", "link=%s sqlstate=%s message=%s",
                      log_quote(str_of(l->o.label)), outcome->sqlstate,
                      log_quote(str_of(outcome->message)));
        link_reset(l, "the session could not be set up");
        return;
    }
    l->state = LINK_UP;
    l->retry_ms = RETRY_FIRST_MS;
    ev_timer_stop(l->o.loop, &l->timer);
    if (l->lost_before)
        metric_add(M_POSTGRES_RECONNECTS, 1);
    l->lost_before = true;
    log_info("postgres_up", "link=%s backend=%d", log_quote(str_of(l->o.label)),
             link_backend_pid(l));
    l->o.up(l->o.arg);
}

/* The session's process, the cluster, and the name of the WAL file, which begins with the timeline.
 */
static const char who_sql[] =
    "select pg_catalog.pg_backend_pid(), c.system_identifier,"
    " case when not pg_catalog.pg_is_in_recovery() then"
    " pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) end"
    " from pg_catalog.pg_control_system() c";

struct refusal {
    const char *event, *message;
};

/* What is wrong with the server at the other end; NULL: nothing. Notes what was seen of it. */
static const struct refusal *refusal_of(struct link *l, const struct link_rows *rows)
{
    /* One that gives each transaction another server session breaks locks and statements. */
    static const struct refusal pooler = {
        "postgres_pooler", "the session goes through a pooler; connect to PostgreSQL itself"};
    static const struct refusal standby = {
        "postgres_standby", "the server is a standby; name the primary, or several hosts with "
                            "target_session_attrs=read-write"};
    static const struct refusal old_primary = {
        "postgres_old_primary",
        "a server of a newer timeline has taken over from this one, which still serves: shut it "
        "down; if it was restored on purpose, restart pglockd"};
    struct link_seen *seen = l->o.seen;
    char hex[9] = "";
    if (link_int(rows, 0, 0) != PQbackendPID(l->conn))
        return &pooler;
    if (link_is_null(rows, 0, 2))
        return &standby;
    struct str file = link_text(rows, 0, 2);
    if (file.p) /* else the server did not say */
        memcpy(hex, file.p, file.n < 8 ? file.n : 8);
    int64_t system = link_int(rows, 0, 1);
    int32_t timeline = (int32_t)strtoul(hex, NULL, 16);
    if (system == seen->system && timeline < seen->timeline)
        return &old_primary;
    seen->system = system;
    seen->timeline = timeline;
    return NULL;
}

static void set_up_rows(void *arg, int call, const struct link_rows *rows)
{
    struct link *l = arg;
    const struct refusal *refusal = call == 0 ? refusal_of(l, rows) : NULL;
    if (refusal == NULL)
        return;
    log_error(refusal->event, "link=%s message=%s", log_quote(str_of(l->o.label)),
              log_quote(str_of(refusal->message)));
    l->retry_ms = RETRY_MAX_MS;
    list_first(&l->rounds, struct round, list)->failed = true;
}

/* One round: who the server is, the session's settings, and the prepared statements. */
static void set_up(struct link *l)
{
    char *commands = xstrdup(l->o.session);
    char *rest = commands;
    char *command;
    l->state = LINK_SETTING_UP;
    PQsetnonblocking(l->conn, 1);
    PQenterPipelineMode(l->conn);
    PQsendQueryParams(l->conn, who_sql, 0, NULL, NULL, NULL, NULL, 0);
    while ((command = strsep(&rest, ";")) != NULL) {
        if (strspn(command, " \n") == strlen(command))
            continue;
        PQsendQueryParams(l->conn, command, 0, NULL, NULL, NULL, NULL, 0);
    }
    if (l->o.history)
        PQsendQueryParams(l->conn, "select pg_catalog.set_config('pglockd.history', $1, false)", 1,
                          NULL, &l->o.history, NULL, NULL, 0);
    for (int i = 0; i < l->o.nstatements; i++)
        PQsendPrepare(l->conn, l->o.statements[i]->name, l->o.statements[i]->sql, 0, NULL);
    free(commands);
    link_send(l, set_up_rows, set_up_end, l);
}

static void connect_step(struct link *l)
{
    switch (PQconnectPoll(l->conn)) {
    case PGRES_POLLING_OK:
        set_up(l);
        break;
    case PGRES_POLLING_READING:
        watch(l, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        watch(l, EV_WRITE);
        break;
    default:
        lose(l, PQerrorMessage(l->conn));
    }
}

static void connect_start(struct link *l)
{
    /* Later words win: the conninfo overrides what stands before it, not what stands behind. */
    static const char *const words[] = {
        "application_name",
        "tcp_user_timeout",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "dbname",
        "client_encoding",
        "host",
        "hostaddr",
        "port",
        NULL,
    };
    struct hosts hosts = hosts_from(l->o.conninfo, l->first_host);
    const char *const values[] = {
        "pglockd", "10000",    "10",           "5",        "3",  l->o.conninfo,
        "UTF8",    hosts.host, hosts.hostaddr, hosts.port, NULL,
    };
    l->conn = PQconnectStartParams(words, values, 1);
    hosts_free(&hosts);
    if (l->conn == NULL)
        abort();
    l->state = LINK_CONNECTING;
    if (PQstatus(l->conn) == CONNECTION_BAD) {
        lose(l, PQerrorMessage(l->conn));
        return;
    }
    PQsetNoticeReceiver(l->conn, notice, l);
    start_timer(l, l->hosts > 1 ? HOST_TIMEOUT_MS : CONNECT_TIMEOUT_MS);
    watch(l, EV_WRITE);
}

/* --- results --- */

static void take_result(struct link *l, struct round *r, PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_TUPLES_OK:
        if (!r->failed)
            r->rows(r->arg, r->call, (const struct link_rows *)(const void *)res);
        break;
    case PGRES_COMMAND_OK:
    case PGRES_PIPELINE_ABORTED:
        break;
    case PGRES_PIPELINE_SYNC:
        round_end(l, r,
                  r->failed           ? LINK_REFUSED
                  : r->not_replicated ? LINK_UNREPLICATED
                                      : LINK_COMMITTED);
        break;
    default:
        note_error(l, r, res);
    }
}

/* Handles all results that are here. False when the connection is gone. */
static bool take_results(struct link *l)
{
    while (!list_empty(&l->rounds) && !PQisBusy(l->conn)) {
        struct round *r = list_first(&l->rounds, struct round, list);
        PGresult *res = PQgetResult(l->conn);
        if (PQstatus(l->conn) == CONNECTION_BAD) {
            PQclear(res);
            return false;
        }
        if (res == NULL) {
            r->call++; /* the end of one call's results */
            continue;
        }
        take_result(l, r, res);
        PQclear(res);
        if (l->conn == NULL)
            return true; /* a callback has reset the link */
    }
    return true;
}

static void take_notifications(struct link *l)
{
    PGnotify *n;
    while ((n = PQnotifies(l->conn)) != NULL) {
        if (l->o.notified)
            l->o.notified(l->o.arg, n->relname, n->extra);
        PQfreemem(n);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct link *l = w->data;
    (void)loop;
    if (l->state == LINK_CONNECTING) {
        connect_step(l);
        return;
    }
    if (revents & EV_READ) {
        if (!PQconsumeInput(l->conn) || !take_results(l)) {
            lose(l, PQerrorMessage(l->conn));
            return;
        }
        if (l->conn == NULL)
            return;
        take_notifications(l);
    }
    if (l->conn != NULL)
        flush(l);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct link *l = w->data;
    (void)loop, (void)revents;
    if (l->state == LINK_DOWN) {
        connect_start(l);
    } else if (l->state != LINK_UP) {
        l->first_host++; /* libpq itself never gets past a host that is silent */
        lose(l, "connecting took too long");
    }
}

/* --- the interface --- */

struct link *link_create(const struct link_options *options)
{
    struct link *l = xcalloc(1, sizeof(*l));
    l->o = *options;
    l->retry_ms = RETRY_FIRST_MS;
    l->hosts = hosts_count(options->conninfo);
    list_init(&l->rounds);
    list_init(&l->spare);
    ev_init(&l->io, on_io);
    ev_init(&l->timer, on_timer);
    l->io.data = l;
    l->timer.data = l;
    connect_start(l);
    return l;
}

static void free_rounds(struct list *rounds)
{
    list_for_each(at, rounds)
    {
        struct round *r = container_of(at, struct round, list);
        free(r->message);
        free(r);
    }
}

void link_destroy(struct link *l)
{
    if (l == NULL)
        return;
    ev_io_stop(l->o.loop, &l->io);
    ev_timer_stop(l->o.loop, &l->timer);
    PQfinish(l->conn);
    free_rounds(&l->rounds);
    free_rounds(&l->spare);
    free(l);
}

void link_reset(struct link *l, const char *why)
{
    if (l->conn != NULL)
        lose(l, why);
}

bool link_is_up(const struct link *l)
{
    return l->state == LINK_UP;
}

int link_open_rounds(const struct link *l)
{
    return l->open_rounds;
}

int link_backend_pid(const struct link *l)
{
    return l->conn ? PQbackendPID(l->conn) : 0;
}

void link_call(struct link *l, const struct link_statement *s, const struct link_params *p)
{
    const char *values[LINK_PARAMS_MAX];
    int formats[LINK_PARAMS_MAX];
    for (int i = 0; i < p->count; i++) {
        values[i] = p->length[i] < 0 ? NULL : p->bytes.data + p->start[i];
        formats[i] = 1;
    }
    PQsendQueryPrepared(l->conn, s->name, p->count, values, p->length, formats,
                        s->text_result ? 0 : 1);
}

void link_send(struct link *l, link_rows_fn *rows, link_end_fn *end, void *arg)
{
    struct round *r = round_new(l);
    r->rows = rows ? rows : ignore_rows;
    r->end = end;
    r->arg = arg;
    l->open_rounds++;
    list_append(&l->rounds, &r->list);
    /* A failure to send shows as a lost connection when the socket is read. */
    PQpipelineSync(l->conn);
    flush(l);
}
