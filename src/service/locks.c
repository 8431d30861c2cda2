#include "service/locks.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/counts.h"
#include "service/places.h"
#include "service/route.h"
#include "service/state.h"
#include "wire/duration.h"

/*
 * A LOCK's way:
 *
 *   acquire ──▶ SUBMITTED ──▶ granted, busy, … ──▶ answered
 *                 │    ▲ │
 *     guard held  ▼    │ └──▶ WAITING ──▶ granted ─────────▶ answered
 *                PAUSED          │ time over, cancelled, client gone, daemon stops
 *                                ▼
 *                           WITHDRAWING ──▶ out of the queue, or granted after all ──▶ answered
 *
 * A call lives until its operation is back from the lane, even when its client is gone or was told
 * that the outcome is unknown: only then is it known what has to be given back.
 */

static const char *const mode_names[] = {"exclusive", "shared"};
static const char *const outcome_names[OUTCOMES] = {
    [OUTCOME_OK] = "granted",
    [OUTCOME_BUSY] = "busy",
    [OUTCOME_QUIET] = "quiet",
    [OUTCOME_GUARDED] = "guarded",
    [OUTCOME_TIMEOUT] = "timeout",
    [OUTCOME_LOST] = "session_lost",
    [OUTCOME_DENIED] = "denied",
    [OUTCOME_FENCED] = "fenced",
    [OUTCOME_CANCELLED] = "cancelled",
    [OUTCOME_SUPERSEDED] = "superseded",
    [OUTCOME_ID_MISMATCH] = "id_mismatch",
    [OUTCOME_LIMIT_MISMATCH] = "limit_mismatch",
    [OUTCOME_DEADLOCK] = "deadlock",
    [OUTCOME_TOO_MANY] = "too_many_waiters",
    [OUTCOME_TOO_MANY_OF_OWNER] = "too_many_of_owner",
    [OUTCOME_TOO_MANY_OF_RESOURCE] = "too_many_of_resource",
    [OUTCOME_TOO_MANY_LEASES] = "too_many_leases",
    [OUTCOME_DRAINING] = "draining",
    [OUTCOME_UNAVAILABLE] = "unavailable",
    [OUTCOME_UNKNOWN] = "outcome_unknown",
    [OUTCOME_INTERNAL] = "internal",
};
enum contention { CONTENTION_WAITED, CONTENTION_BUSY, CONTENTION_QUIET, CONTENTION_GUARDED };
static const char *const contention_names[] = {"waited", "busy", "quiet", "guarded"};

void service_register_metrics(void)
{
    metrics_label_names(LABEL_MODE, mode_names, 2);
    metrics_label_names(LABEL_OUTCOME, outcome_names, OUTCOMES);
    metrics_label_names(LABEL_CONTENTION, contention_names, 4);
    counts_register_metrics();
    meter_register_metrics();
    lane_register_metrics();
    rates_register_metrics();
}

/* --- the life of a call --- */

static char *place_text(char *at, struct str from, struct str *to)
{
    *to = (struct str){from.p ? at : NULL, from.n};
    if (from.n > 0)
        memcpy(at, from.p, from.n);
    return at + from.n;
}

/* Room for all texts and members; a call's small is aligned for members. */
static size_t bytes_of(const struct call_texts *texts)
{
    size_t n = texts->owner.n + texts->note.n + texts->id.n + texts->identity.n;
    if (texts->nmembers == 0)
        return n + texts->resource.n;
    n += texts->nmembers * sizeof(struct op_member);
    for (size_t i = 0; i < texts->nmembers; i++)
        n += texts->members[i].resource.n;
    return n;
}

static char *place_members(char *at, const struct call_texts *texts, struct op *op)
{
    if (texts->nmembers == 0)
        return at;
    op->nmembers = texts->nmembers;
    op->members = (struct op_member *)(void *)at;
    at += texts->nmembers * sizeof(struct op_member);
    for (size_t i = 0; i < texts->nmembers; i++) {
        op->members[i] = texts->members[i];
        at = place_text(at, texts->members[i].resource, &op->members[i].resource);
    }
    op->resource = op->members[0].resource;
    return at;
}

static void on_wait_over(struct ev_loop *loop, ev_timer *w, int revents);

