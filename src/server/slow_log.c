/*
 * Requests that took long, as log events: what a waiter waits for is no fault of the service, so
 * time in a queue does not count. Bounded, since everything is slow when PostgreSQL is.
 */

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/internal.h"

enum { LINES_A_SECOND = 10 };

static bool is_slow(const struct request *r, int64_t took_us)
{
    int64_t slow_ms = r->conn->server->o.settings->slow_request_ms;

    return slow_ms > 0 && took_us - r->queued_us >= slow_ms * 1000;
}

void slow_log_look(struct request *r, struct str resource)
{
    if (is_slow(r, clock_mono_us() - r->received_us))
        buf_put(&r->slow, resource.p, resource.n);
}

bool slow_log_may(struct slow_log *log, const char *left_out_event)
{
    int64_t second = clock_mono_us() / 1000000;

    if (second != log->second) {
        if (log->left_out > 0)
            log_warn(left_out_event, "count=%u", log->left_out);
        *log = (struct slow_log){.second = second};
    }
    if (log->logged < LINES_A_SECOND) {
        log->logged++;
        return true;
    }
    log->left_out++;
    return false;
}

void slow_log_end(struct request *r, const char *status, int64_t took_us)
{
    if (!is_slow(r, took_us) || !slow_log_may(&r->conn->server->slow_log, "slow_requests_left_out"))
        return;
    log_warn("slow_request",
             "conn=%" PRIu64 " identity=%s client=%s verb=%s status=%s took_ms=%" PRId64
             " queued_ms=%" PRId64 " resource=%s",
             r->conn->id, log_quote(conn_identity(r->conn)), log_quote(buf_str(&r->conn->name)),
             verb_name(r->verb), status, took_us / 1000, r->queued_us / 1000,
             log_quote(buf_str(&r->slow)));
}
