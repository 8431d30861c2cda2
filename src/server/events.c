#include "service/events.h"

#include "base/metrics.h"
#include "server/internal.h"

/*
 * Event lines. One that would not fit beside the replies that a client has left unread is left out,
 * and the client is told so by a gap when it has read them: events never make it lose its
 * connection, and never take more memory than its output may.
 */

/*
 * What an event line is called: the kinds of news, what happens beneath a prefix that is watched
 * (pglockd.note_ends(), pglockd.note_grants()), and a gap, which stands for those left out.
 */
enum { GRANTED = NEWS_LOST + 1, RELEASED, EXPIRED, FORCED, GAP, NAMES };

static const char *const names[NAMES] = {[NEWS_WANTED] = "wanted", [NEWS_EXPIRING] = "expiring",
                                         [NEWS_LOST] = "lost",     [GRANTED] = "granted",
                                         [RELEASED] = "released",  [EXPIRED] = "expired",
                                         [FORCED] = "forced",      [GAP] = "gap"};

void events_register_metrics(void)
{
    metrics_label_names(LABEL_EVENT, names, NAMES);
}

static bool has_room(const struct conn *c)
{
    return c->out.len - c->sent < c->server->o.settings->max_output / 2;
}

/* Begins an event with the members that all have; text with p NULL becomes null. */
static struct json event_begin(struct conn *c, unsigned event, struct str resource,
                               struct str owner, struct str mode, struct str reason)
{
    const struct {
        const char *key;
        struct str text;
    } texts[] = {{"resource", resource}, {"owner", owner}, {"mode", mode}, {"reason", reason}};
    struct json j = json_to(&c->out);
    metric_add1(M_EVENTS, event, 1);
    buf_puts(&c->out, "* EVENT ");
    json_begin_object(&j);
    json_put_string(&j, "event", str_of(names[event]));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_key(&j, texts[i].key);
        if (texts[i].text.p)
            json_string(&j, texts[i].text);
        else
            json_null(&j);
    }
    return j;
}

static void event_end(struct conn *c, struct json *j)
{
    json_end_object(j);
    buf_putc(&c->out, '\n');
    conn_mark_dirty(c);
}

static void put_seq(struct json *j, int64_t seq)
{
    json_key(j, "seq");
    if (seq > 0)
        json_int(j, seq);
    else
        json_null(j);
}

static void put_gap(struct conn *c, int64_t seq, struct str prefix, struct str code)
{
    struct json j =
        event_begin(c, GAP, (struct str){0}, (struct str){0}, (struct str){0}, (struct str){0});
    put_seq(&j, seq);
    if (prefix.p)
        json_put_string(&j, "prefix", prefix);
    json_put_string(&j, "code", code);
    event_end(c, &j);
}

void conn_tell_gap(struct conn *c)
{
    c->gap = false;
    if (c->closing || c->is_closed)
        return;
    put_gap(c, 0, (struct str){0}, STR_LIT("slow_reader"));
}

/* --- what a holder is told --- */

static void put_wanted(struct json *j, const struct news *n)
{
    json_put_int(j, "waiting", n->waiting);
    if (n->by_owner.p)
        json_put_string(j, "by_owner", n->by_owner);
    json_put_string(j, "by_mode", n->by_mode);
    json_put_int(j, "waiting_ms", n->waiting_ms);
}

static void put_lost(struct json *j, const struct news *n)
{
    if (n->lost_ms >= 0)
        json_put_int(j, "lost_ms", n->lost_ms);
    if (n->detail.n > 0)
        json_put_string(j, "detail", n->detail);
    if (n->held_by.p)
        json_put_string(j, "held_by", n->held_by);
}

/* Without what is told of others. */
static struct news own_part(const struct news *n)
{
    struct news own = *n;
    own.by_owner = own.held_by = (struct str){0};
    return own;
}

static void on_news(void *arg, const struct news *n)
{
    struct conn *c = arg;
    if (c->closing)
        return;
    if (c->gap || !has_room(c)) {
        c->gap = true;
        return;
    }
    struct news own = own_part(n);
    if (!conn_may(c, RIGHT_READ, n->resource, false))
        n = &own;
    struct json j = event_begin(c, n->kind, n->resource, n->owner, n->mode,
                                n->kind == NEWS_LOST ? n->reason : (struct str){0});
    put_seq(&j, 0);
    json_put_int(&j, "token", n->token);
    if (n->kind == NEWS_WANTED)
        put_wanted(&j, n);
    else if (n->kind == NEWS_EXPIRING)
        json_put_int(&j, "ttl_ms", n->left_ms);
    else
        put_lost(&j, n);
    event_end(c, &j);
}

/* --- what happens beneath a prefix --- */

static unsigned kind_of(struct str event)
{
    for (unsigned i = 0; i < NAMES; i++)
        if (str_is(event, names[i]))
            return i;
    return NEWS_LOST;
}

bool conn_tell_event(struct conn *c, struct str prefix, const struct watch_event *e)
{
    if (c->closing || !has_room(c))
        return false;
    if (!conn_may(c, RIGHT_WATCH, e->resource, false)) /* the right was taken away meanwhile */
        return true;
    struct json j = event_begin(c, kind_of(e->event), e->resource, e->owner, e->mode, e->reason);
    put_seq(&j, e->seq);
    json_put_string(&j, "prefix", prefix);
    json_put_string(&j, "scope", e->scope);
    json_put_int(&j, "ago_ms", e->ago_ms);
    if (e->detail.p)
        json_put_string(&j, "detail", e->detail);
    if (conn_may(c, RIGHT_FORCE, e->resource, false))
        json_put_int(&j, "token", e->token);
    event_end(c, &j);
    return true;
}

void conn_tell_watch_gap(struct conn *c, struct str prefix, int64_t seq, struct str code)
{
    if (!c->closing)
        put_gap(c, seq, prefix, code);
}

void conn_listen(struct conn *c, bool on)
{
    if (on && c->listener == NULL) {
        c->listener = listener_new(c->server->o.service, on_news, c);
    } else if (!on) {
        listener_free(c->listener);
        c->listener = NULL;
    }
}

void conn_holds(struct conn *c, struct str resource, int64_t token, int64_t ttl_ms, int64_t session)
{
    if (c->listener && !listener_hold(c->listener, resource, token, ttl_ms, session))
        c->gap = true;
}

void conn_ends_session(struct conn *c, int64_t session, bool ending)
{
    if (c->listener)
        listener_end_session(c->listener, session, ending);
}

void conn_changes_mode(struct conn *c, struct str resource, int64_t token, bool changing)
{
    if (c->listener)
        listener_change_mode(c->listener, resource, token, changing);
}

bool conn_holds_not(struct conn *c, struct str resource, int64_t token)
{
    return c->listener && listener_drop(c->listener, resource, token);
}
