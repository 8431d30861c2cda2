/*
 * Who a connection is, and what it may do.
 *
 * A name comes from one of the AUTH_SOURCES, through conn_identify(). From then on the connection
 * holds the identity, whose rights are always the ones in force, and each request costs a few
 * comparisons. A name or key that turns invalid ends its connections; a right that is taken away
 * ends what waits by it.
 *
 * A refused key, or secret of a session, is answered after a second, in which nothing more is read
 * from the connection: who guesses has to open connections, and is seen in the metrics and the log.
 * Whose key or secret is guessed notices nothing of it.
 */

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "server/internal.h"
#include "service/locks.h"

enum {
    SLOWED_MS = 1000,
    REFUSED_MAX = 3, /* keys and secrets of one connection, then it is closed */
};

enum auth_result { AUTH_ACCEPTED, AUTH_REFUSED, AUTH_RESULTS };

#define X(id, name) name ",accepted", name ",refused",
static const char *const metric_names[] = {AUTH_SOURCES(X)};
#undef X

static const char *const source_names[AUTH_SOURCE_COUNT] = {
#define X(id, name) [AUTH_##id] = name,
    AUTH_SOURCES(X)
#undef X
};

void auth_register_metrics(void)
{
    metrics_label_names(LABEL_AUTH, metric_names, sizeof(metric_names) / sizeof(*metric_names));
}

static void count(unsigned source, enum auth_result result)
{
    metric_add1(M_AUTHENTICATIONS, source * AUTH_RESULTS + result, 1);
}

void auth_count_key(bool accepted)
{
    count(AUTH_KEY, accepted ? AUTH_ACCEPTED : AUTH_REFUSED);
}

/* --- who it is --- */

struct str conn_identity(const struct conn *c)
{
    return c->identity ? c->identity->name : (struct str){"", 0};
}

void conn_forget_identity(struct conn *c)
{
    identity_let_go(c->identity);
    api_key_let_go(c->key);
    c->identity = NULL;
    c->key = NULL;
}

bool conn_identify(struct conn *c, enum auth_source source, struct identity *who,
                   struct api_key *key)
{
    char id[KEY_ID_DIGITS + 1] = "";
    bool other = c->identity != who;
    if (c->identity && c->identity != who && c->settled)
        return false;
    identity_hold(who);
    api_key_hold(key);
    conn_forget_identity(c);
    c->identity = who;
    c->key = key;
    c->source = source;
    conn_may_have_arrived(c);
    if (other)
        request_rate_forget_name(c);
    count(source, AUTH_ACCEPTED);
    log_debug("authenticated", "conn=%" PRIu64 " identity=%s source=%s key=%s", c->id,
              log_quote(who->name), source_names[source],
              key ? secret_key_id(key->sha256, id) : "none");
    return true;
}

/* NULL: the user at the other end has no name here. */
static struct identity *peer_of(const struct conn *c)
{
    const struct server *s = c->server;
    for (size_t i = 0; !c->tcp && i < s->npeers; i++)
        if (s->peers[i].uid == c->uid)
            return identities_find(s->identities, str_of(s->peers[i].name));
    return NULL;
}

void conn_identify_peer(struct conn *c)
{
    struct identity *who = c->server->identities && !c->identity ? peer_of(c) : NULL;
    if (who)
        conn_identify(c, AUTH_PEER, who, NULL);
}

void conn_identify_certificate(struct conn *c)
{
    struct buf name = {0};
    struct identity *who = NULL;
    if (c->server->identities && c->tls && !c->shaking && !c->identity &&
        tls_peer_name(c->tls, &name))
        who = identities_find(c->server->identities, buf_str(&name));
    if (who)
        conn_identify(c, AUTH_CERTIFICATE, who, NULL);
    buf_free(&name);
}

/* The user of an item USER:NAME of the setting. */
static bool find_user(const char *item, size_t n, uid_t *uid)
{
    char name[256], *end;
    if (n == 0 || n >= sizeof(name))
        return false;
    memcpy(name, item, n);
    name[n] = '\0';
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (*end == '\0' && name[0] >= '0' && name[0] <= '9') {
        *uid = (uid_t)number;
        return errno == 0 && number < (uid_t)-1;
    }
    const struct passwd *pw = getpwnam(name);
    if (pw)
        *uid = pw->pw_uid;
    return pw != NULL;
}

static void read_peers(struct server *s)
{
    const struct setting_list *list = &s->o.settings->peer_names;
    s->peers = xrealloc(s->peers, (list->n + 1) * sizeof(*s->peers));
    s->npeers = 0;
    for (size_t i = 0; s->identities && i < list->n; i++) {
        const char *item = list->items[i];
        size_t n = strcspn(item, ":");
        struct peer_name *peer = &s->peers[s->npeers];
        peer->name = item + n + 1;
        if (find_user(item, n, &peer->uid))
            s->npeers++;
        else
            log_warn("peer_unknown", "user=%s", log_quote((struct str){item, n}));
    }
}

/* --- what it may do --- */