struct call *call_new(struct service *s, enum op_kind kind, uint64_t conn_id,
                      const struct call_texts *texts)
{
    uint64_t id;
    struct call *call = slab_alloc(&s->calls, &id);
    size_t n = bytes_of(texts);
    char *at = call->small;
    if (n > sizeof(call->small))
        at = call->text = xmalloc(n);
    at = place_members(at, texts, &call->op);
    if (texts->nmembers == 0)
        at = place_text(at, texts->resource, &call->op.resource);
    at = place_text(at, texts->identity, &call->op.identity);
    at = place_text(at, texts->owner, &call->op.owner);
    at = place_text(at, texts->note, &call->op.note);
    place_text(at, texts->id, &call->op.id);
    call->service = s;
    call->op.kind = kind;
    call->op.conn_id = conn_id;
    call->op.request_id = id;
    list_init(&call->op.link);
    list_init(&call->at);
    ev_init(&call->timer, on_wait_over);
    call->timer.data = call;
    return call;
}

static void call_free(struct call *call)
{
    ev_timer_stop(call->service->o.loop, &call->timer);
    list_remove(&call->at);
    places_leave(call);
    free(call->text);
    slab_free(&call->service->calls, call->op.request_id);
}

/* Or an operation of another kind that a LOCK has become meanwhile. */
static bool is_lock(const struct call *call)
{
    return call->op.kind != OP_RELEASE && call->op.kind != OP_RENEW;
}

static void tell(struct call *call, enum outcome outcome)
{
    call->outcome = outcome;
    if (is_lock(call))
        metric_add2(M_LOCK_ATTEMPTS, call->op.exclusive ? 0 : 1, outcome, 1);
    if (!call->abandoned && !call->answered_early)
        call->answered(call);
}

static void answer(struct call *call, enum outcome outcome)
{
    tell(call, outcome);
    call_free(call);
}

/* The client is told that nothing is known; the call stays for its operation to come back. */
static void answer_early(struct call *call)
{
    if (call->abandoned || call->answered_early)
        return;
    tell(call, OUTCOME_UNKNOWN);
    call->answered_early = true;
    call->op.unwanted = is_lock(call); /* whoever has asked to RENEW may still count on that */
}

static bool nobody_waits(const struct call *call)
{
    return call->abandoned || call->answered_early;
}

static void submit(struct call *call)
{
    call->state = CALL_SUBMITTED;
    call->service->submitted++;
    service_submit(call->service, &call->op);
}

/* --- leases that nobody can get --- */

static void orphan_done(struct op *op)
{
    struct chore *c = chore_of(op);
    if (op->status == OP_GUARDED || op->status == OP_FENCED) { /* a transaction keeps the row */
        op->number = c->token;
        service_submit_later(c->service, op);
        return;
    }
    if (op->status == OP_DONE) {
        count_ended(op->closed_conn ? LEASE_CONNECTION_CLOSED : LEASE_RELEASED, 1);
        metric_observe_us(M_LOCK_HOLD, 1000 * op->number);
    }
    chore_free(c);
}

static struct chore *orphan_new(struct service *s, struct str resource, int64_t token)
{
    struct chore *c = chore_new(s, OP_RELEASE, resource);
    c->token = c->op.number = token;
    c->op.done = orphan_done;
    return c;
}

/* What the request was granted, unless one with the same id has been given it meanwhile. */
static void release_orphan(struct service *s, uint64_t request_id, struct str resource,
                           int64_t token)
{
    struct chore *c = orphan_new(s, resource, token);
    c->op.granted_to = request_id;
    service_submit(s, &c->op);
}

/* --- grants --- */

/* How many calls wait for the resource; others with its hash count, too. */
static uint32_t *crowd(const struct call *call)
{
    return &call->service->crowds[route_hash(call->op.resource) % CROWDS];
}

static void stop_waiting(struct call *call)
{
    struct service *s = call->service;
    s->waiting--;
    s->bound_waiting -= call->op.session != 0;
    --*crowd(call);
    list_remove(&call->at);
    if (s->waiting < s->waiting_low)
        s->waiting_low = s->waiting;
    ev_timer_stop(s->o.loop, &call->timer);
    metric_observe_us(M_LOCK_WAIT, clock_mono_us() - call->waiting_since_us);
}

