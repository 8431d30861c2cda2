#include "wire/resource.h"

#include "base/codepoint.h"

static const char *check_characters(struct str s)
{
    uint32_t cp;

    for (size_t i = 0; i < s.n;) {
        size_t len = codepoint_decode(s.p + i, s.n - i, &cp);

        if (len == 0)
            return "a resource must be valid UTF-8";
        if (codepoint_is_control(cp))
            return "a resource must not contain a control character";
        i += len;
    }
    return NULL;
}

static const char *check_segment(struct str segment)
{
    if (segment.n == 0)
        return "a resource must not have an empty segment: write \"a/b\", not \"a//b\"";
    if (str_is(segment, ".") || str_is(segment, ".."))
        return "a resource must not have a segment \".\" or \"..\": write the full name";
    return NULL;
}

static const char *check_segments(struct str s)
{
    size_t depth = 0;

    for (size_t start = 0; start <= s.n;) {
        const char *slash = memchr(s.p + start, '/', s.n - start);
        size_t end = slash ? (size_t)(slash - s.p) : s.n;
        const char *error = check_segment((struct str){s.p + start, end - start});

        if (error)
            return error;
        if (++depth > RESOURCE_DEPTH_MAX)
            return "a resource has at most 32 segments";
        start = end + 1;
    }
    return NULL;
}

const char *resource_check(struct str s)
{
    const char *error;

    if (s.n == 0)
        return "a resource must not be empty";
    if (s.n > RESOURCE_BYTES_MAX)
        return "a resource has at most 512 bytes";
    if (str_is(s, "/"))
        return "\"/\" is the whole space: it is a resource only with scope=tree";
    if (s.p[0] == '/')
        return "a resource must not begin with \"/\"";
    if (s.p[s.n - 1] == '/')
        return "a resource must not end with \"/\"";
    error = check_characters(s);
    return error ? error : check_segments(s);
}

bool resource_covers(struct str prefix, struct str s)
{
    if (str_is(prefix, "/"))
        return true;
    if (prefix.n == 0 || s.n < prefix.n || memcmp(prefix.p, s.p, prefix.n) != 0)
        return false;
    return s.n == prefix.n || s.p[prefix.n] == '/';
}

struct str resource_first_segment(struct str s)
{
    const char *slash = s.n > 0 ? memchr(s.p, '/', s.n) : NULL;

    return (struct str){s.p, slash ? (size_t)(slash - s.p) : s.n};
}
