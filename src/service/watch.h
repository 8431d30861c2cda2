#ifndef PGLOCKD_SERVICE_WATCH_H
#define PGLOCKD_SERVICE_WATCH_H

/*
 * Watching: what happens to the leases of a prefix, at all daemons and by SQL, each event once and
 * those of one resource in the order of their commits. An event has a number; who goes on behind
 * one has missed none, or is told that there is a gap.
 *
 * Events lie in the database (see sql/functions/publish_events.sql) and are read as far as there is
 * room for them: a slow client falls behind and catches up, and nothing is kept for it here.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct service;
struct watcher;

/* Texts are valid during the callback; p NULL where there is none. */
struct watch_event {
    int64_t seq;
    struct str event; /* "granted", "released", "expired", "forced" or "lost" */
    struct str resource;
    int64_t token;
    struct str owner;
    struct str mode;
    struct str scope;
    struct str reason; /* why it ended */
    struct str detail; /* by whom and why */
    int64_t ago_ms;    /* when it was read */
};

/*
 * All are called from the loop, never during the functions here. started() once, first of all; not
 * ok: the database could not be asked in time, and the watcher is of no use but to be freed. It
 * alone may free the watcher. tell() returns false where there is no room: the same event comes
 * again after watcher_go_on(). gap(): events were lost, by a code that says why; what follows comes
 * behind seq.
 */
struct watch_callbacks {
    void (*started)(void *arg, bool ok, int64_t seq);
    bool (*tell)(void *arg, const struct watch_event *event);
    void (*gap)(void *arg, int64_t seq, struct str code);
};

/*
 * Watches the prefix (a resource and all beneath it; / is all there is), which is copied, from
 * after on; after < 0: from now on. NULL: the daemon has as many as the setting max_watches says.
 */
struct watcher *watcher_new(struct service *s, struct str prefix, int64_t after,
                            const struct watch_callbacks *callbacks, void *arg);
void watcher_free(struct watcher *w);
/* There may be room again. */
void watcher_go_on(struct watcher *w);
struct str watcher_prefix(const struct watcher *w);
/* All events up to this number have been told: where to resume. */
int64_t watcher_seq(const struct watcher *w);

#endif