static enum outcome outcome_of_end(const struct call *call)
{
    switch (call->end) {
    case END_TIMEOUT:
        return OUTCOME_TIMEOUT;
    case END_DRAIN:
        return OUTCOME_DRAINING;
    case END_SESSION:
    case END_LEASE:
        return OUTCOME_LOST;
    case END_DEADLOCK:
        return OUTCOME_DEADLOCK;
    default:
        return OUTCOME_CANCELLED;
    }
}

/*
 * The call has a lease. It is given back when nobody takes it, but not when the request had an id,
 * so that its client may ask again until the TTL is over, nor when the lease was there before.
 */
static void release_orphans(struct call *call, int64_t token)
{
    const struct op *op = &call->op;
    if (op->nmembers == 0)
        release_orphan(call->service, op->request_id, op->resource, token);
    for (size_t i = 0; i < op->nmembers; i++)
        if (op->members[i].token != 0)
            release_orphan(call->service, op->request_id, op->members[i].resource,
                           op->members[i].token);
}

static void granted(struct call *call, int64_t token, int64_t decided_us)
{
    service_saw(call->service, token, 0, 0);
    /* A changed mode cannot be taken back: the old token is fenced off. */
    bool refused =
        (call->end == END_CANCEL || call->end == END_DRAIN || call->end == END_SESSION) &&
        call->op.upgrade == 0;
    bool comes_back = call->op.id.p != NULL && !(call->op.bound && call->abandoned) &&
                      (nobody_waits(call) || call->end == END_DRAIN);
    if ((refused || nobody_waits(call)) && !comes_back && !call->repeated && call->op.upgrade == 0)
        release_orphans(call, token);
    if (refused) {
        answer(call, outcome_of_end(call));
        return;
    }
    call->token = token;
    if (call->op.nmembers == 1)
        call->op.members[0].token = token;
    call->ttl_ms = call->op.ttl_ms;
    metric_observe_us(M_LOCK_ACQUIRE, clock_mono_us() - call->received_us);
    call->waited_ms = decided_us > call->received_us ? (decided_us - call->received_us) / 1000 : 0;
    answer(call, OUTCOME_OK);
}

/* Its news may still be on the way over another lane: they are no second grant then. */
static void remember_found(struct call *call)
{
    struct service *s = call->service;
    s->found[s->found_next++ % FOUND_MAX] = call->op.request_id;
}

static bool was_found(const struct service *s, uint64_t request_id)
{
    for (size_t i = 0; i < FOUND_MAX; i++)
        if (s->found[i] == request_id)
            return true;
    return false;
}

/* It was taken out of the queue already. */
static void refused_waiting(struct call *call, enum call_end end)
{
    if (call->state == CALL_WITHDRAWING)
        return; /* its client has given up meanwhile */
    if (call->op.place == OP_SENT || (call->op.place == OP_QUEUED && call->state == CALL_WAITING)) {
        /* A resync, which finds that it waits no longer; or its lane has yet to bring that it had
         * come to wait. */
        call->end = end;
        return;
    }
    if (call->state != CALL_WAITING)
        return; /* to be asked again, since nobody knew what had become of it */
    call->end = end;
    stop_waiting(call);
    answer(call, outcome_of_end(call));
}

/* The tokens of a claim come one by one. True when all are here: token is the first member's then.
 */
static bool take_member(struct call *call, struct str resource, int64_t *token)
{
    bool all = true;
    for (size_t i = 0; i < call->op.nmembers; i++) {
        struct op_member *m = &call->op.members[i];
        if (str_eq(m->resource, resource))
            m->token = *token;
        all &= m->token != 0;
    }
    if (all && call->op.nmembers > 0)
        *token = call->op.members[0].token;
    return all;
}

void locks_granted(struct service *s, uint64_t request_id, struct str resource, int64_t token,
                   int64_t decided_us)
{
    struct call *call = slab_get(&s->calls, request_id);
    if (token <= 0) {
        if (call && is_lock(call))
            refused_waiting(call, token == 0 ? END_DEADLOCK : END_LEASE);
        return;
    }
    if (call == NULL || !is_lock(call) || call->state == CALL_NEW || call->state == CALL_PAUSED) {
        if (was_found(s, request_id))
            return;
        log_warn("grant_without_waiter", "request=%" PRIu64 " token=%" PRId64, request_id, token);
        release_orphan(s, request_id, resource, token);
        return;
    }
    if (!take_member(call, resource, &token))
        return;
    if (call->op.place == OP_SENT) { /* its operation will come back: decide then */
        call->granted = token;
        call->granted_us = decided_us;
        return;
    }
    if (lane_remove(service_lane(s, call->op.resource), &call->op))
        s->submitted--;
    if (call->state == CALL_WAITING)
        stop_waiting(call);
    granted(call, token, decided_us);
}

