#ifndef PGLOCKD_SERVICE_RATE_STATE_H
#define PGLOCKD_SERVICE_RATE_STATE_H

/* What the files of rate limits share; nobody else includes it. */

#include "pg/rate_link.h"
#include "service/rate_keys.h"
#include "service/state.h"

/*
 * A request's way:
 *
 *   rates_ask ──▶ permits in advance, or a denial that is remembered ──▶ answered
 *       │
 *       ▼
 *   key->calls ──▶ batch (one at a time) ──▶ pglockd.rate_decide() ──▶ answered
 *       ▲              │ counter locked by somebody, connection lost, policies changed
 *       └──────────────┘
 *   after request_timeout ──▶ what the policy says for the time without a database
 *
 * What is decided from memory holds only for policies that the database has confirmed within
 * RATE_FRESH_US. A charge whose outcome is unknown is lost: it is never used, and the request is
 * charged again.
 */

enum {
    RATE_FRESH_US = 900000, /* how old the policies may be by which memory decides */
    RATE_POLL_US = 300000,  /* when they are asked about again, where requests come */
    RATE_LOOK_MS = 20,      /* for what takes too long, and counters that were locked */
    RATE_LAZY_MS = 10,      /* what permits in advance wait for others to go with */
    RATE_LAZY_MAX = 128,    /* unless so many keys want some */
    RATE_PAUSE_MS = 100,    /* after a round that the server could not serve */
    RATE_LABELS = 64,       /* policies that metrics name; the rest is one */
};

struct rate_call {
    struct list at;  /* in its key's calls, or in a flight's */
    struct list all; /* in the order in which they came */
    struct rates *rates;
    struct rate_key *key;
    int64_t cost;
    bool peek;
    bool has_id;
    bool abandoned; /* nobody waits for it; what it gets is given back */
    int64_t received_us;
    void (*answered)(void *user, const struct rate_answer *answer);
    void *user;
    size_t id_n, identity_n;
    char text[]; /* id, identity */
};

/* A request of the batch on its way: what it is for. */
struct flight {
    struct rate_key *key;
    struct list calls;
    int64_t epoch;
    int64_t pool_until_us;
};

enum round { ROUND_NONE, ROUND_BATCH, ROUND_REFUND, ROUND_POLICIES, ROUND_EPOCH };

struct rates {
    struct service *s;
    struct rate_link *link;
    struct rate_policies policies, read; /* in force; being read */
    struct rate_keys keys;
    struct list dirty;  /* keys with something for the next batch, ndirty of them */
    struct list paused; /* keys whose counters somebody had locked */
    struct list shorts; /* keys that did not get all they wanted, until they ask again */
    struct list all;    /* calls that are not answered */
    size_t calls;
    struct list refunds;
    size_t nrefunds;
    struct list refunds_sent;
    enum round round; /* on its way */
    bool was_refund;  /* the round before was one of refunds */
    bool stale;       /* the policies are to be read */
    bool was_loaded;
    bool up;
    int64_t round_us;     /* when the round was sent */
    int64_t confirmed_us; /* when a round was sent that saw our policies */
    int64_t down_us;      /* since when it is not connected */
    int64_t latency_us;   /* of a batch, a mean */
    size_t share;         /* requests in the next batch at most: halved while the server refuses */
    struct rate_batch batch;
    struct flight *flights; /* one for each request of the batch */
    size_t flights_size;
    struct {
        uint32_t hash;
        uint32_t batch;
        int32_t index;
    } * seen; /* counters of the batch that is being made, by hash */
    uint32_t batches;
    uint32_t random;
    ev_idle end_of_turn; /* never started: fed when there is something to send */
    ev_timer look, pause, short_look, lazy;
    bool urgent;    /* a request waits for the next batch */
    bool lazy_over; /* permits in advance have waited long enough */
    size_t ndirty;
    char *labels[RATE_LABELS];
    size_t nlabels;
};

/* rate_calls.c: requests and their answers */
struct rate_answer rate_allowed(struct rate_key *e, int64_t now_us, enum rate_source source);
struct rate_answer rate_denied(struct rate_key *e, int64_t now_us, enum rate_source source,
                               int64_t retry_us);
/* Answers a call and frees it. */
void rate_call_answer(struct rate_call *call, const struct rate_answer *a);
void rate_call_free(struct rate_call *call);
/* What needs no counter: there is none, or never enough. */
bool rate_answer_plainly(const struct rate_key *e, int64_t cost, struct rate_answer *a);
bool rate_answer_from_memory(struct rates *r, struct rate_key *e, int64_t cost, int64_t now_us,
                             struct rate_answer *a);
/* As the policies say for the time without a database. */
struct rate_answer rate_decide_away(struct rate_key *e, int64_t now_us, int64_t cost);
int64_t rate_timeout_us(const struct rates *r); /* request_timeout */
/* Puts a key where it waits; dirty: for the next batch. */
void rate_move(struct rates *r, struct rate_key *e, enum rate_place place);
/* The index of a policy's name among the labels of metrics. */
unsigned rate_label(struct rates *r, struct str name);

/* rate_batches.c: what is asked, and what comes of it */
void rate_batch_make(struct rates *r, int64_t now_us); /* into r->batch, empty: nothing to ask */
void rate_batch_take(struct rates *r);
void rate_batch_refused(struct rates *r, const struct link_outcome *outcome);
void rate_batch_return(struct rates *r); /* nothing is known of it: all is asked again */
void rate_batch_init(struct rates *r);
void rate_batch_free_all(struct rates *r);

/* rate_refunds.c: permits that were not used */
void rate_refund_key(struct rates *r, struct rate_key *e, int64_t permits);
void rate_refunds_send(struct rates *r);
/* maybe: they were done or not, and are not done twice. */
void rate_refunds_take(struct rates *r, bool answered, bool maybe);
void rate_refunds_free(struct rates *r);

/* rate.c */
void rate_pump_later(struct rates *r); /* sends what there is at the end of this turn */
void rate_look_start(struct rates *r);

#endif
