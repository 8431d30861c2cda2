#ifndef PGLOCKD_SERVICE_IDENTITIES_H
#define PGLOCKD_SERVICE_IDENTITIES_H

/*
 * Who may do what, where auth is on: names, rights and keys are rows of the database, and every
 * daemon keeps all of them in memory. A change is in force within a second: the database tells of
 * it, is asked for it besides, and what could not be confirmed for that long is not acted upon.
 */

#include "service/identity_store.h"

struct service;
struct identities;

enum identities_state {
    IDENTITIES_CONFIRMED, /* what is in memory was in force less than a second ago */
    IDENTITIES_WAIT,      /* it is being confirmed: nothing should be decided by it now */
    IDENTITIES_AWAY,      /* the database has not confirmed it for request_timeout */
};

/* NULL where auth is off. */
struct identities *service_identities(struct service *s);

/*
 * Has changed(arg) called when rights, keys or the state may have changed; never during another
 * function here. One listener at a time; NULL: none.
 */
void identities_on_change(struct identities *i, void (*changed)(void *arg), void *arg);

enum identities_state identities_state(const struct identities *i, int64_t now_us);

/* NULL where there is no valid one. Only while they are confirmed. */
struct identity *identities_find(const struct identities *i, struct str name);
struct api_key *identities_find_key(const struct identities *i, struct str secret);

#endif