/* --- leaving the queue --- */

static void on_withdrawn(struct op *op)
{
    struct call *call = container_of(op, struct call, op);
    call->service->submitted--;
    if (call->granted != 0) {
        granted(call, call->granted, call->granted_us);
    } else if (op->status == OP_GUARDED) { /* somebody's transaction keeps the row locked */
        list_append(&call->service->paused, &call->at);
        service_look(call->service);
    } else if (op->status == OP_AGAIN) {
        remember_found(call);
        granted(call, op->number, op->sent_us);
    } else {
        answer(call, outcome_of_end(call));
    }
}

static void submit_withdrawal(struct call *call)
{
    call->op.number = call->ticket;
    call->service->submitted++;
    service_submit(call->service, &call->op);
}

static void withdraw(struct call *call, enum call_end end)
{
    struct service *s = call->service;
    if (call->end == END_NONE)
        call->end = end;
    /* A client that closes its socket seems to end its input only: it may come back, too. */
    bool keep = (call->abandoned || call->end == END_INPUT || call->end == END_DRAIN) &&
                call->op.id.p != NULL;
    if (call->state == CALL_WAITING)
        stop_waiting(call);
    call->state = CALL_WITHDRAWING;
    call->op.kind = OP_WITHDRAW;
    call->op.lazy = false;
    call->op.keep_ms = keep ? s->o.settings->requeue_grace_ms : OP_KEEP_NONE;
    call->op.patient = true; /* until it is done, a grant may still come */
    call->op.done = on_withdrawn;
    submit_withdrawal(call);
}

/* Ends a wait unless its operation is on the way: then what comes back ends it. */
static void end_wait(struct call *call, enum call_end end)
{
    struct service *s = call->service;
    if (call->op.place == OP_QUEUED) { /* a resync that was not sent yet */
        lane_remove(service_lane(s, call->op.resource), &call->op);
        s->submitted--;
    }
    if (call->op.place == OP_SENT)
        call->end = end;
    else
        withdraw(call, end);
}

static void on_wait_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)revents;
    end_wait(w->data, END_TIMEOUT);
}

/* --- LOCK --- */

static void start_waiting(struct call *call)
{
    struct service *s = call->service;
    metric_add2(M_LOCK_CONTENTION, call->op.exclusive ? 0 : 1, CONTENTION_WAITED, 1);
    call->state = CALL_WAITING;
    call->ticket = call->op.number;
    list_append(&s->waiters, &call->at);
    call->waiting_since_us = clock_mono_us();
    s->waiting++;
    s->bound_waiting += call->op.session != 0;
    ++*crowd(call);
    if (call->wait_ms != DURATION_INF) {
        int64_t left_us = call->received_us + 1000 * call->wait_ms - call->waiting_since_us;
        ev_timer_set(&call->timer, left_us > 0 ? (double)left_us / 1e6 : 0., 0.);
        ev_timer_start(s->o.loop, &call->timer);
    }
    if (s->draining)
        withdraw(call, END_DRAIN);
    else if (nobody_waits(call) || call->end != END_NONE)
        withdraw(call, END_CANCEL);
}

/* A LOCK that was not done; cancelled is what its client wanted to hear. */
static void not_done(struct call *call, enum outcome outcome)
{
    answer(call, call->end == END_CANCEL ? OUTCOME_CANCELLED : outcome);
}

static void refused(struct call *call, enum contention reason, enum outcome outcome)
{
    metric_add2(M_LOCK_CONTENTION, call->op.exclusive ? 0 : 1, reason, 1);
    not_done(call, outcome);
}

/*
 * How long a request is tried again whose guard, or whose lease's row, is locked by others. Most
 * fences last no longer than a short transaction; who keeps one for long wants it kept.
 */
static int64_t patience_ms(const struct call *call)
{
    if (is_lock(call))
        return call->wait_ms > GUARDED_MS ? call->wait_ms : GUARDED_MS;
    return call->op.status == OP_FENCED ? GUARDED_MS
                                        : call->service->o.settings->request_timeout_ms;
}

