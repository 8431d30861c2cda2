#ifndef PGLOCKD_PG_RATE_LINK_H
#define PGLOCKD_PG_RATE_LINK_H

/*
 * The connection over which permits are decided: a link of its own, so that rate limits never delay
 * locks. It carries batches of requests (pglockd.rate_decide()), refunds, the policies and their
 * version, and hears when they change. One round at a time; what comes meanwhile is the next.
 */

#include <ev.h>

#include "pg/link.h"

enum { RATE_COUNTERS_MAX = 2048 }; /* in one batch */

struct rate_counter {
    struct str key;
    struct str rule;
    int64_t quota, period_ns, burst, burst_ns;
    bool shadow;
    int64_t tat_ns; /* the answer */
};

/* How a request was decided; the letters are those of pglockd.rate_decide(). */
enum rate_status {
    RATE_DECIDED = 'g',  /* granted permits may be used for the request's life */
    RATE_EXACT = 'x',    /* they are for what is due now */
    RATE_LOCKED = 'r',   /* somebody keeps a counter locked: nothing was done */
    RATE_AGAIN = 'a',    /* this id was allowed before */
    RATE_MISMATCH = 'm', /* this id was used with other arguments */
};

struct rate_request {
    size_t
        first; /* its counters begin here in the batch's indexes, and end where the next begins */
    int64_t want, due, step, life_ns;
    bool peek;
    struct str id; /* p NULL: none */
    struct str identity;
    /* The answer. */
    enum rate_status status;
    int64_t granted;
    int64_t over;
};

/* Requests and the counters that they are about; the strings are the caller's. */
struct rate_batch {
    struct rate_counter *counters;
    size_t ncounters;
    struct rate_request *requests;
    size_t nrequests;
    int32_t *indexes; /* of counters, from 0 */
    size_t nindexes;
    int64_t now_ns; /* the answer: the time of the decision */
};

/* Make room for one more and return it, zeroed; an index is set. */
struct rate_counter *rate_batch_counter(struct rate_batch *b);
struct rate_request *rate_batch_request(struct rate_batch *b);
void rate_batch_index(struct rate_batch *b, size_t counter);
void rate_batch_clear(struct rate_batch *b);
void rate_batch_free(struct rate_batch *b);

/* A row of pglockd.rate_policies(). */
struct rate_policy_row {
    struct str name, pattern, counter, away; /* valid during the callback */
    bool for_lock, prefix, shadow, on_grant, borrow;
    int64_t quota, period_ns, burst, away_percent;
};

struct rate_link_options {
    struct ev_loop *loop;
    const char *conninfo;   /* lives as long as the link */
    struct link_seen *seen; /* likewise */
    /* The connection is there, or is lost: then the open round has ended before. */
    void (*state_changed)(void *arg, bool up);
    /* The policies may have changed. */
    void (*notified)(void *arg);
    /* Each policy, before the end of the round that asked for them. */
    void (*policy)(void *arg, const struct rate_policy_row *row);
    /*
     * A round ended. epoch: the version of the policies that it saw, 0 where it says nothing of it
     * or was not committed. For a batch: answered, or else nothing of it was done, because the
     * policies are others.
     */
    void (*done)(void *arg, const struct link_outcome *outcome, int64_t epoch, bool answered);
    void *arg;
};

struct rate_link;

struct rate_link *rate_link_create(const struct rate_link_options *options);
void rate_link_destroy(struct rate_link *l);
/* True when a round may be sent: connected, and none is open. */
bool rate_link_is_free(const struct rate_link *l);
/* Ends the connection in order to make a new one. */
void rate_link_reset(struct rate_link *l, const char *why);

/* b lives until done(). */
void rate_link_decide(struct rate_link *l, int64_t epoch, struct rate_batch *b);
/* Gives permits back: each request's want to each of its counters; status tells of each. */
void rate_link_refund(struct rate_link *l, struct rate_batch *b);
void rate_link_ask_policies(struct rate_link *l);
void rate_link_ask_epoch(struct rate_link *l);

#endif
