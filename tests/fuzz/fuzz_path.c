#include "base/buf.h"
#include "fuzz.h"
#include "pglockctl/path_name.h"
#include "wire/resource.h"

/* path_encode() is promised paths without empty segments, "." and "..", and without NUL. */
static int is_path(struct str s)
{
    if (s.n == 0 || memchr(s.p, '\0', s.n))
        return 0;
    for (size_t from = 0; from <= s.n;) {
        const char *slash = memchr(s.p + from, '/', s.n - from);
        size_t end = slash ? (size_t)(slash - s.p) : s.n;
        struct str segment = {s.p + from, end - from};
        if (segment.n == 0 || str_is(segment, ".") || str_is(segment, ".."))
            return 0;
        from = end + 1;
    }
    return 1;
}

static void check_name(const struct path_rules *rules, struct str path)
{
    struct buf name = {0}, back = {0}, again = {0}, scratch = {0};

    path_encode(&name, rules, path);
    FUZZ_PROMISE(name.len > 0);
    if (name.len <= RESOURCE_BYTES_MAX && path_check(buf_str(&name), &scratch))
        FUZZ_PROMISE(strstr(path_check(buf_str(&name), &scratch), "segments"));
    FUZZ_PROMISE(path_decode(&back, buf_str(&name)));
    FUZZ_PROMISE(rules->nfc || rules->fold_case || str_eq(buf_str(&back), path));
    path_encode(&again, rules, buf_str(&back));
    FUZZ_PROMISE(str_eq(buf_str(&again), buf_str(&name)));
    buf_free(&name);
    buf_free(&back);
    buf_free(&again);
    buf_free(&scratch);
}

int fuzz_path(const uint8_t *data, size_t size)
{
    char *copy = fuzz_copy(data, size);
    struct str s = {copy, size};
    struct buf back = {0};

    for (int i = 0; i < 4 && is_path(s); i++)
        check_name(&(struct path_rules){.fold_case = i & 1, .nfc = (i & 2) != 0}, s);
    (void)path_decode(&back, s);
    buf_free(&back);
    free(copy);
    return 0;
}