/* Gives up on what is locked by others. */
static void end_guarded(struct call *call)
{
    if (call->op.status == OP_FENCED)
        answer(call, OUTCOME_FENCED);
    else if (!is_lock(call))
        answer(call, OUTCOME_UNAVAILABLE);
    else
        refused(call, CONTENTION_GUARDED,
                call->wait_ms > GUARDED_MS ? OUTCOME_TIMEOUT : OUTCOME_GUARDED);
}

static void guarded(struct call *call)
{
    int64_t tried_ms = (clock_mono_us() - call->received_us) / 1000;
    /* An UNLOCK is carried out for a client that is gone, too. */
    bool wanted = !nobody_waits(call) || call->op.kind == OP_RELEASE;
    if (tried_ms < patience_ms(call) && wanted && call->end == END_NONE) {
        call->state = CALL_PAUSED;
        list_append(&call->service->paused, &call->at);
        service_look(call->service);
    } else {
        end_guarded(call);
    }
}

static enum outcome too_many(enum outcome of_what)
{
    count_limit_met(of_what == OUTCOME_TOO_MANY_OF_OWNER      ? LIMIT_WAITERS_PER_OWNER
                    : of_what == OUTCOME_TOO_MANY_OF_RESOURCE ? LIMIT_WAITERS_PER_RESOURCE
                                                              : LIMIT_WAITERS);
    return of_what;
}

/* A request that wanted to wait and could not: see locks_acquire(). */
static enum outcome outcome_of_busy(const struct call *call)
{
    if (call->wait_ms == 0)
        return OUTCOME_BUSY;
    return call->service->draining ? OUTCOME_DRAINING : too_many(call->may_not_wait);
}

/* Of those that need nothing but an answer. */
static enum outcome outcome_of_status(enum op_status status)
{
    switch (status) {
    case OP_DONE:
    case OP_BOUND:
        return OUTCOME_OK;
    case OP_LOST:
        return OUTCOME_LOST;
    case OP_MISMATCH:
        return OUTCOME_ID_MISMATCH;
    case OP_DENIED:
        return OUTCOME_DENIED;
    case OP_DEADLOCK:
        return OUTCOME_DEADLOCK;
    case OP_OTHER_LIMIT:
        return OUTCOME_LIMIT_MISMATCH;
    case OP_UNAVAILABLE:
        return OUTCOME_UNAVAILABLE;
    case OP_UNKNOWN:
        return OUTCOME_UNKNOWN;
    default:
        return OUTCOME_INTERNAL;
    }
}

static void on_acquired(struct op *op)
{
    struct call *call = container_of(op, struct call, op);
    call->service->submitted--;
    switch (op->status) {
    case OP_AGAIN:
        call->repeated = true;
        granted(call, op->number, op->sent_us);
        break;
    case OP_DONE:
        if (op->was_unknown)
            remember_found(call);
        granted(call, op->number, op->sent_us);
        break;
    case OP_WAITS_TELL:
        for (size_t i = 0; i < op_resources(op); i++)
            service_tell(call->service, op_resource(op, i));
        /* fall through */
    case OP_WAITS:
        if (call->granted != 0) /* another lane has brought the grant already */
            granted(call, call->granted, call->granted_us);
        else
            start_waiting(call);
        break;
    case OP_BUSY:
        refused(call, CONTENTION_BUSY, outcome_of_busy(call));
        break;
    case OP_QUIET:
        refused(call, CONTENTION_QUIET, OUTCOME_QUIET);
        break;
    case OP_GUARDED:
    case OP_FENCED:
        guarded(call);
        break;
    case OP_UNAVAILABLE:
        not_done(call, OUTCOME_UNAVAILABLE);
        break;
    case OP_TOO_MANY:
        count_limit_met(LIMIT_LEASES_PER_OWNER);
        answer(call, OUTCOME_TOO_MANY_LEASES);
        break;
    default:
        answer(call, outcome_of_status(op->status));
    }
}

void locks_acquire(struct call *call)
{
    struct service *s = call->service;
    call->op.wait = call->wait_ms > 0 && !s->draining && places_take(call, &call->may_not_wait);
    /* Behind others that wait it will wait, too: nobody is served sooner if it hurries. */
    call->op.lazy = call->op.wait && *crowd(call) > 0;
    call->op.leases_max = (int32_t)s->o.settings->max_leases_per_owner;
    call->op.done = on_acquired;
    submit(call);
}

