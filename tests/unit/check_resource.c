#include "wire/resource.h"

#include "unit.h"

static const char *check(struct str s)
{
    char *exact = unit_exact(s);
    const char *error = resource_check((struct str){exact, s.n});

    free(exact);
    return error;
}

START_TEST(good)
{
    static const struct str rows[] = {
        STR_LIT("a"),        STR_LIT("repo/a.ts"),
        STR_LIT("a b/c d"),  STR_LIT("..."),
        STR_LIT("a/.../b"),  STR_LIT(".git/config"),
        STR_LIT("a/..b"),    STR_LIT("a/b.."),
        STR_LIT("=\"'\\"),   STR_LIT("\xc3\xa4/\xf0\x9f\x94\x92"),
        STR_LIT("\xc2\xa0"),
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(check(rows[i]) == NULL, "%s: %s", rows[i].p, check(rows[i]));
}
END_TEST

START_TEST(bad)
{
    static const struct {
        struct str s;
        const char *says;
    } rows[] = {
        {STR_LIT(""), "empty"},
        {STR_LIT("/"), "scope=tree"},
        {STR_LIT("//"), "begin with"},
        {STR_LIT("/a"), "begin with"},
        {STR_LIT("a/"), "end with"},
        {STR_LIT("a//b"), "empty segment"},
        {STR_LIT("."), "segment \".\""},
        {STR_LIT(".."), "segment \".\""},
        {STR_LIT("./a"), "segment \".\""},
        {STR_LIT("a/./b"), "segment \".\""},
        {STR_LIT("a/.."), "segment \".\""},
        {STR_LIT("a\nb"), "control character"},
        {STR_LIT("a\tb"), "control character"},
        {STR_LIT("a\0b"), "control character"},
        {STR_LIT("a\x7f"), "control character"},
        {STR_LIT("a\xc2\x85"), "control character"},
        {STR_LIT("a\xff"), "UTF-8"},
        {STR_LIT("a\xc3"), "UTF-8"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *error = check(rows[i].s);

        ck_assert_msg(error && strstr(error, rows[i].says), "%s: got \"%s\", want \"%s\"",
                      rows[i].s.p, error ? error : "no error", rows[i].says);
    }
}
END_TEST

START_TEST(length)
{
    char bytes[514];

    memset(bytes, 'x', sizeof(bytes));
    ck_assert_ptr_null(check((struct str){bytes, 511}));
    ck_assert_ptr_null(check((struct str){bytes, 512}));
    ck_assert_ptr_nonnull(strstr(check((struct str){bytes, 513}), "512"));
    ck_assert_int_eq(RESOURCE_BYTES_MAX, 512);
    memcpy(bytes + 510, "\xe2\x82\xac", 3); /* a character across the border is no excuse */
    ck_assert_ptr_nonnull(strstr(check((struct str){bytes, 513}), "512"));
    ck_assert_ptr_nonnull(strstr(check((struct str){bytes, 512}), "UTF-8"));
}
END_TEST

START_TEST(depth)
{
    char bytes[80];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = i % 2 ? '/' : 'a';
    ck_assert_ptr_null(check((struct str){bytes, 31 * 2 - 1}));
    ck_assert_ptr_null(check((struct str){bytes, 32 * 2 - 1}));
    ck_assert_ptr_nonnull(strstr(check((struct str){bytes, 33 * 2 - 1}), "32"));
    ck_assert_int_eq(RESOURCE_DEPTH_MAX, 32);
}
END_TEST

START_TEST(covers)
{
    static const struct {
        const char *prefix, *s;
        bool covers;
    } rows[] = {
        {"a/b", "a/b", true},    {"a/b", "a/b/c", true}, {"a/b", "a/bc", false},
        {"a/b", "a", false},     {"a", "a/b/c/d", true}, {"a", "A/b", false},
        {"/", "a", true},        {"/", "a/b", true},     {"", "a", false},
        {"a/b/c", "a/b", false}, {"b", "a/b", false},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(resource_covers(str_of(rows[i].prefix), str_of(rows[i].s)) == rows[i].covers,
                      "%s %s", rows[i].prefix, rows[i].s);
}
END_TEST

START_TEST(first_segment)
{
    ck_assert_bytes(resource_first_segment(STR_LIT("a")), STR_LIT("a"), "one");
    ck_assert_bytes(resource_first_segment(STR_LIT("ab/c/d")), STR_LIT("ab"), "three");
    ck_assert_bytes(resource_first_segment(STR_LIT("/")), STR_LIT(""), "root");
    ck_assert_bytes(resource_first_segment((struct str){NULL, 0}), STR_LIT(""), "empty");
}
END_TEST

UNIT_MAIN("resource", good, bad, length, depth, covers, first_segment)
