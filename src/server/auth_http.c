/*
 * Keys over HTTP: "Authorization: Bearer KEY", or Basic with the key as the password of any user,
 * which is what browsers can send. An address that has shown too many wrong ones is not looked at
 * for the rest of a minute.
 */

#include <gnutls/gnutls.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/internal.h"
#include "service/route.h"

enum { FAILURES_MAX = 10, WINDOW_US = 60 * 1000000 };

/* --- the header --- */

static bool take_scheme(struct str *s, const char *scheme)
{
    size_t n = strlen(scheme);
    if (s->n <= n || strncasecmp(s->p, scheme, n) != 0 || s->p[n] != ' ')
        return false;
    while (n < s->n && s->p[n] == ' ')
        n++;
    *s = (struct str){s->p + n, s->n - n};
    return true;
}

/* What is behind the first colon of USER:PASSWORD. */
static void put_password(struct str base64, struct buf *out)
{
    gnutls_datum_t in = {(unsigned char *)base64.p, (unsigned)base64.n}, decoded;
    if (gnutls_base64_decode2(&in, &decoded) != 0)
        return;
    const unsigned char *colon = memchr(decoded.data, ':', decoded.size);
    if (colon)
        buf_put(out, colon + 1, (size_t)(decoded.data + decoded.size - colon - 1));
    explicit_bzero(decoded.data, decoded.size);
    gnutls_free(decoded.data);
}

void auth_http_put_key(struct str header, struct buf *out)
{
    if (header.n > KEY_HEADER_MAX)
        return;
    if (take_scheme(&header, "Bearer"))
        buf_put(out, header.p, header.n);
    else if (take_scheme(&header, "Basic"))
        put_password(header, out);
}

/* --- addresses that guess --- */

static struct http_failures *failures_of(struct server *s, const char *address, int64_t now_us)
{
    struct http_failures *f = &s->http_failures[route_hash(str_of(address)) % HTTP_FAILURE_SLOTS];
    if (now_us - f->since_us > WINDOW_US)
        *f = (struct http_failures){.since_us = now_us};
    return f;
}

/* --- the decision --- */

static struct api_key *find_key(const struct server *s, struct str header)
{
    struct buf text = {0};
    auth_http_put_key(header, &text);
    struct api_key *key = text.len > 0 ? identities_find_key(s->identities, buf_str(&text)) : NULL;
    secret_wipe(buf_str(&text));
    buf_free(&text);
    return key;
}

static enum http_access check_key(struct server *s, struct str header, const char *address,
                                  struct identity **who)
{
    struct api_key *key = find_key(s, header);
    auth_count_key(key != NULL);
    if (key) {
        key->used = true;
        *who = key->identity;
        return right_set_has(&(*who)->rights, RIGHT_READ) ? HTTP_ALLOWED : HTTP_FORBIDDEN;
    }
    if (slow_log_may(&s->refused_log, "keys_refused_left_out"))
        log_warn("key_refused", "address=%s client=http", address);
    return HTTP_UNAUTHORIZED;
}

enum http_access server_authorize_http(struct server *s, struct str header, const char *address,
                                       struct identity **who)
{
    int64_t now_us = clock_mono_us();
    if (s->identities == NULL)
        return HTTP_ALLOWED;
    if (header.p == NULL)
        return HTTP_UNAUTHORIZED;
    struct http_failures *f = failures_of(s, address, now_us);
    if (f->count >= FAILURES_MAX)
        return HTTP_SLOW_DOWN;
    if (identities_state(s->identities, now_us) != IDENTITIES_CONFIRMED)
        return HTTP_UNCONFIRMED;
    enum http_access access = check_key(s, header, address, who);
    f->count += access == HTTP_UNAUTHORIZED;
    return access;
}
