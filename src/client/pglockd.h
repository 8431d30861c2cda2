#ifndef PGLOCKD_H
#define PGLOCKD_H

/*
 * libpglockd: a client of pglockd, the lock service on PostgreSQL.
 *
 * Handles are opaque and every object is released with its own _free function. Strings are UTF-8
 * and NUL-terminated. The library never aborts, exits, writes to a standard stream, raises SIGPIPE
 * or changes a signal's disposition. Every call that uses the network ends within the timeouts of
 * its handle, names that must be resolved included.
 *
 * Threads: a pglockd handle and the objects made with it belong to one thread at a time; different
 * handles are independent. The exceptions are pglockd_lease_deadline_us(), pglockd_lease_is_lost()
 * and pglockd_now_us(), which any thread may call at any time. pglockd_keep() starts two threads
 * for the handle; they hold their own connection, block all signals, and end in pglockd_free().
 *
 * Fork: descriptors are close-on-exec. In a forked child a handle of the parent may only be freed,
 * which closes the child's copies and leaves the parent's connection as it is; every other call on
 * it fails with PGLOCKD_INVALID. A child that needs the service makes its own handle, and
 * pglockd_lease_adopt() there if it takes a lease over.
 *
 * Time: deadlines are microseconds of pglockd_now_us(), which never steps back and counts the time
 * that the machine was suspended. Every _ms is a duration in milliseconds.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pglockd pglockd;
typedef struct pglockd_request pglockd_request;
typedef struct pglockd_reply pglockd_reply;
typedef struct pglockd_lease pglockd_lease;

typedef enum pglockd_status {
    /* what the daemon answered */
    PGLOCKD_OK = 0,
    PGLOCKD_BUSY = 1,     /* held by others, and no wait was asked for */
    PGLOCKD_TIMEOUT = 2,  /* the wait ran out */
    PGLOCKD_LIMITED = 3,  /* rate limited */
    PGLOCKD_LOST = 4,     /* that token no longer holds */
    PGLOCKD_DEADLOCK = 5, /* waiting was refused to break a cycle */
    PGLOCKD_DENIED = 6,   /* not allowed */
    PGLOCKD_ERR = 7,      /* see pglockd_error_code() */
    /* what happened on this side */
    PGLOCKD_UNREACHABLE = 16, /* no daemon could be reached: the request was surely not done */
    PGLOCKD_UNKNOWN = 17,     /* it was sent and no reply came: it may have been done */
    PGLOCKD_PROTOCOL = 18,    /* the other side does not speak the protocol */
    PGLOCKD_INVALID = 19,     /* a bad argument or a handle of another process; nothing was sent */
    PGLOCKD_NOMEM = 20
} pglockd_status;

/* "OK", "BUSY" … as on the wire, "UNREACHABLE" … for the others; never NULL. */
const char *pglockd_status_name(pglockd_status status);

/* The library's version, as "1.2.3". */
const char *pglockd_version(void);

int64_t pglockd_now_us(void);

/* ---- connection ---- */

/*
 * addresses: "tcp://HOST:PORT", "tls://HOST:PORT", "unix:PATH" or "HOST:PORT" ("[::1]:7432" for
 * IPv6), several parted by commas and tried in that order. NULL means "127.0.0.1:7432". Does not
 * connect yet, and keeps a copy. Returns NULL only for lack of memory; a bad address is reported by
 * pglockd_connect().
 */
pglockd *pglockd_new(const char *addresses);

/* Stops the renewals of the handle, closes its connections (nothing is unlocked) and frees it. */
void pglockd_free(pglockd *c);

/* The name of HELLO, which is the default owner of what is locked. Before connecting. */
pglockd_status pglockd_set_name(pglockd *c, const char *name);

/*
 * The key by which the daemon knows who this is, where it wants one; NULL: none. Copied, and wiped
 * in pglockd_free(). Before connecting. A key that is not taken makes connecting fail with
 * PGLOCKD_DENIED, code "key_refused". Over a network without TLS whoever reads along reads the key.
 */
pglockd_status pglockd_set_key(pglockd *c, const char *key);

/*
 * How to connect to addresses with tls://. Members that are NULL or empty are not given. The
 * daemon's certificate must be of one of the CAs, in force, and for server_name.
 */
typedef struct pglockd_tls_options {
    size_t size;             /* sizeof, set by PGLOCKD_TLS_OPTIONS_INIT */
    const char *ca_file;     /* PEM; not given: those that the system trusts */
    const char *cert_file;   /* PEM: the certificate by which the daemon knows who this is */
    const char *key_file;    /* PEM: its private key; not given: it stands in cert_file, too */
    const char *server_name; /* not given: the host of the address */
} pglockd_tls_options;

#define PGLOCKD_TLS_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(pglockd_tls_options), NULL, NULL, NULL, NULL                                        \
    }

