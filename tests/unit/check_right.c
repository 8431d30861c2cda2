#include "wire/right.h"

#include <stdio.h>

#include "unit.h"
#include "wire/resource.h"

static struct right_set set_of(const char *const *texts, size_t n)
{
    struct right_set set = {0};
    for (size_t i = 0; i < n; i++) {
        enum right right;
        struct str pattern;
        const char *wrong = right_parse(str_of(texts[i]), &right, &pattern);
        ck_assert_msg(wrong == NULL, "%s: %s", texts[i], wrong);
        right_set_add(&set, right, pattern);
    }
    return set;
}

#define SET(...)                                                                                   \
    set_of((const char *const[]){__VA_ARGS__},                                                     \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static bool covers(const char *right, const char *name, bool tree)
{
    struct right_set set = SET(right);
    enum right verb;
    struct str pattern;
    right_parse(str_of(right), &verb, &pattern);
    bool covered = right_set_covers(&set, verb, str_of(name), tree);
    right_set_free(&set);
    return covered;
}

START_TEST(what_a_pattern_covers)
{
    static const struct {
        const char *right, *name;
        bool node, tree;
    } cases[] = {
        {"lock:*", "repo", true, true},
        {"lock:*", "/", true, true},
        {"lock:repo", "repo", true, false},
        {"lock:repo", "repo/a", false, false},
        {"lock:repo", "repos", false, false},
        {"lock:repo/*", "repo/a", true, true},
        {"lock:repo/*", "repo/a/b", true, true},
        {"lock:repo/*", "repo", false, false}, /* not all of the tree: repo itself is not covered */
        {"lock:repo/*", "repository/a", false, false},
        {"lock:repo/*", "rep", false, false},
        {"lock:repo/*", "/", false, false},
        {"lock:repo/a/*", "repo/b", false, false},
        {"lock:repo/a/*", "repo", false, false},
        {"lock:repo/a/*", "repo/a/b", true, true},
        {"lock:Repo/*", "repo/a", false, false},
        {"rate:user:*", "user:7", true, true},
        {"rate:user:*", "user:", false, false},
        {"rate:user:*", "users:7", false, false},
        {"rate:a b", "a b", true, false},
        {"rate:api/*", "api/x", true, true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_msg(covers(cases[i].right, cases[i].name, false) == cases[i].node, "%s %s",
                      cases[i].right, cases[i].name);
        ck_assert_msg(covers(cases[i].right, cases[i].name, true) == cases[i].tree, "tree: %s %s",
                      cases[i].right, cases[i].name);
    }
}
END_TEST

START_TEST(a_tree_needs_a_right_on_all_of_it)
{
    struct right_set set = SET("lock:repo", "lock:repo/*", "lock:one", "lock:two/*");
    ck_assert(right_set_covers(&set, RIGHT_LOCK, STR_LIT("repo"), true));
    ck_assert(!right_set_covers(&set, RIGHT_LOCK, STR_LIT("one"), true));
    ck_assert(!right_set_covers(&set, RIGHT_LOCK, STR_LIT("two"), true));
    ck_assert(!right_set_covers(&set, RIGHT_LOCK, STR_LIT("/"), true));
    right_set_free(&set);
}
END_TEST

START_TEST(rights_are_apart_and_admin_is_all)
{
    for (int r = 0; r < RIGHT_COUNT; r++) {
        char text[64];
        snprintf(text, sizeof(text), "%s:a/*", right_name((enum right)r));
        struct right_set set = SET(text);
        for (int other = 0; other < RIGHT_COUNT; other++) {
            bool want = other == r || r == RIGHT_ADMIN;
            ck_assert(right_set_has(&set, (enum right)other) == want);
            ck_assert(right_set_covers(&set, (enum right)other, STR_LIT("a/x"), false) == want);
            ck_assert(!right_set_covers(&set, (enum right)other, STR_LIT("b/x"), false));
        }
        right_set_free(&set);
    }
    struct right_set none = {0};
    ck_assert(!right_set_has(&none, RIGHT_READ));
    ck_assert(!right_set_covers(&none, RIGHT_READ, STR_LIT("a"), false));
    right_set_free(&none);
}
END_TEST

START_TEST(what_is_no_right)
{
    static const char *const texts[] = {
        "",           "lock",      "lock:",     ":*",         "Lock:a",    "lock a",
        "locks:a",    "lock:/",    "lock:a/",   "lock:/a",    "lock:a//b", "lock:a/../b",
        "lock:a/b*",  "lock:a*",   "lock:*/a",  "lock:a/*/b", "lock:**",   "lock:a/**",
        "lock://*",   "lock:a\nb", "lock:\xff", "rate:a*",    "rate:a1*",  "rate:a\x7f",
        "rate:\xc3*", "rate:a*b",  "read:*:",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        enum right right;
        struct str pattern;
        ck_assert_msg(right_parse(str_of(texts[i]), &right, &pattern) != NULL, "\"%s\"", texts[i]);
    }
    char text[600] = "lock:";
    enum right right;
    struct str pattern;
    memset(text + 5, 'a', RESOURCE_BYTES_MAX + 1);
    ck_assert_ptr_nonnull(right_parse(str_of(text), &right, &pattern));
    ck_assert_ptr_null(right_parse((struct str){text, 5 + RESOURCE_BYTES_MAX}, &right, &pattern));
}
END_TEST

START_TEST(no_pattern_covers_another)
{
    struct right_set set = SET("read:a/b", "read:a/*", "read:a/b/*", "read:a", "read:a/*");
    ck_assert_uint_eq(set.of[RIGHT_READ].n, 2);
    right_set_add(&set, RIGHT_READ, STR_LIT("*"));
    ck_assert_uint_eq(set.of[RIGHT_READ].n, 1);
    right_set_add(&set, RIGHT_READ, STR_LIT("z"));
    ck_assert_uint_eq(set.of[RIGHT_READ].n, 1);
    right_set_free(&set);
}
END_TEST

/* --- against the plain meaning, on random names of a small world --- */

static size_t random_name(struct unit_random *r, char *out)
{
    static const char *const segments[] = {"a", "b", "ab", "a-", "a0"};
    size_t depth = 1 + unit_below(r, 3), n = 0;
    for (size_t i = 0; i < depth; i++)
        n += (size_t)sprintf(out + n, "%s%s", i ? "/" : "", segments[unit_below(r, 5)]);
    return n;
}

struct world {
    char patterns[4][32];
    size_t n;
    struct right_set set;
};

static struct world random_world(struct unit_random *r)
{
    struct world w = {.n = 1 + unit_below(r, 4)};
    for (size_t i = 0; i < w.n; i++) {
        size_t n = random_name(r, w.patterns[i]);
        if (unit_below(r, 2))
            strcpy(w.patterns[i] + n, "/*");
        if (unit_below(r, 12) == 0)
            strcpy(w.patterns[i], "*");
        right_set_add(&w.set, RIGHT_READ, str_of(w.patterns[i]));
    }
    return w;
}

static bool plainly_covered(const struct world *w, const char *name)
{
    for (size_t i = 0; i < w->n; i++) {
        const char *p = w->patterns[i];
        size_t n = strlen(p);
        bool star = p[n - 1] == '*';
        if (star ? strlen(name) >= n && strncmp(name, p, n - 1) == 0 : strcmp(name, p) == 0)
            return true;
    }
    return false;
}

START_TEST(sets_mean_what_their_patterns_mean)
{
    struct unit_random r = {7};
    for (int i = 0; i < 20000; i++) {
        struct world w = random_world(&r);
        char name[32];
        random_name(&r, name);
        ck_assert_msg(right_set_covers(&w.set, RIGHT_READ, str_of(name), false) ==
                          plainly_covered(&w, name),
                      "%s by %s", name, w.patterns[0]);
        right_set_free(&w.set);
    }
}
END_TEST

struct found {
    const char *name;
    int times;
};

static void look(void *arg, struct str low, struct str high)
{
    struct found *f = arg;
    char l[64] = "", h[64] = "";
    memcpy(l, low.p, low.n);
    if (high.p)
        memcpy(h, high.p, high.n);
    f->times += strcmp(f->name, l) >= 0 && (high.p == NULL || strcmp(f->name, h) < 0);
}

START_TEST(ranges_hold_what_may_be_read_once)
{
    struct unit_random r = {11};
    for (int i = 0; i < 20000; i++) {
        struct world w = random_world(&r);
        char name[32], prefix[32];
        struct found f = {name, 0};
        random_name(&r, name);
        random_name(&r, prefix);
        bool all = unit_below(&r, 3) == 0;
        struct str p = all ? str_of(NULL) : str_of(prefix);
        right_set_ranges(&w.set, RIGHT_READ, p, look, &f);
        int want = plainly_covered(&w, name) && (all || resource_covers(p, str_of(name)));
        ck_assert_msg(f.times == want, "%s, prefix %s, pattern %s: %d", name, all ? "-" : prefix,
                      w.patterns[0], f.times);
        f.times = 0;
        right_all_ranges(p, look, &f);
        ck_assert_int_eq(f.times, all || resource_covers(p, str_of(name)));
        right_set_free(&w.set);
    }
}
END_TEST

START_TEST(names)
{
    static const char *const good[] = {"ci", "agent-7", "build@host", "spiffe://t/ns", "a.b:c_d+e"};
    static const char *const bad[] = {"", "a b", "a\nb", "\xc3\xa4", "a\"b", "a'b", "a\\b", "a%b"};
    for (size_t i = 0; i < COUNT(good); i++)
        ck_assert_ptr_null(identity_name_check(str_of(good[i])));
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_ptr_nonnull(identity_name_check(str_of(bad[i])));
    char text[IDENTITY_NAME_MAX + 2] = "";
    memset(text, 'n', IDENTITY_NAME_MAX + 1);
    ck_assert_ptr_nonnull(identity_name_check(str_of(text)));
    ck_assert_ptr_null(identity_name_check((struct str){text, IDENTITY_NAME_MAX}));
}
END_TEST

UNIT_MAIN("right", what_a_pattern_covers, a_tree_needs_a_right_on_all_of_it,
          rights_are_apart_and_admin_is_all, what_is_no_right, no_pattern_covers_another,
          sets_mean_what_their_patterns_mean, ranges_hold_what_may_be_read_once, names)
