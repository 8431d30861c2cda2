#include <inttypes.h>

#include "base/pace.h"
#include "server/internal.h"
#include "service/counts.h"

/*
 * How many requests a second a connection and a name may make. What is over is answered at once and
 * goes nowhere. Requests that free or keep something may go on for another second's worth: whoever
 * floods shall not lose by that what was locked, nor keep it from others.
 */

void request_rate_forget_name(struct conn *c)
{
    tally_drop(c->server->names, c->known_as);
    c->known_as = NULL;
}

static int64_t *rate_of_name(struct conn *c)
{
    bool claimed = c->server->identities == NULL; /* and else shown */
    if (c->known_as == NULL)
        c->known_as =
            tally_add(c->server->names, claimed ? buf_str(&c->name) : conn_identity(c), 0);
    return &c->known_as->tat_us;
}

static void refuse(struct request *r, enum limit limit, size_t rate, int64_t retry_us)
{
    const char *whose = limit == LIMIT_REQUEST_RATE ? "connection" : "name";
    struct buf message = {0};
    count_limit_met(limit);
    buf_printf(&message, "this %s may make %zu requests a second", whose, rate);
    struct json j = request_begin(r, STATUS_LIMITED);
    json_put_string(&j, "code", STR_LIT("request_rate"));
    json_put_string(&j, "message", buf_str(&message));
    json_put_int(&j, "retry_after_ms", retry_us / 1000 + 1);
    request_end(r, STATUS_LIMITED, &j);
    buf_free(&message);
}

static bool allows(struct request *r, enum limit limit, int64_t *tat_us, size_t rate, bool favoured)
{
    int64_t retry_us;
    if (rate == 0 ||
        pace_take(tat_us, r->received_us, (int64_t)rate, favoured ? PACE_SECOND_US : 0, &retry_us))
        return true;
    refuse(r, limit, rate, retry_us);
    return false;
}

bool request_rate_allows(struct request *r, bool frees_or_keeps)
{
    struct conn *c = r->conn;
    const struct settings *st = c->server->o.settings;
    return allows(r, LIMIT_REQUEST_RATE, &c->tat_us, st->max_request_rate, frees_or_keeps) &&
           (st->max_request_rate_per_name == 0 ||
            allows(r, LIMIT_REQUEST_RATE_PER_NAME, rate_of_name(c), st->max_request_rate_per_name,
                   frees_or_keeps));
}
