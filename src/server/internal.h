#ifndef PGLOCKD_SERVER_INTERNAL_H
#define PGLOCKD_SERVER_INTERNAL_H

/* What the files of the line protocol share; nobody else includes it. */

#include <sys/socket.h>
#include <sys/types.h>

#include "base/json.h"
#include "base/list.h"
#include "base/tally.h"
#include "pg/reader.h"
#include "server/server.h"
#include "server/tls.h"
#include "service/call.h"
#include "service/identities.h"
#include "service/rate.h"
#include "service/service.h"
#include "service/watch.h"
#include "wire/line.h"

enum {
    READ_BYTES = 65536, /* read from one connection in one turn */
    LINES_A_TURN = 128, /* requests taken from one connection in one turn */
    NAME_MAX_BYTES = 256,
    KEY_MAX_BYTES = 256, /* of a credential */
};

/* Why a connection ends: code of its BYE and label of a metric. */
#define CLOSE_REASONS(X)                                                                           \
    X(QUIT, "quit", "goodbye")                                                                     \
    X(EOF, "end_of_input", "everything that was asked is answered")                                \
    X(RESET, "reset", "the connection was reset")                                                  \
    X(SLOW_READER, "slow_reader", "too many replies were left unread")                             \
    X(HTTP, "http", "this is not an HTTP server")                                                  \
    X(TLS, "tls_failed", "the TLS handshake failed")                                               \
    X(AUTH_TIMEOUT, "auth_timeout", "the client took too long to show who it is")                  \
    X(IDLE, "idle_timeout", "nothing came for too long: send PING to keep a connection")           \
    X(DRAIN, "shutting_down", "the daemon is stopping")                                            \
    X(KEY_REFUSED, "key_refused", "too many keys were refused on this connection")                 \
    X(SECRET_REFUSED, "secret_refused", "too many secrets were refused on this connection")        \
    X(REVOKED, "revoked", "the key or the name of this connection is not valid any more")          \
    X(TOO_MANY, "too_many_connections", "no more connections are accepted, try again later")       \
    X(IO, "io_error", "the connection failed")

enum close_reason {
#define X(id, ...) CLOSE_##id,
    CLOSE_REASONS(X)
#undef X
        CLOSE_REASON_COUNT
};

/* How many slow requests were logged in this second, and how many were not. */
struct slow_log {
    int64_t second;
    unsigned logged;
    unsigned left_out;
};

/* What shows who a connection is. A new source is a row here, and a call of conn_identify(). */
#define AUTH_SOURCES(X)                                                                            \
    X(KEY, "key")                                                                                  \
    X(PEER, "peer")                                                                                \
    X(CERTIFICATE, "certificate")

enum auth_source {
#define X(id, name) AUTH_##id,
    AUTH_SOURCES(X)
#undef X
        AUTH_SOURCE_COUNT
};

/* A user of this machine who has a name. */
struct peer_name {
    uid_t uid;
    const char *name; /* a slice of the setting */
};

/* Wrong keys over HTTP of the addresses of one slot. */
enum { HTTP_FAILURE_SLOTS = 256 };
struct http_failures {
    int64_t since_us;
    unsigned count;
};

struct server {
    struct server_options o;
    struct listener *listeners;
    size_t nlisteners;
    size_t connections;
    struct list conns;
    struct list dirty; /* connections with output to send before the loop sleeps */
    struct list more;  /* connections with lines to be taken in the next turn */
    ev_timer next_turn;
    struct list closed;  /* to be freed at the end of the turn */
    ev_idle end_of_turn; /* never started: fed when a connection is dirty or closed */
    uint64_t next_conn_id;
    int64_t started_us;
    struct slow_log slow_log;
    struct identities *identities; /* NULL where auth is off */
    bool auth_waits;               /* no lines are taken until rights are confirmed */
    struct list slowed;            /* requests whose refused key or secret is answered later */
    ev_timer slowed_timer;
    struct slow_log refused_log;
    struct http_failures http_failures[HTTP_FAILURE_SLOTS];
    struct peer_name *peers;
    size_t npeers;
    struct list arriving; /* connections that are not in yet, the oldest first; arrival.c */
    ev_timer arriving_late;
    ev_timer idle_look;
    unsigned handshake_turn; /* of the loop, in which handshakes took so long: */
    int64_t handshake_us;
    struct tally *addresses; /* connections by address */
    struct tally *names;     /* connections by name */
    bool draining;
    struct slab *requests;
    char *scratch; /* READ_BYTES, shared by all reads */
};

