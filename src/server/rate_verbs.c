#include <inttypes.h>
#include <stdlib.h>

#include "server/internal.h"
#include "wire/utf8.h"

enum { KEY_BYTES_MAX = 512, POLICY_BYTES_MAX = 64, ID_BYTES_MAX = 64 };

static const char *const source_names[RATE_SOURCES] = {"database", "local", "fallback"};

/* --- replies --- */

static void put_numbers(struct json *j, const struct rate_answer *a)
{
    json_put_int(j, "limit", a->limit);
    json_put_int(j, "remaining", a->remaining);
    json_put_int(j, "reset_ms", a->reset_ms);
    json_put_int(j, "retry_after_ms", a->retry_after_ms);
    json_put_string(j, "policy", str_of(a->policy));
    json_put_string(j, "source", str_of(source_names[a->source]));
}

void rate_put_limited(struct json *j, const char *what, const struct rate_answer *a)
{
    struct buf message = {0};
    if (a->source == RATE_FALLBACK)
        buf_printf(&message, "the limit %s of %s cannot be looked up while PostgreSQL is away",
                   a->policy, what);
    else
        buf_printf(&message, "%s is over its limit %s, try again in %" PRId64 " ms", what,
                   a->policy, a->retry_after_ms);
    json_put_string(j, "code",
                    a->source == RATE_FALLBACK ? STR_LIT("postgres_away") : STR_LIT("limited"));
    json_put_string(j, "message", buf_str(&message));
    buf_free(&message);
    put_numbers(j, a);
}

static void reply(struct request *r, const struct rate_answer *a)
{
    bool ok = a->result == RATE_ALLOWED;
    struct json j = request_begin(r, ok ? STATUS_OK : STATUS_LIMITED);
    if (ok)
        put_numbers(&j, a);
    else
        rate_put_limited(&j, "the key", a);
    if (a->repeated)
        json_put_bool(&j, "repeated", true);
    if (a->over)
        json_put_bool(&j, "shadow_denied", true);
    request_end(r, ok ? STATUS_OK : STATUS_LIMITED, &j);
}

void rate_refuse(struct request *r, const struct rate_answer *a)
{
    switch (a->result) {
    case RATE_NO_POLICY:
        request_fail(r, STATUS_ERR, "no_policy",
                     "no policy is for this key; name a limit with limit= and per=, or make a "
                     "policy with pglockctl rate policy set");
        break;
    case RATE_NEVER:
        request_fail(r, STATUS_ERR, "cost_above_burst",
                     "the cost is above the burst of %" PRId64 ": it can never pass", a->burst);
        break;
    case RATE_ID_MISMATCH:
        request_fail(r, STATUS_ERR, "id_mismatch",
                     "this id was used with another key, cost or limit");
        break;
    default:
        request_fail(r, STATUS_ERR, "internal",
                     "the database refused it; the daemon's log says why");
    }
}

static void give(struct request *r, const struct rate_answer *a)
{
    if (a->result == RATE_ALLOWED || a->result == RATE_DENIED)
        reply(r, a);
    else
        rate_refuse(r, a);
}

static void on_answered(void *user, const struct rate_answer *a)
{
    struct request *r = user;
    r->rate_call = NULL;
    give(r, a);
}

/* --- arguments --- */

/* Any text will do that can be shown and stored. */
static bool arg_key(struct request *r, struct str key)
{
    const char *wrong = NULL;
    if (key.n == 0 || key.n > KEY_BYTES_MAX)
        wrong = "it must have 1 to 512 bytes";
    else if (!utf8_valid(key))
        wrong = "it is not UTF-8";
    for (size_t i = 0; wrong == NULL && i < key.n; i++)
        if ((unsigned char)key.p[i] < 0x20 || key.p[i] == 0x7f)
            wrong = "it has a control character";
    if (wrong)
        request_fail(r, STATUS_ERR, "bad_key", "that is not a key: %s", wrong);
    return wrong == NULL;
}

static bool arg_limit(struct request *r, const struct wire_request *w, struct rate_ask *ask)
{
    struct rate_limit limit;
    bool has_limit = wire_value(w, "limit") != NULL;
    if (!has_limit && !wire_value(w, "per") && !wire_value(w, "burst"))
        return true;
    if (!has_limit || !wire_value(w, "per") || ask->policy.n > 0) {
        request_fail(r, STATUS_ERR, "bad_request",
                     ask->policy.n > 0 ? "policy= and limit= are two ways to name a limit: use one"
                                       : "limit= needs per=, and per= and burst= need limit=");
        return false;
    }
    if (!arg_number(r, w, "limit", 1, RATE_PERMITS_MAX, 0, &ask->quota) ||
        !arg_duration(r, w, "per", false, 0, &ask->period_ms) ||
        !arg_number(r, w, "burst", 1, RATE_PERMITS_MAX, ask->quota, &ask->burst))
        return false;
    if (ask->period_ms < 1 || ask->period_ms > RATE_PERIOD_MAX_MS) {
        request_fail(r, STATUS_ERR, "bad_request", "per must be between 1ms and 366d");
        return false;
    }
    if (rate_limit_set(&limit, ask->quota, 1000000 * ask->period_ms, ask->burst))
        return true;
    request_fail(r, STATUS_ERR, "bad_request",
                 "the burst would take more than ten years to come back");
    return false;
}

static bool arg_peek(struct request *r, const struct wire_request *w, bool *peek)
{
    const struct str *value = wire_value(w, "peek");
    *peek = value && str_is(*value, "true");
    if (value == NULL || *peek || str_is(*value, "false"))
        return true;
    request_fail(r, STATUS_ERR, "bad_request", "peek must be true or false");
    return false;
}

void verb_rate(struct request *r, const struct wire_request *w)
{
    struct rate_ask ask = {.use = RATE_USE_RATE,
                           .key = w->args[0],
                           .identity = conn_identity(r->conn),
                           .received_us = r->received_us};
    struct rate_answer a;
    if (!arg_key(r, ask.key) || !request_may(r, ask.key, false) ||
        !arg_number(r, w, "cost", 1, RATE_PERMITS_MAX, 1, &ask.cost) ||
        !arg_text(r, w, "policy", 1, POLICY_BYTES_MAX, &ask.policy) || !arg_limit(r, w, &ask) ||
        !arg_peek(r, w, &ask.peek) || !arg_text(r, w, "id", 1, ID_BYTES_MAX, &ask.id))
        return;
    r->rate_call = rates_ask(service_rates(r->conn->server->o.service), &ask, &a, on_answered, r);
    if (r->rate_call == NULL)
        give(r, &a);
}
