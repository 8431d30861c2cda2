#ifndef PGLOCKD_PG_LINK_H
#define PGLOCKD_PG_LINK_H

/*
 * One connection to PostgreSQL on the event loop: it connects, sets up its session, prepares its
 * statements, carries rounds of calls, and connects again when it was lost. Nothing blocks.
 *
 * A round is some calls that go out together and are one transaction (libpq's pipeline mode, with
 * one Sync at the end). Rounds are answered in their order.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum { LINK_PARAMS_MAX = 20 };

/* A statement, prepared at every connect. Parameters are binary, with the types given. */
struct link_statement {
    const char *name;
    const char *sql;
    bool text_result; /* rows come as text; else binary */
};

/* The parameters of one call, gathered in one buffer. Reused from call to call. */
struct link_params {
    struct buf bytes;
    int count;
    size_t start[LINK_PARAMS_MAX];
    int length[LINK_PARAMS_MAX]; /* -1: SQL null */
};

void link_params_clear(struct link_params *p);
void link_params_free(struct link_params *p);
/* Everything appended to p->bytes between these two is one parameter. */
void link_param_open(struct link_params *p);
void link_param_close(struct link_params *p);
void link_param_null(struct link_params *p);
void link_param_int4(struct link_params *p, int32_t v);
void link_param_int8(struct link_params *p, int64_t v);
void link_param_bool(struct link_params *p, bool v);
void link_param_text(struct link_params *p, struct str s); /* p NULL in s: SQL null */
/* An array of one text, or of one int8. */
void link_param_text_array1(struct link_params *p, struct str s);
void link_param_int8_array1(struct link_params *p, int64_t v);

/* The rows of one call; valid during the callback only. */
struct link_rows;
int link_rows_count(const struct link_rows *rows);
bool link_is_null(const struct link_rows *rows, int row, int column);
/* The bytes of a field; NULL and 0 for SQL null. */
const void *link_bytes(const struct link_rows *rows, int row, int column, int *length);
struct str link_text(const struct link_rows *rows, int row, int column);
/* From a text result (decimal, or t and f) or a binary int8, int4 or bool; null reads as 0. */
int64_t link_int(const struct link_rows *rows, int row, int column);

/* How a round ended. */
enum link_end {
    LINK_COMMITTED,    /* the commit was reported */
    LINK_REFUSED,      /* the server reported an error: nothing of the round was done */
    LINK_UNREPLICATED, /* committed here, but no standby may have it: done or not */
    LINK_UNKNOWN,      /* the connection was lost: done or not */
};

struct link_outcome {
    enum link_end end;
    char sqlstate[6];    /* of the error; "" when there is none */
    const char *message; /* the server's, in one line; valid during the callback */
};

/* Called for each call of a round that returned rows, in order. call counts from 0. */
typedef void link_rows_fn(void *arg, int call, const struct link_rows *rows);
/* Called once at the end of a round. May start new rounds; must not destroy the link. */
typedef void link_end_fn(void *arg, const struct link_outcome *outcome);

/*
 * What a daemon has seen of the servers that it came to, one for all its links. A link refuses a
 * server of an older timeline: a primary that another has taken over from. That commits were lost
 * is found out by pglockd.notice_server(), which those who decide report token and TTL to.
 */
struct link_seen {
    int64_t system;   /* system identifier of the last server; 0: none */
    int32_t timeline; /* the newest of that system */
    int64_t token;    /* the highest fencing token that was granted; 0: none */
    int64_t ttl_ms;   /* the longest TTL that was asked for; 0: none */
    int64_t grace_ms; /* likewise the longest grace */
};

struct link_options {
    struct ev_loop *loop;
    const char *conninfo;   /* lives as long as the link */
    struct link_seen *seen; /* likewise */
    const char *label;      /* for the log: "lane 0" */
    const char *session;    /* SQL commands that set up the session, parted by ';' */
    /* Its setting pglockd.history, lives as long as the link; NULL: as the database has it. */
    const char *history;
    const struct link_statement *const *statements;
    int nstatements;
    /* The connection is ready for rounds. */
    void (*up)(void *arg);
    /* It was lost, after every open round ended as LINK_UNKNOWN. */
    void (*down)(void *arg);
    /* A notification came; NULL where none is listened for. */
    void (*notified)(void *arg, const char *channel, const char *payload);
    void *arg;
};

struct link;

/* Starts to connect at once. Never NULL. */
struct link *link_create(const struct link_options *options);
/* Ends the connection; open rounds end without callback. */
void link_destroy(struct link *l);
/* Ends the connection in order to make a new one: for a session whose state is in doubt. */
void link_reset(struct link *l, const char *why);

bool link_is_up(const struct link *l);
/* Rounds sent whose end has not been reported. */
int link_open_rounds(const struct link *l);
/* The server process at the other end; 0 while not connected. */
int link_backend_pid(const struct link *l);

/*
 * Adds a call to the round that is being made; s is one of the link's statements. Then
 * link_send() ends the round and sends it. Only while link_is_up().
 */
void link_call(struct link *l, const struct link_statement *s, const struct link_params *p);
void link_send(struct link *l, link_rows_fn *rows, link_end_fn *end, void *arg);

#endif
