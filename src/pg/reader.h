#ifndef PGLOCKD_PG_READER_H
#define PGLOCKD_PG_READER_H

/*
 * Questions beside the lanes: on a connection of their own, so that a long answer never stands in
 * the way of a batch. Asked in order, several at a time, each bounded in time. Most only read;
 * those about sessions write, and have a connection for that.
 */

#include <ev.h>
#include <stdbool.h>

#include "base/list.h"
#include "pg/link.h"

enum reader_question {
    ASK_CHECK,   /* resource[], token[], identity[] -> o_item, o_number, o_own */
    ASK_HOLDERS, /* resource[], tree[], max -> item, token, owner, mode, scope, ttl_ms,
                    held_ms, note, instance_id, conn_id, total, session_id, resource, slots, weight,
                    identity */
    ASK_WAITING, /* resource[], max -> item, owner, mode, scope, waiting_ms, place, total, identity
                  */
    ASK_LOST,    /* resource, token, identity -> reason, lost_ms, detail, held_by */
    ASK_LIST,    /* low[], high[], owner, after_resource, after_token, max, session -> as
                    ASK_HOLDERS from resource, token ... to conn_id, granted_at, session_id,
                    identity */
    ASK_SESSIONS_ENDED, /* session[] -> those that have ended */
    ASK_SESSION_ALLOW,  /* session, secret, identity -> g, l or d */
    ASK_BY_ID,          /* id, owner, identity -> resource, token */
    ASK_DEADLOCK,       /* instance, request -> the cycle: party, resource, owner */
    ASK_SESSION_LOCKS,  /* session, max -> resource, token, mode, scope, reason, ttl_ms, bound */
    ASK_STATUS,         /* prefix, rows_max, whole -> name, value: members of a JSON object */
    ASK_TOTALS,         /* -> locks, waiting */
    /* These write, and go to a reader made for that. */
    ASK_SESSION_OPEN,   /* ttl_ms, owner, identity, note, id, secret, sessions_max -> session,
                           repeated */
    ASK_SESSION_RENEW,  /* session, secret, identity -> status, ttl_ms, locks, reason, lost_ms */
    ASK_SESSION_RESUME, /* session, secret, identity, instance, conn -> the same */
    ASK_SESSION_CLOSE,  /* session, secret, identity -> status, released, reason, lost_ms, pending[]
                         */
    ASK_TRANSFER,       /* resource, token, owner, session, identity, ttl_ms -> status, token */
    ASK_FORCE, /* resource, token, reason, by -> status, owner, identity, held_ms, pending[]
                */
    ASK_QUESTIONS
};

/* One asking: up to two questions at once. Owned by the caller until done() was called. */
struct ask {
    struct list link;
    bool sent;
    int64_t deadline_us; /* clock_mono_us(); set by reader_ask() */
    int questions;
    enum reader_question question[2];
    struct link_params params[2]; /* freed by the reader */
    /* For each question in order; not called for those without a good answer. */
    void (*rows)(struct ask *a, int question, const struct link_rows *rows);
    /* Once, at the end. ok: all rows came. Late answers are dropped. */
    void (*done)(struct ask *a, bool ok);
};

struct reader;

/* What a reader is made for; one that writes is not retried: what it was asked is done or not. */
enum reader_kind { READER_READS, READER_WRITES };

/* history: as in struct link_options */
struct reader *reader_create(struct ev_loop *loop, const char *conninfo, struct link_seen *seen,
                             enum reader_kind kind, const char *history);
/* Questions without an answer are done, not ok; none may be asked from there. */
void reader_destroy(struct reader *r);
/* done() is called within timeout_ms, but not during this call. */
void reader_ask(struct reader *r, struct ask *a, int64_t timeout_ms);
/* True when it was asked and not sent yet: then it never is, and done() is not called. */
bool reader_take_back(struct ask *a);

#endif