/* Copied; the files are read at each connecting. NULL: nothing is given. Before connecting. */
pglockd_status pglockd_set_tls(pglockd *c, const pglockd_tls_options *o);

/*
 * connect_ms bounds the attempt at one address, resolving and HELLO included (default 3000).
 * request_ms bounds the reply to one request beyond the time it asked to wait (default 5000).
 * 0 leaves a value as it is.
 */
void pglockd_set_timeouts(pglockd *c, int connect_ms, int request_ms);

/*
 * Asks for events with the next connection and calls fn for each with the JSON object of a
 * "* EVENT" line. fn runs inside the calls of the library that read from this handle, in their
 * thread; it must not use the handle. NULL stops the calls.
 */
typedef void pglockd_event_fn(void *arg, const char *json);
void pglockd_on_event(pglockd *c, pglockd_event_fn *fn, void *arg);

/*
 * Connects to the first address that answers HELLO. Calls that need a connection do this by
 * themselves; after a connection broke they begin with the address behind the one that failed.
 */
pglockd_status pglockd_connect(pglockd *c);
void pglockd_disconnect(pglockd *c);

/* The address in use, or "" when not connected. Valid until the next call on the handle. */
const char *pglockd_address(const pglockd *c);

/* The descriptor to wait on for events (readable: call pglockd_poll()), or -1. */
int pglockd_fd(const pglockd *c);

/* Delivers events that have come or come within timeout_ms; PGLOCKD_OK also when none did. */
pglockd_status pglockd_poll(pglockd *c, int timeout_ms);

/*
 * Why the last call on the handle did not return PGLOCKD_OK: one sentence for a person, and a
 * stable lower_snake code ("" when there is none). Valid until the next call on the handle.
 */
const char *pglockd_error(const pglockd *c);
const char *pglockd_error_code(const pglockd *c);

/* ---- raw requests ---- */

/*
 * A request line built word by word, each quoted so that no content can become another word.
 * Running out of memory is remembered and reported when the request is used.
 */
pglockd_request *pglockd_request_new(const char *verb);
void pglockd_request_free(pglockd_request *r);
void pglockd_request_arg(pglockd_request *r, const char *word);
/* key is a plain name such as "ttl". */
void pglockd_request_value(pglockd_request *r, const char *key, const char *value);
void pglockd_request_int(pglockd_request *r, const char *key, int64_t value);
void pglockd_request_ms(pglockd_request *r, const char *key, int64_t ms);
/* The line so far, without its end; NULL when memory ran out. Valid until the next word. */
const char *pglockd_request_line(const pglockd_request *r);

/* word as a JSON string, quotes included; the caller frees it with free(). NULL: no memory. */
char *pglockd_quote(const char *word);

/*
 * Sends one line (no LF in it, with or without a tag) and waits for its reply. wait_ms is how long
 * the request itself may wait (PGLOCKD_FOREVER: no bound; the connection is probed meanwhile, so
 * that a daemon that died or froze is noticed); the request timeout comes on top.
 * Returns the status of the reply, with *reply set, or a status of this side, with *reply NULL.
 * reply may be NULL when the fields do not matter.
 */
#define PGLOCKD_FOREVER INT64_C(-1)
pglockd_status pglockd_call(pglockd *c, const char *line, int64_t wait_ms, pglockd_reply **reply);
pglockd_status pglockd_send(pglockd *c, const pglockd_request *r, int64_t wait_ms,
                            pglockd_reply **reply);

void pglockd_reply_free(pglockd_reply *r);
pglockd_status pglockd_reply_status(const pglockd_reply *r);
/* The JSON object as the daemon sent it. */
const char *pglockd_reply_json(const pglockd_reply *r);
/* Members of the object. A member that is missing or of another type gives the fallback. */
int64_t pglockd_reply_int(const pglockd_reply *r, const char *name, int64_t fallback);
const char *pglockd_reply_string(const pglockd_reply *r, const char *name, const char *fallback);
/* pglockd_now_us() from just before the request was sent. */
int64_t pglockd_reply_sent_us(const pglockd_reply *r);

/* ---- locks ---- */

typedef struct pglockd_lock_options {
    size_t size;       /* sizeof, set by PGLOCKD_LOCK_OPTIONS_INIT */
    int shared;        /* 0: exclusive */
    int64_t ttl_ms;    /* 0: the daemon's default */
    int64_t wait_ms;   /* 0: do not wait; PGLOCKD_FOREVER */
    const char *id;    /* makes the request safe to repeat, 1 to 64 characters; NULL: none */
    const char *owner; /* a label; NULL: the name of the handle */
    const char *note;  /* shown to others; NULL: none */
} pglockd_lock_options;

#define PGLOCKD_LOCK_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(pglockd_lock_options), 0, 0, 0, NULL, NULL, NULL                                    \
    }

