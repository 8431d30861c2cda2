#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/handle.h"
#include "client/lease.h"

enum {
    /* How long a LOCK with an id goes on looking for a daemon after its connection broke. */
    RETURN_WITHIN_MS = 20000,
    RETURN_PAUSE_MAX_MS = 1000,
};

/* ---- leases ---- */

pglockd_lease *pglockd_lease_adopt(const char *resource, int64_t token, int64_t ttl_ms,
                                   int64_t deadline_us)
{
    pglockd_lease *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->resource = strdup(resource);
    if (!l->resource) {
        free(l);
        return NULL;
    }
    l->token = token;
    l->ttl_ms = ttl_ms;
    l->deadline_us = deadline_us;
    return l;
}

void pglockd_lease_free(pglockd_lease *l)
{
    if (!l)
        return;
    free(l->resource);
    free(l);
}

const char *pglockd_lease_resource(const pglockd_lease *l)
{
    return l->resource;
}

int64_t pglockd_lease_token(const pglockd_lease *l)
{
    return l->token;
}

int64_t pglockd_lease_ttl_ms(const pglockd_lease *l)
{
    return l->ttl_ms;
}

int64_t pglockd_lease_waited_ms(const pglockd_lease *l)
{
    return l->waited_ms;
}

int64_t pglockd_lease_deadline_us(const pglockd_lease *l)
{
    return l->deadline_us;
}

int pglockd_lease_is_lost(const pglockd_lease *l)
{
    return l->lost;
}

/* ---- LOCK ---- */

struct members {
    const pglockd_member *at;
    size_t n;
};

/* The fields that this version of the library knows, from a caller that may know fewer. */
static pglockd_lock_options options_of(const pglockd_lock_options *o)
{
    pglockd_lock_options known = PGLOCKD_LOCK_OPTIONS_INIT;
    if (o)
        memcpy(&known, o, o->size < sizeof(known) ? o->size : sizeof(known));
    return known;
}

static bool is_alike(const pglockd_member *a, const pglockd_member *b)
{
    return !a->shared == !b->shared && !a->tree == !b->tree;
}

/* Those that are like the first are arguments; each of the others has a key that says its kind. */
static void put_members(pglockd_request *r, const pglockd_member *m, size_t n)
{
    static const char *const keys[2][2] = {{"exclusive", "exclusive-tree"},
                                           {"shared", "shared-tree"}};

    for (size_t i = 0; i < n; i++)
        if (is_alike(&m[0], &m[i]))
            pglockd_request_arg(r, m[i].resource);
    if (m[0].shared)
        pglockd_request_value(r, "mode", "shared");
    if (m[0].tree)
        pglockd_request_value(r, "scope", "tree");
    for (size_t i = 0; i < n; i++)
        if (!is_alike(&m[0], &m[i]))
            pglockd_request_value(r, keys[!!m[i].shared][!!m[i].tree], m[i].resource);
}

static pglockd_request *lock_request(const struct members *m, const pglockd_lock_options *o,
                                     int64_t wait_ms)
{
    pglockd_request *r = pglockd_request_new("LOCK");
    put_members(r, m->at, m->n);
    if (o->ttl_ms > 0)
        pglockd_request_ms(r, "ttl", o->ttl_ms);
    if (wait_ms != 0)
        pglockd_request_ms(r, "wait", wait_ms);
    if (o->id)
        pglockd_request_value(r, "id", o->id);
    if (o->owner)
        pglockd_request_value(r, "owner", o->owner);
    if (o->note)
        pglockd_request_value(r, "note", o->note);
    return r;
}

/* The token that a grant of several has for one of them; 0 when it has none. */
static int64_t token_of(const pglockd_reply *reply, const char *resource)
{
    const cJSON *lock, *locks = cJSON_GetObjectItemCaseSensitive(reply->object, "locks");

    cJSON_ArrayForEach(lock, locks)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(lock, "resource"));
        const cJSON *token = cJSON_GetObjectItemCaseSensitive(lock, "token");
        if (name && strcmp(name, resource) == 0 && cJSON_IsNumber(token))
            return (int64_t)token->valuedouble; /* exact: below 2^53 */
    }
    return 0;
}

