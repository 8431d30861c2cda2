#ifndef PGLOCKD_SERVER_SERVER_H
#define PGLOCKD_SERVER_SERVER_H

/*
 * The line protocol: listens, reads requests, answers them. Connections are read and written in
 * turns of the loop, each a bounded piece at a time; replies go out once a turn.
 */

#include <ev.h>
#include <stdbool.h>

#include "base/buf.h"
#include "config/settings.h"
#include "server/http.h"

struct overview;
struct server;
struct service;
struct tls;

struct server_options {
    struct ev_loop *loop;
    const struct settings *settings; /* read as it is at each use: reloads show */
    struct service *service;
    struct overview *overview;
    const char *version;
    struct tls *tls;        /* NULL: no address asks for it */
    size_t connections_max; /* what the limit of open files allows; settings may say less */
};

/*
 * Listens on the addresses of the settings, and on unix:extra_unix where it is not NULL. NULL and
 * one sentence in err when one of them cannot be had.
 */
struct server *server_create(const struct server_options *options, const char *extra_unix,
                             struct buf *err);
/* The first TCP address that it listens on (HOST:PORT with the real port), else the first one. */
const char *server_address(const struct server *s);
/* No new connections, no new requests; what was asked is answered, then each gets its BYE. */
void server_drain(struct server *s);
/* Takes over reloaded settings; at once, since it keeps pointers into some of them. */
void server_reload(struct server *s);
/* What authorize() of http.h asks. */
enum http_access server_authorize_http(struct server *s, struct str header, const char *address,
                                       struct identity **who);
/* How many connections are open. */
size_t server_connections(const struct server *s);
/* Closes everything at once. */
void server_destroy(struct server *s);

/* Registers the names of the metric labels that the server counts under. */
void server_register_metrics(void);

#endif
