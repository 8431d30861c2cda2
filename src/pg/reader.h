#ifndef PGLOCKD_PG_READER_H
#define PGLOCKD_PG_READER_H

/*
 * Questions that only read: on a connection of their own, so that a long answer never stands in
 * the way of a batch. Asked in order, several at a time, each bounded in time.
 */

#include <ev.h>
#include <stdbool.h>

#include "base/list.h"
#include "pg/link.h"

enum reader_question {
    ASK_CHECK,   /* resource, token -> o_item, o_number */
    ASK_HOLDERS, /* resource[], max -> item, token, owner, mode, scope, ttl_ms, held_ms, note,
                    instance_id, conn_id, total */
    ASK_WAITING, /* resource[], max -> item, owner, mode, scope, waiting_ms, place, total */
    ASK_LOST,    /* resource, token -> reason, lost_ms, detail, held_by */
    ASK_LIST,    /* prefix, owner, after_resource, after_token, max -> as ASK_HOLDERS from
                    resource, token ... to conn_id, granted_at */
    ASK_GAUGES,  /* -> locks_held, waiters, oldest_wait_us */
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

struct reader *reader_create(struct ev_loop *loop, const char *conninfo);
/* Questions without an answer are done, not ok; none may be asked from there. */
void reader_destroy(struct reader *r);
/* done() is called within timeout_ms, but not during this call. */
void reader_ask(struct reader *r, struct ask *a, int64_t timeout_ms);

#endif