/* --- UNLOCK, RENEW --- */

/* An UNLOCK or RENEW is back. */
static void on_ended_or_renewed(struct op *op)
{
    struct call *call = container_of(op, struct call, op);
    call->service->submitted--;
    if (op->status == OP_GUARDED || op->status == OP_FENCED) {
        op->number = call->token;
        guarded(call);
        return;
    }
    call->bound = op->status == OP_BOUND;
    if (op->kind == OP_RENEW) {
        call->ttl_ms = op->number;
        count_renewal(RENEWED_LEASE, outcome_of_status(op->status));
    } else {
        call->held_ms = op->number;
    }
    if (op->kind == OP_RELEASE && op->status == OP_DONE) {
        count_ended(LEASE_RELEASED, 1);
        metric_observe_us(M_LOCK_HOLD, 1000 * op->number);
    }
    answer(call, outcome_of_status(op->status));
}

void locks_release_or_renew(struct call *call)
{
    call->op.done = on_ended_or_renewed;
    call->token = call->op.number;
    submit(call);
}

void locks_release_bound(struct service *s, uint64_t conn_id, struct str resource, int64_t token)
{
    struct chore *c = orphan_new(s, resource, token);
    c->op.conn_id = conn_id;
    c->op.closed_conn = (int64_t)conn_id;
    service_submit(s, &c->op);
}

/* --- ends from outside --- */

/* Takes a RENEW, or a LOCK that does not wait yet, back; false when it is on its way. */
static bool take_back(struct call *call)
{
    struct service *s = call->service;
    if (call->state == CALL_NEW || call->state == CALL_PAUSED)
        return true;
    if (call->state != CALL_SUBMITTED ||
        !lane_remove(service_lane(s, call->op.resource), &call->op))
        return false;
    s->submitted--;
    return true;
}

bool locks_cancel(struct call *call)
{
    if (!is_lock(call) || call->state == CALL_WITHDRAWING || call->end != END_NONE)
        return false;
    call->end = END_CANCEL;
    call->op.unwanted = true;
    if (call->state == CALL_WAITING)
        end_wait(call, END_CANCEL);
    else if (take_back(call))
        answer(call, OUTCOME_CANCELLED);
    return true;
}

void locks_end_input(struct call *call)
{
    if (!is_lock(call) || call->state == CALL_WITHDRAWING || call->end != END_NONE)
        return;
    if (call->state == CALL_WAITING)
        end_wait(call, END_INPUT);
    else
        call->end = END_INPUT;
    /* It may have closed its socket, and have asked another daemon meanwhile. */
    call->op.unwanted = true;
}

void locks_abandon(struct call *call)
{
    call->abandoned = true;
    call->op.unwanted = true;
    if (call->state == CALL_NEW) {
        answer(call, OUTCOME_CANCELLED);
        return;
    }
    /* A RENEW that comes late could bind a lease again that its client has taken elsewhere. */
    if (call->op.kind == OP_RELEASE)
        return; /* asked for, and carried out */
    if (call->state == CALL_WAITING)
        end_wait(call, END_CANCEL);
    else if (take_back(call))
        answer(call, OUTCOME_CANCELLED);
}

void locks_drain(struct service *s)
{
    list_for_each(at, &s->waiters) end_wait(container_of(at, struct call, at), END_DRAIN);
}

/* --- sessions that end while requests wait to be bound to them --- */

static void on_ended_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct service *s = container_of(a, struct service, sessions_ask);
    (void)question;
    for (int i = 0; i < link_rows_count(rows); i++) {
        int64_t session = link_int(rows, i, 0);
        list_for_each(at, &s->waiters)
        {
            struct call *call = container_of(at, struct call, at);
            if (call->op.session == session)
                end_wait(call, END_SESSION);
        }
    }
}

static void on_ended_done(struct ask *a, bool ok)
{
    (void)ok; /* asked again with the next heartbeat */
    container_of(a, struct service, sessions_ask)->asking_sessions = false;
}

