#ifndef PGLOCKD_SERVICE_EVENTS_H
#define PGLOCKD_SERVICE_EVENTS_H

/*
 * What holders are told while they hold: that somebody waits, that the TTL runs out, that the lease
 * is gone. For connections that asked; the others cost nothing.
 *
 * Nothing here is a message that could be lost: a daemon looks how its listeners' leases stand, at
 * once when it is notified, before a TTL ends, and every few seconds in any case, and tells what is
 * new. So the last state is always told, and what lay between may be told as one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct service;
struct listener;

enum news_kind {
    NEWS_WANTED,   /* somebody waits for it */
    NEWS_EXPIRING, /* a quarter of its TTL is left, and nobody has renewed it */
    NEWS_LOST,     /* it holds no longer, and not by this connection's UNLOCK */
};

struct news {
    enum news_kind kind;
    struct str resource;
    int64_t token;
    struct str owner; /* of the lease; n 0 where it is not known */
    struct str mode;
    /* NEWS_EXPIRING */
    int64_t left_ms; /* of the TTL */
    /* NEWS_WANTED: how many wait that the lease stands in the way of; the first of them */
    int64_t waiting;
    struct str by_owner;
    struct str by_mode;
    int64_t waiting_ms;
    /* NEWS_LOST */
    struct str reason;
    int64_t lost_ms;    /* ago; -1: not known */
    struct str detail;  /* n 0: none */
    struct str held_by; /* p NULL: nobody */
};

/* tell() is called from the loop, never during the functions here; it must not end the listener. */
typedef void listener_fn(void *arg, const struct news *news);
struct listener *listener_new(struct service *s, listener_fn *tell, void *arg);
void listener_free(struct listener *l); /* NULL is fine */

enum { LISTENER_LEASES_MAX = 10000 };

/*
 * The listener holds this lease, which was granted or renewed for ttl_ms (0: not known) just now,
 * in this session (0: in none, or not known).
 * False: it has LISTENER_LEASES_MAX already, or all listeners together too many; it will not be
 * told of this one.
 */
bool listener_hold(struct listener *l, struct str resource, int64_t token, int64_t ttl_ms,
                   int64_t session);
/* It knows that the lease has ended, or is ending it. False: it held no such lease. */
bool listener_drop(struct listener *l, struct str resource, int64_t token);
/* It is asking for another mode (changing), or has been answered. Meanwhile it is no news that the
 * lease has gone without a reason: its own new one may be there, of which the answer tells. */
void listener_change_mode(struct listener *l, struct str resource, int64_t token, bool changing);
/* It is ending a session (ending), or has tried in vain: of its leases NEWS_LOST is no news then.
 */
void listener_end_session(struct listener *l, int64_t session, bool ending);

#endif
