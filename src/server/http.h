#ifndef PGLOCKD_SERVER_HTTP_H
#define PGLOCKD_SERVER_HTTP_H

/*
 * The HTTP side: GET and HEAD of /metrics (Prometheus' text or OpenMetrics, as Accept says),
 * /healthz and /readyz, which are open to all who reach it; for people / and /api/status, which
 * like whatever else there is or is not need a key where auth is on. libmicrohttpd parses and
 * writes; its epoll descriptor is a watcher of our loop, so there are no threads and nothing
 * blocks. All answers but that of /api/status come from memory, whatever PostgreSQL does.
 *
 * Host is checked, so that a web page cannot read them through a name of its own that it points
 * here: IP literals and localhost pass, other names only when they are among hosts.
 */

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    HTTP_CONNECTIONS_MAX = 64,
    /* Descriptors that it may use at most: set them aside from the limit of open files. */
    HTTP_FDS_MAX = HTTP_CONNECTIONS_MAX + 2,
    /* Bytes for one request's line and headers (and the headers of its reply). */
    HTTP_HEAD_MAX = 16384,
    /* Time for one request, from the end of the one before it to the end of its own reply. */
    HTTP_REQUEST_TIMEOUT_MS = 10000,
};

struct http_ready {
    bool ready;         /* leases can be renewed */
    bool granting;      /* locks can be granted; looked at only when ready */
    const char *reason; /* why not ready or not granting, without a full stop; else NULL */
};

enum http_access {
    HTTP_ALLOWED,
    HTTP_UNAUTHORIZED, /* it shows no key, or none that is valid */
    HTTP_FORBIDDEN,    /* its name may read nothing */
    HTTP_SLOW_DOWN,    /* too many wrong keys came from there */
    HTTP_UNCONFIRMED,  /* nobody can tell now */
};

struct identity; /* service/identities.h */

/* A request whose answer comes later. */
struct http_later;

enum http_end {
    HTTP_END_OK,
    HTTP_END_BAD_REQUEST,
    HTTP_END_FORBIDDEN,
    HTTP_END_UNAVAILABLE,
};

struct http_options {
    const char *host;   /* address or name to listen on; "" and "*" are every address */
    uint16_t port;      /* 0: any free one */
    bool tls;           /* with the certificate of tls_open() */
    char *const *hosts; /* names that Host may have; copied */
    size_t nhosts;
    /* Called for /readyz; must not block. What reason points to must last until the next turn. */
    struct http_ready (*ready)(void *arg);
    /*
     * Called for all that is not open, with the Authorization header (p NULL: none) and the
     * client's address; must not block. Where it is allowed, *who is the one whose rights say what
     * the page may show, valid until the end of the call. NULL: everything is open.
     */
    enum http_access (*authorize)(void *arg, struct str header, const char *address,
                                  struct identity **who);
    /*
     * Called for /api/status with its prefix= (p NULL: none, unescaped) and who asks (NULL:
     * everything may be shown), both valid until the end of the call: has http_answer() called
     * once, now or later. NULL: there is no status page.
     */
    void (*status)(void *arg, struct str prefix, struct identity *who, struct http_later *later);
    void *arg;
    int request_timeout_ms; /* 0: HTTP_REQUEST_TIMEOUT_MS */
};

struct http;

/* NULL and one sentence in err when it cannot listen. */
struct http *http_start(struct ev_loop *loop, const struct http_options *options, struct buf *err);

/*
 * Closes everything at once, replies in flight too; http_answer() may still be called. NULL is
 * allowed. Not to be called by ready().
 */
void http_stop(struct http *http);

/* Answers it, with JSON: takes the contents of body, which is empty afterwards. */
void http_answer(struct http_later *later, enum http_end how, struct buf *body);

/* Replaces the names that Host may have (a reload). */
void http_set_hosts(struct http *http, char *const *hosts, size_t nhosts);

/* What it listens on, as HOST:PORT or [HOST]:PORT with the real port; lives as long as http. */
const char *http_address(const struct http *http);
uint16_t http_port(const struct http *http);

#endif