struct conn {
    struct list at;
    struct list dirty;
    struct list more;
    struct server *server;
    uint64_t id;
    ev_io io;
    int events;
    struct tls_session *tls; /* NULL: none */
    bool shaking;            /* its handshake is not over */
    struct list arriving;
    int64_t accepted_us;
    bool heard;                   /* since the last look for idle ones */
    int64_t quiet_since_us;       /* as of that look */
    struct tally_entry *from;     /* its address; NULL: a Unix socket */
    struct tally_entry *known_as; /* its name, where max_request_rate_per_name counts by it */
    int64_t tat_us;               /* of its own rate of requests: base/pace.h */
    struct buf in;                /* read, not taken yet */
    struct buf out;               /* to be sent */
    size_t sent;                  /* bytes of out that are sent */
    size_t unsent;                /* bytes of out that count in the metric */
    struct list requests;         /* struct request, in the order they came */
    size_t inflight;
    size_t readers; /* untagged requests that read and are not answered */
    bool skipping;  /* the rest of a line that was too long */
    bool seen_line; /* the first line has come */
    bool eof;       /* the client will send no more */
    bool quitting;  /* QUIT has come: what is sent behind it is not read */
    bool closing;   /* closed when all is sent */
    bool is_closed;
    bool more_lines; /* whole lines are left in in, to be taken in the next turn */
    bool paused;     /* lines may be left in in, but too many requests are in flight */
    enum close_reason reason;
    struct buf name;           /* of HELLO */
    struct listener *listener; /* of HELLO events=on */
    bool tcp;                  /* else over a Unix socket, by user uid */
    uid_t uid;
    struct identity *identity; /* who it is; NULL: nobody has shown that yet */
    struct api_key *key;       /* by which it was shown; NULL: by other means */
    enum auth_source source;   /* by what it was shown */
    bool settled;              /* something was asked for under that name */
    unsigned refused;          /* keys and secrets */
    unsigned doubted;          /* requests that are being refused, or whose secret is looked at */
    struct buf sessions;       /* int64_t: those that it opened or resumed */
    struct buf bound;          /* leases that end with it; bound.c */
    struct list watches;       /* watch_verbs.c */
    bool gap;                  /* events were left out: to be told when there is room */
};

/* The statuses of the protocol. */
#define STATUSES(X)                                                                                \
    X(OK)                                                                                          \
    X(BUSY)                                                                                        \
    X(TIMEOUT)                                                                                     \
    X(LIMITED)                                                                                     \
    X(LOST)                                                                                        \
    X(DEADLOCK)                                                                                    \
    X(DENIED)                                                                                      \
    X(ERR)

enum status {
#define X(id) STATUS_##id,
    STATUSES(X)
#undef X
        STATUS_COUNT
};

struct verb;

/*
 * A request from its line to its reply. It lives until it is answered, and where the service or the
 * reader still has a part of it, until that comes back: conn is NULL when the client is gone.
 */
