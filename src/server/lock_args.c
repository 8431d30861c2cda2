/* What a LOCK asks for: the arguments of the line, checked, as members and numbers. */

#include <inttypes.h>

#include "base/log.h"
#include "server/internal.h"
#include "service/counts.h"
#include "wire/duration.h"
#include "wire/prefix.h"
#include "wire/resource.h"

enum {
    OWNER_BYTES_MAX = 256,
    NOTE_BYTES_MAX = 1024,
    ID_BYTES_MAX = 64,
    SLOTS_MAX = 1000000,
};

/* Keys that name a member of another kind than mode= and scope= say. */
static const struct {
    const char *key;
    bool exclusive;
    bool tree;
} member_keys[] = {
    {"shared", false, false},
    {"exclusive", true, false},
    {"shared-tree", false, true},
    {"exclusive-tree", true, true},
};
enum { MEMBER_KEYS = sizeof(member_keys) / sizeof(member_keys[0]) };

static bool add_member(struct request *r, struct lock_args *a, struct str resource, bool exclusive,
                       bool tree)
{
    if (!arg_is_resource(r, resource, tree) || !request_may(r, resource, tree))
        return false;
    for (size_t i = 0; i < a->nmembers; i++)
        if (str_eq(a->members[i].resource, resource)) {
            request_fail(r, STATUS_ERR, "bad_request", "%s is named twice", log_quote(resource));
            return false;
        }
    size_t max = r->conn->server->o.settings->set_max;
    if (a->nmembers >= max) {
        count_limit_met(LIMIT_SET);
        request_fail(r, STATUS_ERR, "too_many_resources", "a LOCK names at most %zu resources",
                     max);
        return false;
    }
    a->members[a->nmembers++] =
        (struct op_member){.resource = resource, .exclusive = exclusive, .tree = tree};
    return true;
}

static bool arg_members(struct request *r, const struct wire_request *w, struct lock_args *a)
{
    bool exclusive, node;
    if (!arg_choice(r, w, "mode", "exclusive", "shared", &exclusive) ||
        !arg_choice(r, w, "scope", "node", "tree", &node))
        return false;
    for (size_t i = 0; i < w->nargs; i++)
        if (!add_member(r, a, w->args[i], exclusive, !node))
            return false;
    for (size_t i = 0; i < w->npairs; i++)
        for (size_t k = 0; k < MEMBER_KEYS; k++)
            if (str_is_nocase(w->pairs[i].key, member_keys[k].key) &&
                !add_member(r, a, w->pairs[i].value, member_keys[k].exclusive, member_keys[k].tree))
                return false;
    if (a->nmembers > 0)
        return true;
    request_fail(r, STATUS_ERR, "bad_request", "a LOCK needs a resource");
    return false;
}

static bool arg_semaphore(struct request *r, const struct wire_request *w, struct lock_args *a)
{
    int64_t slots, weight;
    if (!arg_number(r, w, "limit", 1, SLOTS_MAX, 0, &slots) ||
        !arg_number(r, w, "weight", 1, slots > 0 ? slots : SLOTS_MAX, 1, &weight))
        return false;
    a->slots = (int32_t)slots;
    a->weight = (int32_t)weight;
    if (slots == 0 && wire_value(w, "weight")) {
        request_fail(r, STATUS_ERR, "bad_request", "weight= needs limit=");
    } else if (slots > 0 && (a->nmembers > 1 || a->members[0].tree || !a->members[0].exclusive)) {
        request_fail(r, STATUS_ERR, "bad_request",
                     "limit= is for one resource, without scope=tree or mode=shared");
    } else {
        if (slots > 0)
            a->members[0].exclusive = false; /* slots are shared, up to their limit */
        return true;
    }
    return false;
}

/* session= and secret=, and what cannot go with them. */
static bool arg_session_of(struct request *r, const struct wire_request *w, struct lock_args *a)
{
    const struct str *id = wire_value(w, "session");
    if (!arg_text(r, w, "secret", 1, SECRET_BYTES_MAX, &a->secret) ||
        (id && !arg_session(r, *id, &a->session)))
        return false;
    if (id == NULL && a->secret.p) {
        request_fail(r, STATUS_ERR, "bad_request", "secret= needs session=");
    } else if (id && wire_value(w, "ttl")) {
        request_fail(r, STATUS_ERR, "bad_request",
                     "a lock in a session has the session's ttl: leave ttl= out");
    } else if (id && a->secret.p == NULL && !conn_has_session(r->conn, a->session)) {
        request_fail(
            r, STATUS_DENIED, "denied",
            "secret= is needed: this connection has not opened or resumed session %" PRId64,
            a->session);
    } else {
        return true;
    }
    return false;
}

/* The longest default of the members, where the request names none. */
static bool arg_grace(struct request *r, const struct wire_request *w, struct lock_args *a)
{
    const struct settings *st = r->conn->server->o.settings;
    for (size_t i = 0; st->grace.n > 0 && i < a->nmembers; i++) {
        int64_t ms = prefix_duration_of(st->grace.items, st->grace.n, a->members[i].resource);
        if (ms > a->grace_ms)
            a->grace_ms = ms;
    }
    if (!arg_duration(r, w, "grace", false, a->grace_ms, &a->grace_ms))
        return false;
    if (a->grace_ms <= SETTINGS_HOUR)
        return true;
    request_fail(r, STATUS_ERR, "bad_duration", "grace must be at most 1h");
    return false;
}

/* With token= only what goes with a change of mode. */
static bool arg_change(struct request *r, const struct wire_request *w, struct lock_args *a)
{
    static const char *const keys[] = {"token", "mode", "ttl", "wait"};
    if (!arg_token(r, w, &a->token))
        return false;
    for (size_t i = 0; i < w->npairs; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
            known |= str_is_nocase(w->pairs[i].key, keys[k]);
        if (!known || w->nargs != 1 || !wire_value(w, "mode")) {
            request_fail(r, STATUS_ERR, "bad_request",
                         "a change of mode is LOCK RESOURCE token=T mode=exclusive|shared "
                         "[wait=5s] [ttl=30s]");
            return false;
        }
    }
    return true;
}

bool lock_args_take(struct request *r, const struct wire_request *w, struct lock_args *a)
{
    bool lease;
    *a = (struct lock_args){0};
    if (wire_value(w, "token") && !arg_change(r, w, a))
        return false;
    return arg_members(r, w, a) && arg_semaphore(r, w, a) &&
           arg_choice(r, w, "bind", "lease", "connection", &lease) &&
           arg_ttl(r, w, a->token ? OP_TTL_SAME : r->conn->server->o.settings->ttl_ms,
                   &a->ttl_ms) &&
           arg_duration(r, w, "wait", true, 0, &a->wait_ms) &&
           arg_text(r, w, "owner", 0, OWNER_BYTES_MAX, &a->owner) &&
           arg_text(r, w, "note", 0, NOTE_BYTES_MAX, &a->note) &&
           arg_text(r, w, "id", 1, ID_BYTES_MAX, &a->id) && arg_session_of(r, w, a) &&
           arg_grace(r, w, a) && (a->bound = !lease, true);
}
