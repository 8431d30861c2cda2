#include "wire/conninfo.h"

static const char *const secret_keys[] = {"password", "sslpassword", "oauth_client_secret"};

static bool is_secret(struct str key)
{
    for (size_t i = 0; i < sizeof(secret_keys) / sizeof(secret_keys[0]); i++) {
        if (str_is_nocase(key, secret_keys[i]))
            return true;
    }
    return false;
}

static void put(struct buf *out, const char *from, const char *to)
{
    if (out)
        buf_put(out, from, (size_t)(to - from));
}

static void put_stars(struct buf *out, bool when)
{
    if (out && when)
        buf_puts(out, "***");
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The end of the value at p: '...' or up to a space, with backslash escapes in both. */
static const char *skip_value(const char *p, const char *end)
{
    bool quoted = p < end && *p == '\'';

    for (p += quoted; p < end; p++) {
        if (*p == '\\' && p + 1 < end)
            p++;
        else if (quoted && *p == '\'')
            return p + 1;
        else if (!quoted && is_space(*p))
            return p;
    }
    return end;
}

static bool redact_keywords(struct str s, struct buf *out)
{
    const char *p = s.p, *end = s.p + s.n;
    bool found = false;

    while (p < end) {
        const char *start = p, *key, *key_end, *value;

        while (p < end && is_space(*p))
            p++;
        for (key = p; p < end && *p != '=' && !is_space(*p);)
            p++;
        for (key_end = p; p < end && is_space(*p);)
            p++;
        if (p == end || *p != '=') { /* libpq refuses it; it may be a password all the same */
            put(out, start, key);
            put_stars(out, key < end);
            break;
        }
        for (p++; p < end && is_space(*p);)
            p++;
        value = p;
        p = skip_value(p, end);
        put(out, start, value);
        if (is_secret((struct str){key, (size_t)(key_end - key)})) {
            put_stars(out, true);
            found = true;
        } else {
            put(out, value, p);
        }
    }
    return found;
}

/* key=value&key=value behind the "?" of a URI */
static bool redact_query(const char *p, const char *end, struct buf *out)
{
    bool found = false;

    while (p < end) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        const char *equals;

        stop = stop ? stop : end;
        equals = memchr(p, '=', (size_t)(stop - p));
        /* A key may be percent-encoded, which nobody does who has nothing to hide. */
        if (equals && (is_secret((struct str){p, (size_t)(equals - p)}) ||
                       memchr(p, '%', (size_t)(equals - p)))) {
            put(out, p, equals + 1);
            put_stars(out, true);
            found = true;
        } else {
            put(out, p, stop);
        }
        put(out, stop, stop + (stop < end));
        p = stop + (stop < end);
    }
    return found;
}

/* Does libpq find a password before the "@"? It looks for one up to the first "/". */
static bool has_userinfo_secret(const char *p, const char *end)
{
    const char *colon = NULL;

    for (; p < end && *p != '@' && *p != '/'; p++) {
        if (*p == ':' && !colon)
            colon = p;
    }
    return colon && p < end && *p == '@';
}

/*
 * A password that is not percent-encoded may hold "/", "?" or "@": hides from the first ":" to the
 * last "@", and all of the query where it cannot be told from the password.
 */
static bool redact_uri(const char *start, const char *authority, const char *end, struct buf *out)
{
    const char *at = memrchr(authority, '@', (size_t)(end - authority));
    const char *colon = at ? memchr(authority, ':', (size_t)(at - authority)) : NULL;
    const char *query = memchr(authority, '?', (size_t)(end - authority));
    bool found = has_userinfo_secret(authority, end);
    const char *rest = start;

    if (colon) {
        put(out, start, colon + 1);
        put_stars(out, true);
        if (query && query < at)
            return redact_query(query + 1, end, NULL) || found;
        rest = at;
    }
    put(out, rest, query ? query + 1 : end);
    return (query && redact_query(query + 1, end, out)) || found;
}

bool conninfo_redact(struct str s, struct buf *out)
{
    static const char *const schemes[] = {"postgresql://", "postgres://"};

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t n = strlen(schemes[i]);

        if (s.n >= n && memcmp(s.p, schemes[i], n) == 0)
            return redact_uri(s.p, s.p + n, s.p + s.n, out);
    }
    return redact_keywords(s, out);
}