struct request {
    struct list at; /* in conn->requests */
    struct conn *conn;
    struct list slowed; /* in server->slowed */
    int64_t slowed_until_us;
    enum close_reason slowed_as; /* what the connection is closed as, if it was one too many */
    void (*refuse)(struct request *r); /* when it has been slowed */
    bool doubted;                      /* as conn->doubted counts them */
    const struct verb *verb;
    int64_t received_us;
    struct call *call;                  /* while it is with the service */
    struct rate_call *rate_call;        /* while it asks for permits */
    int64_t session;                    /* that it is about; 0: none */
    bool shows_secret;                  /* of that session */
    void (*allowed)(struct request *r); /* when the secret is right */
    bool permit_taken;                  /* by a LOCK that pays where it is granted */
    void (*start)(struct request *r);   /* to be called when its turn comes; NULL: started */
    bool answered;
    bool asking;      /* ask is with the reader */
    bool in_turn;     /* it reads: later requests wait for it, and it for earlier ones */
    struct buf reply; /* of an untagged request that others come before */
    struct ask ask;
    /* What replies to refusals are made of; gathered from the reader. */
    enum status refusal;
    const char *code;
    struct str resource; /* in text */
    int64_t token;
    int64_t queued_us; /* of its time, what it stood in a queue or behind others of its client */
    struct buf slow;   /* the resource, when it has been slow */
    struct buf text;
    struct buf rows; /* JSON gathered from the reader */
    struct buf more_rows;
    int64_t total;
    int64_t waiting;
    struct str first_owner, first_note; /* in text2 */
    struct buf text2;
    int64_t first_held_ms;
    int64_t limit;
    int64_t waited_ms;
    bool repeated;
    struct lock_grant *grant; /* of a LOCK in a session, until its time is known */
    enum op_kind id_kind;     /* UNLOCK and RENEW by id */
    int outcome;              /* enum outcome: the worst of them */
    size_t rows_at;           /* how far they have come in rows */
    size_t limited;           /* members whose limits have been asked */
    bool right_lost;          /* while it waited: it is being cancelled for that */
    bool held;                /* the lease that it is to end was one of its connection */
    bool hidden;              /* who holds may not be shown */
    char tag[WIRE_TAG_MAX + 1];
};

/* server.c */
void server_end_of_turn(struct server *s); /* has the dirty flushed and the closed freed */

/* Has conn_take_more() called in the next turn: others are served first. */
void server_next_turn(struct server *s, struct conn *c);

/* connection.c */
void conn_take_more(struct conn *c);
void conn_mark_dirty(struct conn *c); /* it has something to send, or to look at */
/* from: counted already, and counted off when it ends. */
void conn_accept(struct server *s, int fd, bool tls, struct tally_entry *from);
/* The handshake is over: lines may come. */
void conn_begin(struct conn *c);
void conn_close(struct conn *c, enum close_reason reason);
/* Sends what is there, then BYE, then closes. */
void conn_end(struct conn *c, enum close_reason reason);
/*
 * The same for who may not be here any more: nothing is done, waited for or told from now on,
 * however slowly the client reads. What is bound to the connection stands until its TTL.
 */
void conn_revoke(struct conn *c);
void conn_drain(struct conn *c);
void conn_flush(struct conn *c);
void conn_free(struct conn *c);

/* arrival.c: the time that a client has to come in, and how long it may be silent */
void arrival_start(struct server *s);
void arrival_stop(struct server *s);
/* Where something is to come before it is in, its time runs from now on. */
void conn_await(struct conn *c);
/* That has come, or a part of it. */
void conn_may_have_arrived(struct conn *c);
/* Settings have changed. */
void arrival_reload(struct server *s);

/* handshake.c */
/* Begins the handshake of a connection that has just been accepted. */
void handshake_start(struct conn *c);
void handshake_register_metrics(void);

