#include "fuzz.h"
#include "wire/address.h"
#include "wire/duration.h"
#include "wire/prefix.h"
#include "wire/resource.h"
#include "wire/right.h"
#include "wire/utf8.h"

static void check_resource(struct str s)
{
    FUZZ_PROMISE(s.n >= 1 && s.n <= RESOURCE_BYTES_MAX && utf8_valid(s));
    FUZZ_PROMISE(resource_covers(s, s));
    struct str first = resource_first_segment(s);
    FUZZ_PROMISE(resource_check(first) == NULL && resource_covers(first, s));
    for (size_t i = 0; i < s.n; i++) {
        struct str above = {s.p, i};
        FUZZ_PROMISE((unsigned char)s.p[i] >= 0x20 && s.p[i] != 0x7f);
        if (s.p[i] == '/')
            FUZZ_PROMISE(resource_check(above) == NULL && resource_covers(above, s));
        else
            FUZZ_PROMISE(i == 0 || !resource_covers(above, s));
    }
}

static void check_duration(struct str s, int allow_inf)
{
    char text[24];
    int64_t ms, again;
    if (duration_parse(s, allow_inf, &ms) != NULL)
        return;
    FUZZ_PROMISE(ms >= 0 && (allow_inf || ms != DURATION_INF));
    duration_format(ms, text);
    FUZZ_PROMISE(duration_parse(str_of(text), 1, &again) == NULL && again == ms);
}

static void check_address(struct str s)
{
    struct address a;
    if (address_parse(s, &a) == NULL) {
        FUZZ_PROMISE(strlen(a.is_unix ? a.path : a.host) > 0);
        FUZZ_PROMISE(!a.is_unix || address_is_local(&a));
    }
}

/* An item of a list of prefixes gives its duration to what it covers, and to nothing else. */
static void check_prefix(struct str s)
{
    struct str prefix;
    int64_t ms;
    if (prefix_duration_parse(s, &prefix, &ms) != NULL)
        return;
    FUZZ_PROMISE(prefix.p == s.p && prefix.n < s.n && s.p[prefix.n] == '=');
    FUZZ_PROMISE(ms >= 0 && ms != DURATION_INF);
    char *item = strndup(s.p, s.n);
    FUZZ_PROMISE(item != NULL);
    if (!str_is(prefix, "/")) {
        FUZZ_PROMISE(prefix_duration_of(&item, 1, prefix) == ms);
        FUZZ_PROMISE(prefix_duration_of(&item, 1, STR_LIT("\x7f")) == 0);
    }
    free(item);
}

static void check_identity_name(struct str s)
{
    if (identity_name_check(s) == NULL)
        FUZZ_PROMISE(s.n >= 1 && s.n <= IDENTITY_NAME_MAX && utf8_valid(s));
}

static void check_range(void *arg, struct str low, struct str high)
{
    (void)arg;
    size_t n = low.n < high.n ? low.n : high.n;
    int order = n ? memcmp(low.p, high.p, n) : 0;
    FUZZ_PROMISE(high.p == NULL || order < 0 || (order == 0 && low.n < high.n));
}

static void check_right(struct str s)
{
    enum right right;
    struct str pattern;
    if (right_parse(s, &right, &pattern) != NULL)
        return;
    struct right_set set = {0};
    right_set_add(&set, right, pattern);
    bool is_name = pattern.p[pattern.n - 1] != '*';
    FUZZ_PROMISE(pattern.p > s.p && pattern.p + pattern.n == s.p + s.n);
    FUZZ_PROMISE(right_set_has(&set, right));
    FUZZ_PROMISE(right_set_covers(&set, right, pattern, false)); /* a star is a character, too */
    FUZZ_PROMISE(!is_name || !right_set_covers(&set, right, pattern, true));
    right_set_ranges(&set, right, (struct str){0}, check_range, NULL);
    right_set_ranges(&set, right, STR_LIT("a/b"), check_range, NULL);
    right_set_free(&set);
}

int fuzz_grammar(const uint8_t *data, size_t size)
{
    char *copy = fuzz_copy(data, size);
    struct str s = {copy, size};
    if (resource_check(s) == NULL)
        check_resource(s);
    check_duration(s, 0);
    check_duration(s, 1);
    check_address(s);
    check_prefix(s);
    check_identity_name(s);
    check_right(s);
    free(copy);
    return 0;
}
