#ifndef PGLOCKD_SERVICE_SERVICE_H
#define PGLOCKD_SERVICE_SERVICE_H

/*
 * The lock service of one daemon: its lanes, its reader, its sign of life, and the janitor's work
 * when it is elected. Knows nothing of lines and sockets.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/settings.h"
#include "pg/reader.h"

struct service;

struct service_options {
    struct ev_loop *loop;
    const struct settings *settings; /* read as it is at each use: reloads show */
    const char *conninfo;            /* lives as long as the service */
    const char *name;                /* host and process, for the instances table */
    const char *version;
    /* Once: registered, and every lane has been up. Requests may be submitted from now on. */
    void (*ready)(void *arg);
    void *arg;
};

struct service *service_create(const struct service_options *options);
/* Everything at once; calls that are open are forgotten. */
void service_destroy(struct service *s);

/*
 * Ends what waits (as OUTCOME_UNAVAILABLE) and accepts no new waits; what is in flight is finished.
 */
void service_drain(struct service *s);
/* Nothing is in flight any more: service_retire() may be called. */
bool service_is_idle(const struct service *s);
/* Takes the daemon out of the instances; done(arg) when that is committed or cannot be. */
void service_retire(struct service *s, void (*done)(void *arg), void *arg);

/* Can leases be renewed? Why not: a static text in *why (NULL where it can). */
bool service_can_renew(const struct service *s, const char **why);

/* Does it grant? Why not: a text in *why that is valid until the next call (NULL where it does). */
bool service_grants(const struct service *s, const char **why);

/*
 * A token was granted, a TTL and a grace asked for (0: none): to be reported to a server that may
 * have lost it.
 */
void service_saw(struct service *s, int64_t token, int64_t ttl_ms, int64_t grace_ms);

int32_t service_instance(const struct service *s); /* 0 before it is registered */
struct reader *service_reader(struct service *s);
struct reader *service_writer(struct service *s); /* for questions that write */
/* Grants what can be granted of a resource that may have become free; at its next look. */
void service_promote(struct service *s, struct str resource);
int64_t service_waiters(const struct service *s); /* of this daemon */
bool service_is_janitor(const struct service *s);

/* Registers the names of the metric labels that the service counts under. */
void service_register_metrics(void);

#endif
