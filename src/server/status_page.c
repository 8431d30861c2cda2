#include "server/status_page.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "server/overview.h"
#include "server/page_html.h"
#include "service/identities.h"
#include "wire/resource.h"

/* --- the page --- */

/* Where the nonce goes in page.html: opened as a file it is one like any other. */
static const char nonce_mark[] = "NONCE";

void status_page_put(struct buf *out, const char *nonce)
{
    struct str rest = {(const char *)page_html, page_html_size};
    const size_t n = strlen(nonce_mark);
    const char *at;
    while ((at = memmem(rest.p, rest.n, nonce_mark, n)) != NULL) {
        buf_put(out, rest.p, (size_t)(at - rest.p));
        buf_puts(out, nonce);
        rest = (struct str){at + n, rest.n - (size_t)(at - rest.p) - n};
    }
    buf_put(out, rest.p, rest.n);
}

void status_page_put_policy(struct buf *out, const char *nonce)
{
    buf_printf(
        out,
        "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        nonce, nonce);
}

/* --- /api/status --- */

struct question {
    struct overview_wait wait;
    struct http_later *later;
};

static struct json begin(struct buf *body, const char *code, const char *message)
{
    struct json j = json_to(body);
    json_begin_object(&j);
    if (code) {
        json_put_string(&j, "code", str_of(code));
        json_put_string(&j, "message", str_of(message));
    }
    return j;
}

static void end(struct json *j, struct http_later *later, enum http_end how)
{
    json_end_object(j);
    buf_putc(j->out, '\n');
    http_answer(later, how, j->out);
}

static void refuse(struct http_later *later, enum http_end how, const char *code,
                   const char *message)
{
    struct buf body = {0};
    struct json j = begin(&body, code, message);
    end(&j, later, how);
}

static void on_answered(struct overview_wait *wait, const struct view *view)
{
    struct question *q = container_of(wait, struct question, wait);
    struct buf body = {0};
    struct json j = begin(&body, view->why ? "unavailable" : NULL, view->why);
    view_put(view, &j);
    end(&j, q->later, view->why ? HTTP_END_UNAVAILABLE : HTTP_END_OK);
    free(q);
}

static bool may_read(const struct identity *who, struct str name)
{
    return who == NULL || right_set_covers(&who->rights, RIGHT_READ, name, true);
}

void status_page_answer(struct overview *overview, struct str prefix, const struct identity *who,
                        struct http_later *later)
{
    const char *wrong = prefix.n > 0 ? resource_check(prefix) : NULL;
    if (wrong) {
        struct buf message = {0};
        buf_printf(&message, "prefix: %s", wrong);
        refuse(later, HTTP_END_BAD_REQUEST, "bad_resource", buf_cstr(&message));
        buf_free(&message);
        return;
    }
    bool whole = may_read(who, STR_LIT("/"));
    if (!whole && !(prefix.n > 0 && may_read(who, prefix))) {
        refuse(
            later, HTTP_END_FORBIDDEN, "no_right",
            "this needs the right to read all of it; name a prefix where everything may be read");
        return;
    }
    if (overview == NULL) {
        refuse(later, HTTP_END_UNAVAILABLE, "unavailable", "the daemon is starting");
        return;
    }
    struct question *q = xcalloc(1, sizeof(*q));
    q->wait.answered = on_answered;
    q->later = later;
    overview_ask(overview, prefix.n > 0 ? prefix : (struct str){0}, whole, &q->wait);
}