/* request.c */
struct request *request_new(struct conn *c, struct str tag);
/* Starts the reply: the JSON object is open, and request_end() closes it and sends the line. */
struct json request_begin(struct request *r, enum status status);
void request_end(struct request *r, enum status status, struct json *j);
/* A reply of code and message alone. */
void request_fail(struct request *r, enum status status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
struct request *request_by_tag(struct conn *c, struct str tag);
/* The client is gone. */
void request_orphan(struct request *r);
/* The client will send no more. */
void request_end_input(struct request *r);
/*
 * Starts the work on a request, at once or when its turn comes, so that a connection's own requests
 * take effect in their order. Requests to the lanes keep it among themselves; one that reads
 * elsewhere (in_turn) waits for all untagged ones before it, and they for it. Tagged ones never
 * wait.
 */
void request_start(struct request *r, bool in_turn, void (*start)(struct request *r));
/* Frees it when nobody has a part of it any more. */
void request_release(struct request *r);

/*
 * auth.c: who a connection is, and what it may do. Where auth is off everything is allowed but
 * FORCE over TCP, and nothing of this costs more than a look at server.identities.
 */

/*
 * The one way to a name: source has shown that the connection is who, by this key where it was one.
 * False: it is somebody else already.
 */
bool conn_identify(struct conn *c, enum auth_source source, struct identity *who,
                   struct api_key *key);
/* The user at the other end of a Unix socket, where that user has a name. */
void conn_identify_peer(struct conn *c);
/* The same of the name in its certificate, when its handshake is over. */
void conn_identify_certificate(struct conn *c);
void conn_forget_identity(struct conn *c);
struct str conn_identity(const struct conn *c); /* n 0: nobody's */

/* May it? Tells nobody. */
bool conn_may(const struct conn *c, enum right right, struct str name, bool tree);
bool conn_may_some(const struct conn *c, enum right right);
/* These answer the request where not: is it known whose it is, where auth is on? */
bool request_is_named(struct request *r);
/* May it do what its verb does anywhere? To be asked before all else. */
bool request_may_begin(struct request *r);
/* May it do that to this name, and with tree to all beneath it? */
bool request_may(struct request *r, struct str name, bool tree);
/* Answers a LOCK that was cancelled because its right was taken away. */
void request_deny_lost_right(struct request *r);

/*
 * key=K of HELLO: true, and the connection is identified; or the request is answered, now or when
 * the client has waited for it. Wipes the key.
 */
bool auth_by_key(struct request *r, struct str key);
/* No line is to be taken from the connection now. */
bool auth_holds(const struct conn *c);
/* Looks whether lines may be taken: before a connection takes some. */
void auth_look(struct server *s);
void auth_start(struct server *s);
void auth_stop(struct server *s);
void auth_reload(struct server *s);
/*
 * A secret of the request is being looked at: no line is taken from its connection until it is
 * known what came of it.
 */
void auth_doubt(struct request *r);
/* It was right, or nobody could tell; or the client is gone. */
void auth_clear(struct request *r);
/* It was wrong: counts that, and has refuse(r) answer when the client has waited for it. */
void auth_refuse_secret(struct request *r, void (*refuse)(struct request *r));
void auth_register_metrics(void);
void auth_count_key(bool accepted); /* that was shown elsewhere */

/* auth_http.c */
enum { KEY_HEADER_MAX = 1024 };
/* Appends the key of an Authorization header; nothing where it has none. */
void auth_http_put_key(struct str header, struct buf *out);

/* slow_log.c: see the setting slow_request */
/* False: enough lines of that kind were logged in this second. */
bool slow_log_may(struct slow_log *log, const char *left_out_event);
/* The answer of the service is here: keeps the resource if the request has been slow so far. */
void slow_log_look(struct request *r, struct str resource);
/* The request is answered after so long. */
void slow_log_end(struct request *r, const char *status, int64_t took_us);

/* verbs.c */
void verbs_dispatch(struct conn *c, const struct wire_request *w);
void verbs_bad_line(struct conn *c, struct str tag, const char *code, const char *message);
void verbs_register_metrics(void);
int verb_index(const struct verb *v);
const char *verb_name(const struct verb *v);
const char *verb_usage(const struct verb *v);

/*
 * What a client must have to use a verb: an enum right (for a resource that the request names,
 * arg_resource() looks), or less. A verb that says nothing is for administrators.
 */
enum less_than_right { NEEDS_NAME = RIGHT_COUNT, NEEDS_NOTHING };
int verb_needs(const struct verb *v);

/* lock_verbs.c: LOCK, UNLOCK, RENEW, CANCEL */
struct lock_grant {
    struct str resource; /* the first */
    int64_t token;
    int64_t ttl_ms;
    int64_t waited_ms;
    bool repeated;
    int32_t slots; /* of the semaphore; 0: it is none */
    int32_t weight;
    int64_t session; /* 0: none */
};
/* The elements of "locks" stand in r->rows. */
void reply_locked(struct request *r, const struct lock_grant *g);
void verb_lock(struct request *r, const struct wire_request *w);
void verb_cancel(struct request *r, const struct wire_request *w);
/* The field "ttl_ms": null where there is none. */
void lease_put_ttl(struct json *j, int64_t ttl_ms);
/* What is said of an outcome that needs no look at the database. */
void lock_refuse(struct request *r, enum outcome outcome);
/* Makes r's call; it is the request's until it is answered. */
struct call *lock_make_call(struct request *r, enum op_kind kind, struct call_texts *texts,
                            void (*answered)(struct call *call));
/* The request takes its answer; the call ends with the callback that calls this. */
struct request *lock_take_call(struct call *call);

/* lock_args.c */
struct lock_args {
    struct op_member members[WIRE_ARGS_MAX];
    size_t nmembers; /* at least 1 */
    int32_t slots;   /* limit=; 0: no semaphore */
    int32_t weight;
    int64_t token; /* of the lease whose mode is to change; 0: none */
    int64_t ttl_ms;
    int64_t wait_ms;
    int64_t grace_ms;
    int64_t session; /* 0: none */
    bool bound;
    struct str secret;
    struct str owner; /* p NULL: not given, as note and id */
    struct str note;
    struct str id;
};
/* False: the request is answered with what is wrong. The texts are those of the line. */
bool lock_args_take(struct request *r, const struct wire_request *w, struct lock_args *a);

/* lease_verbs.c: UNLOCK, RENEW, TRANSFER */
void verb_unlock(struct request *r, const struct wire_request *w);
void verb_renew(struct request *r, const struct wire_request *w);
void verb_transfer(struct request *r, const struct wire_request *w);

/* bound.c */
void conn_bind(struct conn *c, struct str resource, int64_t token);
void conn_unbind(struct conn *c, struct str resource, int64_t token);
/* The client has closed the connection: ends what is bound to it. */
void conn_release_bound(struct conn *c);

/* lock_limits.c: the rate limits of LOCK */
/* Starts r->call when its policies allow it; else it is answered LIMITED. */
void lock_limits_start(struct request *r);
/* The call has ended: gives back what was paid for nothing. */
void lock_limits_end(struct request *r, const struct call *call);
/* The client is gone; before its call is abandoned. */
void lock_limits_orphan(struct request *r);

/* rate_verbs.c: RATE, and how a limit is said */
void verb_rate(struct request *r, const struct wire_request *w);
/* The fields of LIMITED; what is over its limit, in words. */
void rate_put_limited(struct json *j, const char *what, const struct rate_answer *a);
/* Answers where there is neither allowed nor denied. */
void rate_refuse(struct request *r, const struct rate_answer *a);

/* query_verbs.c: CHECK, INFO, LIST, and what BUSY, TIMEOUT and LOST say beside their name */
void verb_check(struct request *r, const struct wire_request *w);
void verb_info(struct request *r, const struct wire_request *w);
void verb_list(struct request *r, const struct wire_request *w);
/* Who is in the way of what op asks for. */
void query_refusal(struct request *r, enum status status, const char *code, const struct op *op);
/* DEADLOCK, with the cycle that waiting would have closed. */
void query_deadlock(struct request *r, const struct op *op);
/* Asks r->ask of the reader, or of the connection that writes. */
void query_ask(struct request *r);
void query_ask_writer(struct request *r);
void query_lost(struct request *r, struct str resource, int64_t token);
/* The same of r->token, for a request whose text is the resource. */
void query_lost_again(struct request *r);
/* Answers a LOCK that was granted in a session: OK with what is left of the session's TTL. */
void query_locked(struct request *r, const struct lock_grant *g);
/* The answer to r->ask is here: NULL when the client is gone. */
struct request *query_take_ask(struct ask *a);

/* session_verbs.c: SESSION, and which sessions a connection may use without their secret */
void verb_session(struct request *r, const struct wire_request *w);
bool conn_has_session(const struct conn *c, int64_t session);
enum { SECRET_BYTES_MAX = 64 };
/* Calls allowed when the secret in r->text is the session's; else r is answered, and its call ends.
 */
void session_check(struct request *r, int64_t session, void (*allowed)(struct request *r));
/* LOST; reason p NULL and lost_ms negative: not known. */
void session_lost(struct request *r, int64_t session, struct str reason, int64_t lost_ms);
/* The field "session". */
void session_put(struct json *j, int64_t session);

/* force_verb.c */
void verb_force(struct request *r, const struct wire_request *w);

/* args.c: arguments; each answers the request with an error and returns false when it is wrong */
/* A resource that the client may do to what the verb does; scope=tree counts. */
bool arg_resource(struct request *r, const struct wire_request *w, size_t i, struct str *out);
/* tree: / is one, too. */
bool arg_is_resource(struct request *r, struct str s, bool tree);
/* The number of a session. */
bool arg_session(struct request *r, struct str s, int64_t *out);
bool arg_token(struct request *r, const struct wire_request *w, int64_t *out);
bool arg_duration(struct request *r, const struct wire_request *w, const char *key, bool allow_inf,
                  int64_t standard, int64_t *out);
bool arg_text(struct request *r, const struct wire_request *w, const char *key, size_t min,
              size_t max, struct str *out);
bool arg_number(struct request *r, const struct wire_request *w, const char *key, int64_t min,
                int64_t max, int64_t standard, int64_t *out);
/* ttl= within its bounds, or standard. */
bool arg_ttl(struct request *r, const struct wire_request *w, int64_t standard, int64_t *out);
/* One of two words; first is the one that is meant when the key is missing. */
bool arg_choice(struct request *r, const struct wire_request *w, const char *key, const char *first,
                const char *second, bool *is_first);

/* watch_verbs.c: WATCH, UNWATCH */
void verb_watch(struct request *r, const struct wire_request *w);
void verb_unwatch(struct request *r, const struct wire_request *w);
/* The client has read what was sent. */
void conn_watches_go_on(struct conn *c);
void conn_watches_end(struct conn *c);

/* events.c: event lines */
void conn_listen(struct conn *c, bool on);
void events_register_metrics(void);
/* What a request of this connection has brought about, for the events of what it holds. */
void conn_holds(struct conn *c, struct str resource, int64_t token, int64_t ttl_ms,
                int64_t session);
/* False: it did not hold it, as far as that is followed. */
bool conn_holds_not(struct conn *c, struct str resource, int64_t token);
/* It is asking for another mode, or has been answered. */
void conn_changes_mode(struct conn *c, struct str resource, int64_t token, bool changing);
/* It is closing the session, or has tried in vain. */
void conn_ends_session(struct conn *c, int64_t session, bool ending);
/* What happened beneath a prefix that it watches. False: there is no room for it now. */
bool conn_tell_event(struct conn *c, struct str prefix, const struct watch_event *e);
/* Events of the prefix are missing before the number; why. */
void conn_tell_watch_gap(struct conn *c, struct str prefix, int64_t seq, struct str code);
/* The output is sent: says that events were left out, if some were. */
void conn_tell_gap(struct conn *c);

/* request_rate.c */
/* False: too many came before it, and it is answered. */
bool request_rate_allows(struct request *r, bool frees_or_keeps);
/* It is somebody else from now on. */
void request_rate_forget_name(struct conn *c);

/* stats.c */
void verb_stats(struct request *r, const struct wire_request *w);

/* status_verb.c */
void verb_status(struct request *r, const struct wire_request *w);

/* listener.c */
bool listeners_open(struct server *s, const char *extra_unix, struct buf *err);
void listeners_close(struct server *s);
const char *listeners_address(const struct server *s);

#endif
