/* Watched prefixes: they outlive connections, and know how far their events have been told. */

#include "client/watch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/handle.h"

struct watch {
    struct watch *next;
    int64_t seq; /* the last that was told */
    char prefix[];
};

static struct watch **find(struct watch **list, const char *prefix)
{
    while (*list && strcmp((*list)->prefix, prefix) != 0)
        list = &(*list)->next;
    return list;
}

void watch_take_event(struct watch *list, const char *json)
{
    int nomem;
    if (list == NULL)
        return;
    pglockd_reply *r = reply_new(PGLOCKD_OK, json, &nomem);
    if (r == NULL)
        return;
    const char *prefix = pglockd_reply_string(r, "prefix", NULL);
    struct watch *w = prefix ? *find(&list, prefix) : NULL;
    if (w)
        w->seq = pglockd_reply_int(r, "seq", w->seq);
    pglockd_reply_free(r);
}

static pglockd_request *request_for(const char *prefix, int64_t after)
{
    pglockd_request *r = pglockd_request_new("WATCH");
    pglockd_request_arg(r, prefix);
    if (after >= 0)
        pglockd_request_int(r, "after", after);
    return r;
}

pglockd_status watch_resume(struct pglockd *c, int64_t until_us)
{
    for (struct watch *w = c->watches; w; w = w->next) {
        pglockd_request *r = request_for(w->prefix, w->seq);
        const char *line = pglockd_request_line(r);
        pglockd_status status = line ? handle_exchange_until(c, line, until_us)
                                     : handle_fail(c, PGLOCKD_NOMEM, "", "no memory is left");
        pglockd_request_free(r);
        if (status != PGLOCKD_OK)
            return status;
    }
    return PGLOCKD_OK;
}

void watch_free_all(struct watch *list)
{
    while (list) {
        struct watch *next = list->next;
        free(list);
        list = next;
    }
}

static void forget(struct pglockd *c, const char *prefix)
{
    struct watch **at = find(&c->watches, prefix), *w = *at;
    if (w == NULL)
        return;
    *at = w->next;
    free(w);
}

static pglockd_status remember(struct pglockd *c, const char *prefix, int64_t seq)
{
    size_t size = strlen(prefix) + 1;
    struct watch *w = malloc(sizeof(*w) + size);
    if (w == NULL)
        return handle_fail(c, PGLOCKD_NOMEM, "", "no memory is left");
    w->next = c->watches;
    w->seq = seq;
    memcpy(w->prefix, prefix, size);
    c->watches = w;
    return PGLOCKD_OK;
}

pglockd_status pglockd_watch(pglockd *c, const char *prefix, int64_t after)
{
    bool repeated;
    pglockd_reply *reply = NULL;
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    forget(c, prefix); /* lest a new connection resumes it, too */
    pglockd_request *r = request_for(prefix, after);
    pglockd_status status = handle_ask(c, r, 0, true, &repeated, &reply);
    pglockd_request_free(r);
    if (status == PGLOCKD_OK)
        status = remember(c, prefix, pglockd_reply_int(reply, "seq", after));
    pglockd_reply_free(reply);
    return status;
}

pglockd_status pglockd_unwatch(pglockd *c, const char *prefix)
{
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    if (*find(&c->watches, prefix) == NULL)
        return handle_fail(c, PGLOCKD_INVALID, "not_watched", "%s is not watched", prefix);
    forget(c, prefix);
    if (!c->connected)
        return PGLOCKD_OK;
    pglockd_request *r = pglockd_request_new("UNWATCH");
    pglockd_request_arg(r, prefix);
    pglockd_status status = pglockd_send(c, r, 0, NULL);
    pglockd_request_free(r);
    /* A connection that broke watches nothing; its successor does not know of the prefix. */
    bool gone = status == PGLOCKD_UNKNOWN || strcmp(c->code, "not_watched") == 0;
    return gone ? PGLOCKD_OK : status;
}

int64_t pglockd_watch_seq(const pglockd *c, const char *prefix)
{
    for (const struct watch *w = c->watches; w; w = w->next)
        if (strcmp(w->prefix, prefix) == 0)
            return w->seq;
    return PGLOCKD_NOW;
}
