#ifndef PGLOCKD_BASE_STR_H
#define PGLOCKD_BASE_STR_H

/* A slice of bytes that somebody else owns. Not NUL-terminated; p may be NULL when n is 0. */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct str {
    const char *p;
    size_t n;
};

#define STR_LIT(s) ((struct str){(s), sizeof(s) - 1})

static inline struct str str_of(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *s)
{
    return str_eq(a, str_of(s));
}

/* Case-insensitive in ASCII only: verbs and keys of the protocol. */
static inline bool str_is_nocase(struct str a, const char *s)
{
    size_t n = strlen(s);
    return a.n == n && (n == 0 || strncasecmp(a.p, s, n) == 0);
}

#endif