void locks_look_at_sessions(struct service *s)
{
    struct array_writer w;
    int left = SESSIONS_ASKED_MAX;
    if (s->bound_waiting == 0 || s->asking_sessions)
        return;
    struct ask *a = &s->sessions_ask;
    *a = (struct ask){.questions = 1,
                      .question = {ASK_SESSIONS_ENDED},
                      .rows = on_ended_rows,
                      .done = on_ended_done};
    link_param_open(&a->params[0]);
    array_begin(&w, &a->params[0].bytes, PG_INT8);
    list_for_each(at, &s->waiters)
    {
        const struct call *call = container_of(at, struct call, at);
        if (call->op.session != 0 && left-- > 0)
            array_put_int8(&w, call->op.session);
    }
    array_end(&w);
    link_param_close(&a->params[0]);
    s->asking_sessions = true;
    reader_ask(s->reader, a, HEARTBEAT_MS);
}

/* --- after the loss of a connection, or of the queue itself --- */

/* It is not in the queue any more, and has no lease. */
static enum outcome outcome_of_loss(const struct call *call)
{
    if (call->op.status == OP_DEADLOCK)
        return OUTCOME_DEADLOCK;
    if (call->op.status == OP_NO_SESSION)
        return OUTCOME_LOST;
    if (call->end == END_SESSION || call->end == END_LEASE || call->end == END_DEADLOCK)
        return outcome_of_end(call);
    /* Nobody takes over the place of a change of mode: its lease has ended. */
    return call->op.upgrade != 0 ? OUTCOME_LOST : OUTCOME_SUPERSEDED;
}

static void on_resynced(struct op *op)
{
    struct call *call = container_of(op, struct call, op);
    call->service->submitted--;
    if (call->granted != 0 || op->status == OP_AGAIN) {
        if (call->granted == 0)
            remember_found(call);
        stop_waiting(call);
        granted(call, call->granted ? call->granted : op->number,
                call->granted ? call->granted_us : op->sent_us);
    } else if (op->status == OP_LOST || op->status == OP_NO_SESSION || op->status == OP_DEADLOCK) {
        stop_waiting(call);
        answer(call, outcome_of_loss(call));
    } else if (call->end != END_NONE || nobody_waits(call)) {
        withdraw(call, call->end == END_NONE ? END_CANCEL : call->end);
    }
}

static void resync(struct call *call)
{
    if (call->state != CALL_WAITING || call->op.place != OP_IDLE)
        return;
    call->op.kind = OP_RESYNC;
    call->op.lazy = false;
    /* Of a grant that has come in part and ended meanwhile nothing counts. */
    for (size_t i = 0; i < call->op.nmembers; i++)
        call->op.members[i].token = 0;
    call->op.number = call->ticket;
    call->op.patient = true;
    call->op.done = on_resynced;
    call->service->submitted++;
    service_submit(call->service, &call->op);
}

void locks_resync(struct service *s, int lane)
{
    if (s->waiting == 0)
        return;
    log_info("queue_resync", "lane=%d waiters=%" PRId64, lane, s->waiting);
    list_for_each(at, &s->waiters)
    {
        struct call *call = container_of(at, struct call, at);
        if (lane < 0 || service_lane(s, call->op.resource) == s->lanes[lane])
            resync(call);
    }
}

/* --- what took too long --- */

static void look_at_slow(void *arg, struct op *op)
{
    const int64_t *before_us = arg;
    struct call *call = container_of(op, struct call, op);
    bool of_client =
        op->done == on_acquired || op->done == on_ended_or_renewed || op->done == on_withdrawn;
    if (of_client && op->queued_us < *before_us)
        answer_early(call);
}

void locks_look(struct service *s, int64_t now_us)
{
    int64_t before_us = now_us - 1000 * s->o.settings->request_timeout_ms;
    struct list again;
    for (int i = 0; i < s->nlanes; i++) {
        lane_expire(s->lanes[i], before_us);
        lane_each_queued(s->lanes[i], look_at_slow, &before_us);
        if (lane_sent_since_us(s->lanes[i]) < before_us)
            lane_each_sent(s->lanes[i], look_at_slow, &before_us);
    }
    list_init(&again);
    list_splice(&again, &s->paused);
    while (!list_empty(&again)) {
        struct call *call = list_first(&again, struct call, at);
        list_remove(&call->at);
        if (call->state == CALL_WITHDRAWING)
            submit_withdrawal(call);
        else if (is_lock(call) && call->op.unwanted)
            end_guarded(call);
        else
            submit(call);
    }
}