bool conn_may(const struct conn *c, enum right right, struct str name, bool tree)
{
    if (c->server->identities == NULL)
        return right != RIGHT_FORCE || !c->tcp;
    return c->identity && right_set_covers(&c->identity->rights, right, name, tree);
}

bool conn_may_some(const struct conn *c, enum right right)
{
    if (c->server->identities == NULL)
        return right != RIGHT_FORCE || !c->tcp;
    return c->identity && right_set_has(&c->identity->rights, right);
}

static void deny_force_over_tcp(struct request *r)
{
    request_fail(r, STATUS_DENIED, "no_right",
                 "while auth is off, FORCE works over a Unix socket only");
}

/* where n 0: anywhere. */
static void deny(struct request *r, enum right right, struct str where, bool tree)
{
    struct str name = conn_identity(r->conn);
    const char *verb = right_name(right);
    if (r->conn->server->identities == NULL)
        deny_force_over_tcp(r);
    else if (where.n == 0)
        request_fail(r, STATUS_DENIED, "no_right", "%.*s has no right %s to anything", (int)name.n,
                     name.p, verb);
    else if (tree)
        request_fail(r, STATUS_DENIED, "no_right",
                     "%.*s has no right to the whole tree %.*s: that takes %s:%.*s and %s:%.*s/*, "
                     "or rights that cover both",
                     (int)name.n, name.p, (int)where.n, where.p, verb, (int)where.n, where.p, verb,
                     (int)where.n, where.p);
    else
        request_fail(r, STATUS_DENIED, "no_right",
                     "%.*s has no right %s:%.*s, nor one that covers it", (int)name.n, name.p, verb,
                     (int)where.n, where.p);
}

static void unconfirmed(struct request *r)
{
    request_fail(r, STATUS_ERR, "unavailable",
                 "the database could not be asked who may do what; nothing was done");
}

static bool is_away(const struct request *r)
{
    const struct identities *identities = r->conn->server->identities;
    return identities_state(identities, r->received_us) == IDENTITIES_AWAY;
}

bool request_is_named(struct request *r)
{
    struct conn *c = r->conn;
    bool away = c->server->identities && is_away(r);
    if (c->server->identities == NULL || (!away && c->identity))
        return true;
    if (away)
        unconfirmed(r);
    else
        request_fail(r, STATUS_DENIED, "auth_required",
                     "this daemon wants to know who you are: HELLO key=KEY");
    return false;
}

bool request_may_begin(struct request *r)
{
    int needs = verb_needs(r->verb);
    if (needs == NEEDS_NOTHING)
        return true;
    if (!request_is_named(r))
        return false;
    r->conn->settled = true;
    if (needs == NEEDS_NAME || conn_may_some(r->conn, (enum right)needs))
        return true;
    deny(r, (enum right)needs, (struct str){0}, false);
    return false;
}

bool request_may(struct request *r, struct str name, bool tree)
{
    int needs = verb_needs(r->verb);
    enum right right = needs < RIGHT_COUNT ? (enum right)needs : RIGHT_ADMIN;
    if (conn_may(r->conn, right, name, tree))
        return true;
    deny(r, right, name, tree);
    return false;
}

void request_deny_lost_right(struct request *r)
{
    request_fail(r, STATUS_DENIED, "no_right", "the right to this lock was taken away meanwhile");
}

/* --- what was refused is answered later --- */

static void answer_slowed(struct request *r)
{
    struct conn *c = r->conn;
    enum close_reason reason = r->slowed_as;
    auth_clear(r);
    r->queued_us += 1000 * SLOWED_MS;
    r->refuse(r);
    if (c->refused >= REFUSED_MAX)
        conn_end(c, reason);
}

static struct request *first_slowed(const struct server *s)
{
    return list_first(&s->slowed, struct request, slowed);
}

static void watch_slowed(struct server *s)
{
    ev_timer_stop(s->o.loop, &s->slowed_timer);
    if (list_empty(&s->slowed))
        return;
    int64_t left_us = first_slowed(s)->slowed_until_us - clock_mono_us();
    ev_timer_set(&s->slowed_timer, left_us > 0 ? (double)left_us / 1e6 : 0., 0.);
    ev_timer_start(s->o.loop, &s->slowed_timer);
}

static void on_slowed(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct server *s = w->data;
    (void)loop, (void)revents;
    while (!list_empty(&s->slowed) && first_slowed(s)->slowed_until_us <= clock_mono_us())
        answer_slowed(first_slowed(s));
    watch_slowed(s);
}

void auth_doubt(struct request *r)
{
    r->conn->doubted += !r->doubted;
    r->doubted = true;
}

void auth_clear(struct request *r)
{
    list_remove(&r->slowed);
    if (!r->doubted)
        return;
    r->doubted = false;
    r->conn->doubted--;
    conn_mark_dirty(r->conn); /* it may be read from again */
}

static void slow(struct request *r, enum close_reason reason, void (*refuse)(struct request *r))
{
    struct server *s = r->conn->server;
    auth_doubt(r);
    r->conn->refused++;
    r->slowed_as = reason;
    r->refuse = refuse;
    r->slowed_until_us = clock_mono_us() + 1000 * SLOWED_MS;
    list_append(&s->slowed, &r->slowed);
    if (!ev_is_active(&s->slowed_timer))
        watch_slowed(s);
}

