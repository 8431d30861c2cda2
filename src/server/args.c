#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/internal.h"
#include "service/counts.h"
#include "wire/duration.h"
#include "wire/resource.h"

bool arg_is_resource(struct request *r, struct str s, bool tree)
{
    const char *wrong = tree && str_is(s, "/") ? NULL : resource_check(s);
    if (wrong == NULL)
        return true;
    request_fail(r, STATUS_ERR, "bad_resource", "%s is not a resource: %s", log_quote(s), wrong);
    return false;
}

bool arg_resource(struct request *r, const struct wire_request *w, size_t i, struct str *out)
{
    *out = w->args[i];
    return arg_is_resource(r, *out, true) && request_may(r, *out, false);
}

/* Digits only, below 2^53. */
static bool parse_number(struct str s, int64_t *out)
{
    int64_t v = 0;
    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (s.p[i] - '0');
    }
    *out = v;
    return v < INT64_C(1) << 53;
}

bool arg_number(struct request *r, const struct wire_request *w, const char *key, int64_t min,
                int64_t max, int64_t standard, int64_t *out)
{
    const struct str *value = wire_value(w, key);
    *out = standard;
    if (value == NULL)
        return true;
    if (parse_number(*value, out) && *out >= min && *out <= max)
        return true;
    request_fail(r, STATUS_ERR, "bad_request",
                 "%s must be a whole number from %" PRId64 " to %" PRId64 ", not %s", key, min, max,
                 log_quote(*value));
    return false;
}

bool arg_session(struct request *r, struct str s, int64_t *out)
{
    if (parse_number(s, out) && *out > 0)
        return true;
    request_fail(r, STATUS_ERR, "bad_request",
                 "%s is not a session: it is the number that SESSION OPEN answered", log_quote(s));
    return false;
}

bool arg_token(struct request *r, const struct wire_request *w, int64_t *out)
{
    if (wire_value(w, "token") == NULL) {
        request_fail(r, STATUS_ERR, "bad_request",
                     "token=T is needed: the number that LOCK answered");
        return false;
    }
    return arg_number(r, w, "token", 1, (INT64_C(1) << 53) - 1, 0, out);
}

bool arg_duration(struct request *r, const struct wire_request *w, const char *key, bool allow_inf,
                  int64_t standard, int64_t *out)
{
    const struct str *value = wire_value(w, key);
    *out = standard;
    if (value == NULL)
        return true;
    const char *wrong = duration_parse(*value, allow_inf, out);
    if (wrong == NULL)
        return true;
    request_fail(r, STATUS_ERR, "bad_duration", "%s=%s: %s", key, log_quote(*value), wrong);
    return false;
}

bool arg_text(struct request *r, const struct wire_request *w, const char *key, size_t min,
              size_t max, struct str *out)
{
    const struct str *value = wire_value(w, key);
    *out = (struct str){0};
    if (value == NULL)
        return true;
    if (value->n < min || value->n > max) {
        request_fail(r, STATUS_ERR, "bad_request", "%s must have %zu to %zu bytes, it has %zu", key,
                     min, max, value->n);
        return false;
    }
    *out = *value;
    if (out->p == NULL)
        out->p = "";
    return true;
}

bool arg_choice(struct request *r, const struct wire_request *w, const char *key, const char *first,
                const char *second, bool *is_first)
{
    const struct str *value = wire_value(w, key);
    *is_first = value == NULL || str_is(*value, first);
    if (*is_first || str_is(*value, second))
        return true;
    request_fail(r, STATUS_ERR, "bad_request", "%s must be %s or %s", key, first, second);
    return false;
}

bool arg_ttl(struct request *r, const struct wire_request *w, int64_t standard, int64_t *out)
{
    const struct settings *st = r->conn->server->o.settings;
    char min[24], max[24];
    if (!arg_duration(r, w, "ttl", false, standard, out))
        return false;
    if (*out == OP_TTL_SAME || (*out >= st->ttl_min_ms && *out <= st->ttl_max_ms))
        return true;
    count_limit_met(*out < st->ttl_min_ms ? LIMIT_TTL_MIN : LIMIT_TTL_MAX);
    request_fail(r, STATUS_ERR, "ttl_out_of_range", "ttl must be between %s and %s",
                 duration_format(st->ttl_min_ms, min), duration_format(st->ttl_max_ms, max));
    return false;
}
