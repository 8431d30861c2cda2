#include <stdlib.h>

#include "base/xalloc.h"
#include "server/internal.h"
#include "server/overview.h"
#include "wire/resource.h"

/* STATUS: what the status page shows. */

struct question {
    struct overview_wait wait;
    struct request *request;
};

static void on_answered(struct overview_wait *wait, const struct view *view)
{
    struct question *q = container_of(wait, struct question, wait);
    struct request *r = q->request;
    free(q);
    r->asking = false;
    if (r->conn == NULL) {
        request_release(r);
        return;
    }
    if (view->why) {
        request_fail(r, STATUS_ERR, "unavailable", "the status is not known now: %s", view->why);
        return;
    }
    struct json j = request_begin(r, STATUS_OK);
    view_put(view, &j);
    request_end(r, STATUS_OK, &j);
}

/* The prefix is in text. */
static void status(struct request *r)
{
    struct question *q = xcalloc(1, sizeof(*q));
    q->wait.answered = on_answered;
    q->request = r;
    r->asking = true;
    bool whole = conn_may(r->conn, RIGHT_READ, STR_LIT("/"), true);
    overview_ask(r->conn->server->o.overview, buf_str(&r->text), whole, &q->wait);
}

void verb_status(struct request *r, const struct wire_request *w)
{
    const struct str *prefix = wire_value(w, "prefix");
    const char *wrong = prefix ? resource_check(*prefix) : NULL;
    if (wrong) {
        request_fail(r, STATUS_ERR, "bad_resource", "prefix: %s", wrong);
        return;
    }
    if (!request_may(r, prefix ? *prefix : STR_LIT("/"), true))
        return;
    if (prefix)
        buf_put(&r->text, prefix->p, prefix->n);
    request_start(r, true, status);
}
