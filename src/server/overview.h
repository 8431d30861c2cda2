#ifndef PGLOCKD_SERVER_OVERVIEW_H
#define PGLOCKD_SERVER_OVERVIEW_H

/*
 * The whole service at a glance, for the status page and STATUS: what is locked, who waits for
 * whom, sessions, rate limits, daemons, and how things went lately. It is read over the reader's
 * connection, never over a lane, and one question at a time, however many ask: an answer serves all
 * who ask for the same within a second of it, or within ten times what it took the database.
 */

#include <ev.h>
#include <stdbool.h>

#include "base/json.h"
#include "base/list.h"
#include "config/settings.h"

enum {
    OVERVIEW_ROWS_MAX = 200, /* of each kind */
    OVERVIEW_KEPT_MAX = 64,  /* answers, one a prefix */
};

struct service;
struct overview;

/* What there is to see. */
struct view {
    const char
        *why; /* the database could not be asked: one sentence without a full stop; or NULL */
    const struct overview *overview;
    const struct overview_answer *answer;
};

/* Somebody who has asked; owned by the caller until answered() is called. */
struct overview_wait {
    struct list link;
    void (*answered)(struct overview_wait *wait, const struct view *view);
};

struct overview *overview_create(struct ev_loop *loop, struct service *service,
                                 const struct settings *settings, const char *version);
/* After the service, which ends what was asked. NULL is allowed. */
void overview_destroy(struct overview *o);

/*
 * Asks for all at and beneath prefix, a resource; p NULL: for all. Not whole: who asks may read
 * nothing else, so what is not beneath the prefix is left out. answered() is called once, and not
 * before this returns.
 */
void overview_ask(struct overview *o, struct str prefix, bool whole, struct overview_wait *wait);

/* Puts the members of an object that is open; where the view has a why, those known without asking.
 */
void view_put(const struct view *view, struct json *j);

#endif