/* The grant as a lease; NULL when the reply lacks what makes one. */
static pglockd_lease *lease_of(const char *resource, int64_t token, const pglockd_reply *reply)
{
    int64_t ttl_ms = pglockd_reply_int(reply, "ttl_ms", 0);
    int64_t waited_ms = pglockd_reply_int(reply, "waited_ms", 0);

    if (token <= 0 || ttl_ms <= 0 || waited_ms < 0)
        return NULL;
    pglockd_lease *l = pglockd_lease_adopt(
        resource, token, ttl_ms, pglockd_reply_sent_us(reply) + (waited_ms + ttl_ms) * 1000);
    if (l)
        l->waited_ms = waited_ms;
    return l;
}

/* All of them or, where one is missing, none. */
static bool take_leases(const struct members *m, const pglockd_reply *reply, pglockd_lease **leases)
{
    bool all = true;

    for (size_t i = 0; i < m->n && all; i++) {
        const char *resource = m->at[i].resource;
        int64_t token =
            m->n == 1 ? pglockd_reply_int(reply, "token", 0) : token_of(reply, resource);
        leases[i] = lease_of(resource, token, reply);
        all = leases[i] != NULL;
    }
    for (size_t i = 0; i < m->n && !all; i++) {
        pglockd_lease_free(leases[i]);
        leases[i] = NULL;
    }
    return all;
}