/* Where the other end is; "unix" where it is this machine. */
static const char *address_of(const struct conn *c, char out[static NI_MAXHOST])
{
    struct sockaddr_storage sa;
    socklen_t n = sizeof(sa);
    if (!c->tcp || getpeername(c->io.fd, (struct sockaddr *)&sa, &n) != 0 ||
        getnameinfo((struct sockaddr *)&sa, n, out, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) != 0)
        return "unix";
    return out;
}

static void log_refused(const struct conn *c, const char *event)
{
    char address[NI_MAXHOST];
    if (slow_log_may(&c->server->refused_log, "keys_refused_left_out"))
        log_warn(event, "conn=%" PRIu64 " address=%s client=%s", c->id, address_of(c, address),
                 log_quote(buf_str(&c->name)));
}

void auth_refuse_secret(struct request *r, void (*refuse)(struct request *r))
{
    metric_add(M_SECRETS_REFUSED, 1);
    log_refused(r->conn, "secret_refused");
    slow(r, CLOSE_SECRET_REFUSED, refuse);
}

/* --- keys --- */

static void deny_key(struct request *r)
{
    request_fail(
        r, STATUS_DENIED, "key_refused",
        "the key is not known, has expired or was revoked: ask who administers pglockd for "
        "another one (pglockctl key)");
}

static void refuse_key(struct request *r)
{
    count(AUTH_KEY, AUTH_REFUSED);
    log_refused(r->conn, "key_refused");
    slow(r, CLOSE_KEY_REFUSED, deny_key);
}

static void deny_other_identity(struct request *r)
{
    struct str name = conn_identity(r->conn);
    request_fail(r, STATUS_DENIED, "other_identity",
                 "this connection has worked as %.*s already: open another one for this key",
                 (int)name.n, name.p);
}

bool auth_by_key(struct request *r, struct str secret)
{
    struct identities *identities = r->conn->server->identities;
    if (identities == NULL) {
        secret_wipe(secret);
        return true;
    }
    struct api_key *key = identities_find_key(identities, secret);
    secret_wipe(secret);
    if (is_away(r))
        unconfirmed(r);
    else if (key == NULL)
        refuse_key(r);
    else if (conn_identify(r->conn, AUTH_KEY, key->identity, key))
        return true;
    else
        deny_other_identity(r);
    return false;
}

/* --- changes --- */

bool auth_holds(const struct conn *c)
{
    return c->server->auth_waits || c->doubted > 0;
}

void auth_look(struct server *s)
{
    if (s->identities)
        s->auth_waits = identities_state(s->identities, clock_mono_us()) == IDENTITIES_WAIT;
}

/* A LOCK that waits for what its client has no right to any more. */
static bool has_lost_right(const struct request *r)
{
    const struct call *call = r->call;
    if (call == NULL || r->right_lost || call->op.kind == OP_RELEASE || call->op.kind == OP_RENEW)
        return false;
    for (size_t i = 0; i < op_resources(&call->op); i++)
        if (!conn_may(r->conn, RIGHT_LOCK, op_resource(&call->op, i),
                      call->op.nmembers > 0 && call->op.members[i].tree))
            return true;
    return false;
}

/* One of them is cancelled, which may answer others, too: so the list is looked at anew. */
static bool cancel_lost_right(struct conn *c)
{
    list_for_each(at, &c->requests)
    {
        struct request *r = container_of(at, struct request, at);
        if (has_lost_right(r)) {
            r->right_lost = true;
            r->start = NULL;
            locks_cancel(r->call);
            return true;
        }
    }
    return false;
}

static bool is_valid(const struct conn *c)
{
    if (c->identity == NULL)
        return true;
    if (c->source == AUTH_PEER && peer_of(c) != c->identity)
        return false; /* the setting says something else now */
    return c->identity->valid && (c->key == NULL || c->key->valid);
}

static void check_conn(struct conn *c)
{
    if (!is_valid(c)) {
        conn_revoke(c);
        return;
    }
    conn_identify_peer(c);
    conn_identify_certificate(c);
    while (cancel_lost_right(c))
        ;
    conn_mark_dirty(c); /* it may be read from again */
}

static void on_change(void *arg)
{
    struct server *s = arg;
    auth_look(s);
    list_for_each(at, &s->conns) check_conn(container_of(at, struct conn, at));
}

void auth_reload(struct server *s)
{
    read_peers(s);
    if (s->identities)
        on_change(s);
}

void auth_start(struct server *s)
{
    s->identities = service_identities(s->o.service);
    list_init(&s->slowed);
    ev_init(&s->slowed_timer, on_slowed);
    s->slowed_timer.data = s;
    read_peers(s);
    if (s->identities)
        identities_on_change(s->identities, on_change, s);
}

void auth_stop(struct server *s)
{
    ev_timer_stop(s->o.loop, &s->slowed_timer);
    if (s->identities)
        identities_on_change(s->identities, NULL, NULL);
    free(s->peers);
}
