#include "pglockctl/path_name.h"

#include <stdint.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "base/codepoint.h"
#include "base/xalloc.h"
#include "wire/resource.h"
#include "wire/utf8.h"

/* ---- one form for all spellings ---- */

/* Valid UTF-8 by utf8proc, in memory of our own. */
static void transform(struct buf *s, int how)
{
    const utf8proc_option_t options = (utf8proc_option_t)(how | UTF8PROC_STABLE);
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)s->data;
    utf8proc_ssize_t len = (utf8proc_ssize_t)s->len;
    utf8proc_ssize_t n = utf8proc_decompose(bytes, len, NULL, 0, options);

    if (n < 0) /* not for valid UTF-8 of this length */
        return;
    utf8proc_int32_t *text = xcalloc((size_t)n + 1, sizeof(*text)); /* one for the NUL */
    utf8proc_decompose(bytes, len, text, n, options);
    n = utf8proc_reencode(text, n, options);
    buf_clear(s);
    buf_put(s, text, n > 0 ? (size_t)n : 0);
    free(text);
}

/*
 * Caseless matching after Unicode's D145: decomposed before and after folding, so that spellings
 * that are canonically equivalent fold to one. Like ext4 and f2fs in directories that ignore case,
 * it drops characters that are not shown.
 */
static void fold_case(struct buf *s, bool nfc)
{
    if (nfc)
        transform(s, UTF8PROC_DECOMPOSE);
    transform(s, UTF8PROC_CASEFOLD | UTF8PROC_IGNORE | (nfc ? UTF8PROC_COMPOSE : 0));
}

/* Of characters that are not shown nothing, or dots, may be left: such a name stays as it is. */
static bool is_name(struct str s)
{
    return s.n > 0 && !str_is(s, ".") && !str_is(s, "..");
}

static void normalise(struct buf *s, const struct path_rules *rules)
{
    if (rules->fold_case)
        fold_case(s, rules->nfc);
    else if (rules->nfc)
        transform(s, UTF8PROC_COMPOSE);
}

/* ---- what a resource may not hold ---- */

static void put_escaped_byte(struct buf *out, char c)
{
    buf_printf(out, "%%%02X", (unsigned char)c);
}

static void put_escaped(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0;
        size_t len = codepoint_decode(s.p + i, s.n - i, &cp);
        bool plain = len > 0 && cp != '%' && !codepoint_is_control(cp);

        if (plain)
            buf_put(out, s.p + i, len);
        else
            for (size_t k = 0; k < (len ? len : 1); k++)
                put_escaped_byte(out, s.p[i + k]);
        i += len ? len : 1;
    }
}

static void put_segment(struct buf *out, const struct path_rules *rules, struct str segment)
{
    struct buf form = {0};

    if (utf8_valid(segment)) {
        buf_put(&form, segment.p, segment.n);
        normalise(&form, rules);
    }
    put_escaped(out, is_name(buf_str(&form)) ? buf_str(&form) : segment);
    buf_free(&form);
}

void path_encode(struct buf *out, const struct path_rules *rules, struct str path)
{
    buf_put(out, rules->prefix.p, rules->prefix.n);
    while (path.n > 0) {
        const char *slash = memchr(path.p, '/', path.n);
        size_t n = slash ? (size_t)(slash - path.p) : path.n;

        if (out->len > 0)
            buf_putc(out, '/');
        put_segment(out, rules, (struct str){path.p, n});
        n += slash != NULL;
        path = (struct str){path.p + n, path.n - n};
    }
}

static size_t count_segments(struct str name)
{
    size_t n = 1;
    for (size_t i = 0; i < name.n; i++)
        n += name.p[i] == '/';
    return n;
}

const char *path_check(struct str name, struct buf *scratch)
{
    static const char advice[] = "a root that is nearer to it, or a shorter prefix, makes it fit";
    size_t depth = count_segments(name);

    buf_clear(scratch);
    if (name.n == 0)
        return "it is the root itself, which has a name only with a prefix (--prefix)";
    if (name.n > RESOURCE_BYTES_MAX)
        buf_printf(scratch, "its name has %zu bytes, and a resource has at most %d: %s", name.n,
                   RESOURCE_BYTES_MAX, advice);
    else if (depth > RESOURCE_DEPTH_MAX)
        buf_printf(scratch, "its name has %zu segments, and a resource has at most %d: %s", depth,
                   RESOURCE_DEPTH_MAX, advice);
    else
        return resource_check(name);
    return buf_cstr(scratch);
}

/* ---- and back ---- */

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of %XX at the front of s, or -1. */
static int escaped_byte(struct str s)
{
    int high = s.n >= 3 ? hex_value(s.p[1]) : -1;
    int low = s.n >= 3 ? hex_value(s.p[2]) : -1;
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

bool path_decode(struct buf *out, struct str name)
{
    struct buf again = {0};
    size_t from = out->len;

    for (size_t i = 0; i < name.n; i++) {
        int byte = (unsigned char)name.p[i];
        if (byte == '%') {
            byte = escaped_byte((struct str){name.p + i, name.n - i});
            if (byte <= 0 || byte == '/')
                return false;
            i += 2;
        }
        buf_putc(out, (char)byte);
    }
    if (name.n > 0)
        put_escaped(&again, (struct str){out->data + from, out->len - from});
    bool ours = str_eq(buf_str(&again), name);
    buf_free(&again);
    return ours;
}

struct str path_under(struct str top, struct str path)
{
    if (path.n < top.n || (top.n > 0 && memcmp(path.p, top.p, top.n) != 0))
        return (struct str){0};
    if (path.n == top.n)
        return STR_LIT("");
    if (path.p[top.n] != '/')
        return (struct str){0};
    return (struct str){path.p + top.n + 1, path.n - top.n - 1};
}

int path_compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    if (*a == *b)
        return 0;
    if (*a == '\0' || *b == '\0')
        return *a == '\0' ? -1 : 1;
    if (*a == '/' || *b == '/')
        return *a == '/' ? -1 : 1;
    return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}
