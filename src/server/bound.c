/*
 * Leases that are bound to a connection (bind=connection). They are released at once when the
 * client closes it; when the daemon stops or dies they stand until their TTL, and whoever renews
 * one binds it to its own connection.
 */

#include "server/internal.h"
#include "service/locks.h"

/* One after the other in c->bound: a token, the length of the resource's name, and the name. */
struct bound {
    int64_t token;
    size_t n;
};

static struct bound bound_at(const struct conn *c, size_t at)
{
    struct bound b;
    memcpy(&b, c->bound.data + at, sizeof(b));
    return b;
}

static struct str name_at(const struct conn *c, size_t at, size_t n)
{
    return (struct str){c->bound.data + at + sizeof(struct bound), n};
}

/* Where it stands; c->bound.len when it does not. */
static size_t find(const struct conn *c, struct str resource, int64_t token)
{
    size_t at = 0;
    while (at < c->bound.len) {
        struct bound b = bound_at(c, at);
        if (b.token == token && str_eq(name_at(c, at, b.n), resource))
            return at;
        at += sizeof(b) + b.n;
    }
    return at;
}

void conn_bind(struct conn *c, struct str resource, int64_t token)
{
    struct bound b = {token, resource.n};
    if (find(c, resource, token) < c->bound.len)
        return;
    buf_put(&c->bound, &b, sizeof(b));
    buf_put(&c->bound, resource.p, resource.n);
}

void conn_unbind(struct conn *c, struct str resource, int64_t token)
{
    size_t at = find(c, resource, token);
    if (at < c->bound.len)
        buf_cut(&c->bound, at, sizeof(struct bound) + resource.n);
}

void conn_release_bound(struct conn *c)
{
    struct service *s = c->server->o.service;
    for (size_t at = 0; at < c->bound.len;) {
        struct bound b = bound_at(c, at);
        locks_release_bound(s, c->id, name_at(c, at, b.n), b.token);
        at += sizeof(b) + b.n;
    }
    buf_clear(&c->bound);
}
