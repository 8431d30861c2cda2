#ifndef PGLOCKD_SERVICE_STATE_H
#define PGLOCKD_SERVICE_STATE_H

/* What the files of the service share; nobody else includes it. */

#include "base/slab.h"
#include "base/tally.h"
#include "pg/lane.h"
#include "pg/reader.h"
#include "service/call.h"
#include "service/identities.h"
#include "service/service.h"

enum {
    HEARTBEAT_MS = 1000,
    EXPIRE_LOOK_MS = 100,  /* between looks for requests that took too long */
    PROMOTE_AGAIN_MS = 20, /* before a resource whose guard was held elsewhere is tried again */
    GUARDED_MS = 200,      /* how long a request that may not wait is tried again */
    LATER_MAX = 10000,     /* resources remembered; the janitor finds what is forgotten */
    PENDING_LOOKS_MAX = 256,
    FOUND_MAX = 256,
    SESSIONS_ASKED_MAX = 10000, /* waiting calls whose sessions one heartbeat looks at */
    CROWDS = 1 << 14,
};

/* What the last heartbeat said. */
struct service_server {
    int64_t number;   /* of its row in pglockd.server; 0: none yet */
    int64_t quiet_ms; /* how long nothing is granted yet */
};

struct presence; /* instance.c: registration, heartbeat, notifications */
struct janitor;  /* janitor.c: lease clock, expiry, cleaning */
struct events;   /* events.c: what holders are told */
struct rates;    /* rate.c: permits */
struct meter;    /* meter.c: metrics in the database */
struct watches;  /* watch.c: what happens beneath prefixes */

struct service {
    struct service_options o;
    int32_t instance;
    struct lane *lanes[LANES_MAX];
    int nlanes;
    struct service_server server;
    struct link_seen seen; /* of servers; what this daemon asked for and was granted */
    struct reader *reader;
    struct reader *writer; /* the same for questions that write: sessions */
    struct presence *presence;
    struct janitor *janitor;
    struct events *events; /* NULL until a client asks for events */
    struct rates *rates;
    struct meter *meter;
    void (*retired)(void *arg); /* of service_retire() */
    void *retired_arg;
    struct identities *identities; /* NULL where auth is off */
    struct watches *watches;       /* NULL until a client watches */
    struct slab calls;
    struct list paused;  /* calls to be submitted again at the next look */
    struct list waiters; /* calls that wait */
    struct list later;   /* operations of the daemon itself, to be submitted at the next look */
    size_t later_count;
    struct list chores;    /* all operations of the daemon itself, wherever they are */
    ev_timer look;         /* runs while something is submitted, paused or to be promoted */
    int64_t waiting;       /* calls in the queue */
    int64_t bound_waiting; /* of these, to be bound to a session */
    bool asking_sessions;
    struct ask sessions_ask; /* which of their sessions have ended */
    int64_t waiting_low;     /* the fewest since the last heartbeat was sent */
    int64_t submitted;       /* calls with a lane */
    struct tally *owners_waiting, *resources_waiting; /* places.c */
    uint32_t crowds[CROWDS];   /* calls that wait, by hash of their resource */
    uint64_t found[FOUND_MAX]; /* ring: requests whose grant was found by asking, not by news */
    size_t found_next;
    bool was_ready;
    bool draining;
    bool collecting;    /* a collect operation is with a lane */
    bool collect_again; /* there may be more when it is back */
};

/* service.c */
struct lane *service_lane(struct service *s, struct str resource);
void service_submit(struct service *s, struct op *op);
/* At the next look, in PROMOTE_AGAIN_MS; for operations of the daemon itself. */
void service_submit_later(struct service *s, struct op *op);
void service_look(struct service *s); /* starts the look timer */
void service_lanes_start(struct service *s);
void service_pending(struct service *s, struct str resource);
void service_collect(struct service *s);
/* instance 0: those daemons where somebody watches */
void service_wake(struct service *s, int32_t instance);
/* Somebody has come to wait for the resource, whose holder asked to be told. */
void service_tell(struct service *s, struct str resource);

/* The setting history, for the sessions in which leases may end. */
const char *service_history(const struct service *s);

/* Tells the owner once that requests may be submitted. */
void service_check_ready(struct service *s);

/* chore.c: operations of the daemon itself, which no client waits for and lane_expire() spares */
struct chore {
    struct list at; /* in the service's chores */
    struct op op;
    struct service *service;
    int64_t token; /* OP_RELEASE: the lease's */
    char resource[];
};

/* Its op.done ends it with chore_free(); service_destroy() frees what has not come back. */
struct chore *chore_new(struct service *s, enum op_kind kind, struct str resource);
struct chore *chore_of(struct op *op);
void chore_free(struct chore *c);

/* locks.c */
void locks_granted(struct service *s, uint64_t request_id, struct str resource, int64_t token,
                   int64_t decided_us);
void locks_resync(struct service *s, int lane); /* -1: all lanes */
void locks_look(struct service *s, int64_t now_us);
/* Ends the waits of calls whose session has ended; asks for that once a heartbeat. */
void locks_look_at_sessions(struct service *s);
void locks_drain(struct service *s);

/* instance.c */
struct presence *presence_create(struct service *s);
void presence_destroy(struct presence *p);
void presence_wake(struct presence *p, int32_t instance);
void presence_tell(struct presence *p, struct str resource);
void presence_retire(struct presence *p, void (*done)(void *arg), void *arg);

/* events.c */
void events_noticed(struct events *e, struct str resource);
void events_destroy(struct events *e);

/* watch.c */
void watches_destroy(struct watches *ws);

/* janitor.c */
struct janitor *janitor_create(struct service *s);
void janitor_destroy(struct janitor *j);
bool janitor_leads(const struct janitor *j);

/* meter.c */
struct meter *meter_create(struct service *s);
void meter_destroy(struct meter *m);
/* This daemon has become the janitor. */
void meter_elected(struct meter *m);
/* Writes what was counted so far, once; finished(arg) when that is done or cannot be. */
void meter_finish(struct meter *m, void (*finished)(void *arg), void *arg);
void meter_register_metrics(void);

/* rate.c */
struct rates *rates_create(struct service *s);
void rates_destroy(struct rates *r);
bool rates_are_loaded(const struct rates *r); /* the policies have been read */
bool rates_are_idle(const struct rates *r);
void rates_register_metrics(void);

/* identities.c */
struct identities *identities_create(struct service *s);
void identities_destroy(struct identities *i);
bool identities_are_loaded(const struct identities *i);

#endif