/*
 * Locks resource. PGLOCKD_OK sets *lease, which the caller frees after unlocking or losing it.
 * o may be NULL. With an id, a connection that breaks is replaced and the request repeated, which
 * keeps its place in the queue; without one it fails with PGLOCKD_UNKNOWN.
 */
pglockd_status pglockd_lock(pglockd *c, const char *resource, const pglockd_lock_options *o,
                            pglockd_lease **lease);

/* One of the locks that are taken together. */
typedef struct pglockd_member {
    const char *resource;
    int shared; /* 0: exclusive */
    int tree;   /* not 0: the resource and everything beneath it */
} pglockd_member;

/*
 * Locks n members, at least one, all at once or none of them; while it waits it holds nothing.
 * As pglockd_lock() else, but that o->shared does not count. PGLOCKD_OK sets leases[0 .. n), one
 * for each member in their order; otherwise they are NULL.
 */
pglockd_status pglockd_lock_all(pglockd *c, const pglockd_member *members, size_t n,
                                const pglockd_lock_options *o, pglockd_lease **leases);

/*
 * A lease that was granted to somebody else of the same identity, from its token. deadline_us: when
 * it may have expired, as far as the giver knows. NULL: no memory.
 */
pglockd_lease *pglockd_lease_adopt(const char *resource, int64_t token, int64_t ttl_ms,
                                   int64_t deadline_us);

/* Frees the memory; does not unlock. Not while it is kept: pglockd_unkeep() first. */
void pglockd_lease_free(pglockd_lease *l);

const char *pglockd_lease_resource(const pglockd_lease *l);
int64_t pglockd_lease_token(const pglockd_lease *l);
int64_t pglockd_lease_ttl_ms(const pglockd_lease *l);
int64_t pglockd_lease_waited_ms(const pglockd_lease *l);
/* Before this moment the lease cannot have expired: time sent + time waited + TTL. */
int64_t pglockd_lease_deadline_us(const pglockd_lease *l);
/* Not 0 after LOST was answered, or the deadline was given up by pglockd_keep(). */
int pglockd_lease_is_lost(const pglockd_lease *l);

/*
 * These ask the next address when one does not answer, until each was asked.
 * unlock stops the lease's background renewal first. PGLOCKD_LOST: it had ended before, and the
 * work that it covered may have overlapped with another holder's.
 */
pglockd_status pglockd_unlock(pglockd *c, pglockd_lease *l);
/* ttl_ms 0: the lease's TTL. Sets the remaining time, never adds to it. */
pglockd_status pglockd_renew(pglockd *c, pglockd_lease *l, int64_t ttl_ms);
/* Asks whether it still holds; the remaining time into *ttl_ms when that is not NULL. */
pglockd_status pglockd_check(pglockd *c, pglockd_lease *l, int64_t *ttl_ms);

/* ---- watching ---- */

/*
 * Watches a resource and all beneath it ("/": everything): what happens to leases there comes to
 * the function of pglockd_on_event(), as events "granted", "released", "expired", "forced" and
 * "lost". after is the number (seq) of an event to go on behind, or PGLOCKD_NOW.
 * The watch outlives connections: a new one, at whatever address, goes on behind the last event
 * that was told, so that none is missing, or an event "gap" says that some are.
 */
#define PGLOCKD_NOW INT64_C(-1)
pglockd_status pglockd_watch(pglockd *c, const char *prefix, int64_t after);
pglockd_status pglockd_unwatch(pglockd *c, const char *prefix);
/* The number of the last event of the prefix that was told; PGLOCKD_NOW where it is not watched. */
int64_t pglockd_watch_seq(const pglockd *c, const char *prefix);

/* ---- background renewal ---- */

/*
 * Called once, from a thread of the library, when a kept lease was lost: why is PGLOCKD_LOST (the
 * daemon said so; reason is its word for it, such as "forced") or PGLOCKD_UNREACHABLE (no renewal
 * was acknowledged, and lead_ms are left before the lease can have expired). The lease is not
 * renewed any more. fn may call pglockd_unkeep() for this lease and whatever any thread may call.
 */
typedef void pglockd_lost_fn(void *arg, pglockd_lease *l, pglockd_status why, const char *reason);

/*
 * Renews l every third of its TTL, on any address of the handle that answers, until
 * pglockd_unkeep(), pglockd_unlock(), pglockd_free() or its loss. lead_ms 0 means a quarter of the
 * TTL. Fails with PGLOCKD_INVALID or PGLOCKD_NOMEM only (no thread could be started).
 */
pglockd_status pglockd_keep(pglockd *c, pglockd_lease *l, int64_t lead_ms, pglockd_lost_fn *fn,
                            void *arg);
/* When it returns, fn is not running for l (unless it is the caller) and will not be called. */
void pglockd_unkeep(pglockd *c, pglockd_lease *l);

#ifdef __cplusplus
}
#endif

#endif