static void pause_ms(int ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

/* What is left of the wait that began at start_us. */
static int64_t wait_left_ms(int64_t wait_ms, int64_t start_us)
{
    if (wait_ms == PGLOCKD_FOREVER)
        return wait_ms;
    int64_t left = wait_ms - (pglockd_now_us() - start_us) / 1000;
    return left > 0 ? left : 0;
}

static bool came_apart(const pglockd *c, pglockd_status status)
{
    return status == PGLOCKD_UNREACHABLE || status == PGLOCKD_UNKNOWN ||
           (status == PGLOCKD_ERR &&
            (strcmp(c->code, "unavailable") == 0 || strcmp(c->code, "outcome_unknown") == 0));
}

/*
 * One LOCK, repeated with its id while daemons go and come. A caller that was never connected is
 * told at once; one that was waiting looks for a daemon for a while.
 */
static pglockd_status ask_lock(pglockd *c, const struct members *m, const pglockd_lock_options *o,
                               pglockd_reply **reply)
{
    int64_t start_us = pglockd_now_us(), broken_us = 0;
    bool repeated;
    int pause = 50;

    pglockd_status status = pglockd_connect(c);
    if (status != PGLOCKD_OK)
        return status;
    for (;;) {
        int64_t wait_ms = wait_left_ms(o->wait_ms, start_us), attempt_us = pglockd_now_us();
        pglockd_request *r = lock_request(m, o, wait_ms);

        status = handle_ask(c, r, wait_ms, o->id != NULL, &repeated, reply);
        pglockd_request_free(r);
        if (!o->id || !came_apart(c, status))
            return status;
        /* An attempt that lasted was a daemon that worked: the search begins anew. */
        int64_t now = pglockd_now_us();
        if (!broken_us || now - attempt_us > RETURN_WITHIN_MS * INT64_C(1000))
            broken_us = now;
        if (now - broken_us > RETURN_WITHIN_MS * INT64_C(1000) ||
            wait_left_ms(o->wait_ms, start_us) == 0)
            return status;
        pglockd_reply_free(*reply);
        *reply = NULL;
        pause_ms(pause);
        pause = pause * 2 < RETURN_PAUSE_MAX_MS ? pause * 2 : RETURN_PAUSE_MAX_MS;
    }
}

pglockd_status pglockd_lock_all(pglockd *c, const pglockd_member *members, size_t n,
                                const pglockd_lock_options *o, pglockd_lease **leases)
{
    const struct members m = {members, n};
    pglockd_lock_options options = options_of(o);
    pglockd_reply *reply = NULL;

    for (size_t i = 0; i < n; i++)
        leases[i] = NULL;
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    if (n == 0)
        return handle_fail(c, PGLOCKD_INVALID, "", "nothing to lock was named");
    if (options.wait_ms < 0 && options.wait_ms != PGLOCKD_FOREVER)
        return handle_fail(c, PGLOCKD_INVALID, "", "a wait is not negative");
    pglockd_status status = ask_lock(c, &m, &options, &reply);
    if (status == PGLOCKD_OK && !take_leases(&m, reply, leases))
        status = handle_fail(c, PGLOCKD_PROTOCOL, "",
                             "the grant has no token or no ttl_ms, or memory ran out");
    pglockd_reply_free(reply);
    return status;
}

pglockd_status pglockd_lock(pglockd *c, const char *resource, const pglockd_lock_options *o,
                            pglockd_lease **lease)
{
    const pglockd_member member = {resource, options_of(o).shared, 0};
    return pglockd_lock_all(c, &member, 1, o, lease);
}

/* ---- UNLOCK, RENEW, CHECK ---- */

static pglockd_status ask_lease(pglockd *c, const char *verb, const pglockd_lease *l,
                                int64_t ttl_ms, bool *repeated, pglockd_reply **reply)
{
    pglockd_request *r = pglockd_request_new(verb);
    pglockd_request_arg(r, l->resource);
    pglockd_request_int(r, "token", l->token);
    if (ttl_ms > 0)
        pglockd_request_ms(r, "ttl", ttl_ms);
    *reply = NULL;
    pglockd_status status = handle_ask(c, r, 0, true, repeated, reply);
    pglockd_request_free(r);
    return status;
}

/*
 * Did an earlier attempt, whose reply was lost, release it? Every end that the holder did not ask
 * for leaves its reason behind, and before the deadline there is no other end than ours.
 */
static bool was_our_release(const pglockd_lease *l, const pglockd_reply *reply)
{
    const char *reason = pglockd_reply_string(reply, "reason", "unknown");

    if (strcmp(reason, "released") == 0)
        return true;
    return strcmp(reason, "unknown") == 0 && pglockd_now_us() < l->deadline_us;
}

pglockd_status pglockd_unlock(pglockd *c, pglockd_lease *l)
{
    pglockd_reply *reply;
    bool repeated;

    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    pglockd_unkeep(c, l);
    keeper_share_address(c->keeper, c);
    pglockd_status status = ask_lease(c, "UNLOCK", l, 0, &repeated, &reply);
    if (status == PGLOCKD_LOST && repeated && was_our_release(l, reply)) {
        c->error[0] = c->code[0] = '\0';
        status = PGLOCKD_OK;
    }
    if (status == PGLOCKD_LOST)
        l->lost = 1;
    pglockd_reply_free(reply);
    return status;
}

pglockd_status pglockd_renew(pglockd *c, pglockd_lease *l, int64_t ttl_ms)
{
    pglockd_reply *reply;
    bool repeated;

    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    if (ttl_ms <= 0)
        ttl_ms = l->ttl_ms;
    pglockd_status status = ask_lease(c, "RENEW", l, ttl_ms, &repeated, &reply);
    if (status == PGLOCKD_OK) {
        int64_t granted_ms = pglockd_reply_int(reply, "ttl_ms", 0);
        l->ttl_ms = ttl_ms;
        l->deadline_us = pglockd_reply_sent_us(reply) + granted_ms * 1000;
    } else if (status == PGLOCKD_LOST) {
        /* Kept in code, where the caller of a background renewal finds it. */
        snprintf(c->code, sizeof(c->code), "%s", pglockd_reply_string(reply, "reason", "unknown"));
        l->lost = 1;
    }
    pglockd_reply_free(reply);
    return status;
}

pglockd_status pglockd_check(pglockd *c, pglockd_lease *l, int64_t *ttl_ms)
{
    pglockd_reply *reply;
    bool repeated;

    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    pglockd_status status = ask_lease(c, "CHECK", l, 0, &repeated, &reply);
    if (status == PGLOCKD_OK && ttl_ms)
        *ttl_ms = pglockd_reply_int(reply, "ttl_ms", 0);
    if (status == PGLOCKD_LOST)
        l->lost = 1;
    pglockd_reply_free(reply);
    return status;
}
