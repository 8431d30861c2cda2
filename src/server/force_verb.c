#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "pg/array.h"
#include "server/internal.h"
#include "service/counts.h"

/* FORCE: ends a lease against its holder's will. The holder is told; the tombstone says by whom. */

enum { REASON_BYTES_MAX = 1024 };

/* Columns of the question. */
enum { F_STATUS, F_OWNER, F_IDENTITY, F_HELD_MS, F_PENDING };

static void on_rows(struct ask *a, int question, const struct link_rows *rows)
{
    struct request *r = container_of(a, struct request, ask);
    struct json j = json_to(&r->rows);
    struct array_reader pending;
    struct str resource, status = link_text(rows, 0, F_STATUS);
    int length;
    (void)question;
    r->total = status.n == 1 ? status.p[0] : 0;
    if (r->total != 'g')
        return;
    j.comma = true;
    json_put_string(&j, "owner", link_text(rows, 0, F_OWNER));
    if (link_text(rows, 0, F_IDENTITY).n > 0)
        json_put_string(&j, "identity", link_text(rows, 0, F_IDENTITY));
    json_put_int(&j, "held_ms", link_int(rows, 0, F_HELD_MS));
    const void *value = link_bytes(rows, 0, F_PENDING, &length);
    if (r->conn && array_open(&pending, value, length))
        while (array_next_text(&pending, &resource))
            service_promote(r->conn->server->o.service, resource);
}

static void forced(struct request *r)
{
    struct json j = request_begin(r, STATUS_OK);
    log_info("forced", "conn=%" PRIu64 " identity=%s resource=%s token=%" PRId64 " reason=%s",
             r->conn->id, log_quote(conn_identity(r->conn)), log_quote(r->resource), r->token,
             log_quote(buf_str(&r->text2)));
    json_put_string(&j, "resource", r->resource);
    json_put_int(&j, "token", r->token);
    buf_put(j.out, r->rows.data, r->rows.len);
    request_end(r, STATUS_OK, &j);
}

static void on_done(struct ask *a, bool ok)
{
    if (ok && container_of(a, struct request, ask)->total == 'g')
        count_ended(LEASE_FORCED, 1);
    struct request *r = query_take_ask(a);
    if (r == NULL)
        return;
    if (!ok) {
        request_fail(r, STATUS_ERR, "outcome_unknown",
                     "the database did not answer in time: it may have been done or not; repeat "
                     "it");
    } else if (r->total == 'g') {
        forced(r);
    } else if (r->total == 'f') {
        request_fail(r, STATUS_ERR, "fenced",
                     "a transaction on the database holds on to that lease; nothing was done, try "
                     "again when it has ended");
    } else {
        buf_clear(&r->text2);
        query_lost_again(r);
    }
}

/* Who did it, as the holder is told. */
static void put_by(const struct conn *c, struct buf *out)
{
    struct str name = conn_identity(c);
    if (name.n > 0)
        buf_put(out, name.p, name.n);
    else
        buf_printf(out, "user %u over the Unix socket", (unsigned)c->uid);
}

static void start(struct request *r)
{
    query_ask_writer(r);
}

void verb_force(struct request *r, const struct wire_request *w)
{
    struct str resource, reason;
    struct buf by = {0};
    if (!arg_resource(r, w, 0, &resource) || !arg_token(r, w, &r->token) ||
        !arg_text(r, w, "reason", 1, REASON_BYTES_MAX, &reason))
        return;
    buf_put(&r->text, resource.p, resource.n);
    r->resource = buf_str(&r->text);
    buf_put(&r->text2, reason.p, reason.n);
    put_by(r->conn, &by);
    r->ask =
        (struct ask){.questions = 1, .question = {ASK_FORCE}, .rows = on_rows, .done = on_done};
    struct link_params *p = &r->ask.params[0];
    link_param_text(p, resource);
    link_param_int8(p, r->token);
    link_param_text(p, reason);
    link_param_text(p, buf_str(&by));
    buf_free(&by);
    request_start(r, true, start);
}
