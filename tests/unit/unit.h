#ifndef PGLOCKD_TESTS_UNIT_H
#define PGLOCKD_TESTS_UNIT_H

/* What every unit test program shares: a main function, and a random source with a fixed seed. */

#include <check.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* UNIT_MAIN("name", test_a, test_b): each test in a process of its own. */
#define UNIT_MAIN(name, ...) UNIT_MAIN_WITH(name, NULL, NULL, __VA_ARGS__)

/* The same with a function before and one after each test, in its process. */
#define UNIT_MAIN_WITH(name, set_up, tear_down, ...)                                               \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return unit_run(name, set_up, tear_down, tests, COUNT(tests));                             \
    }

static inline int unit_run(const char *name, SFun set_up, SFun tear_down, const TTest *const *tests,
                           size_t n)
{
    Suite *suite = suite_create(name);
    TCase *all = tcase_create(name);
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(all, 60);
    tcase_add_checked_fixture(all, set_up, tear_down);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Fails with what was there and what was wanted; bytes may hold a NUL. */
#define ck_assert_bytes(got, want, ...)                                                            \
    do {                                                                                           \
        struct str got_ = (got), want_ = (want);                                                   \
        ck_assert_msg(str_eq(got_, want_), "%s: got %zu bytes \"%.*s\", want %zu bytes \"%.*s\"",  \
                      __VA_ARGS__, got_.n, (int)got_.n, got_.p ? got_.p : "", want_.n,             \
                      (int)want_.n, want_.p ? want_.p : "");                                       \
    } while (0)

/* A copy that ends where the slice ends, so that AddressSanitizer sees one byte too many. */
static inline char *unit_exact(struct str s)
{
    char *copy = malloc(s.n > 0 ? s.n : 1);

    ck_assert_ptr_nonnull(copy);
    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    return copy;
}

/* xorshift64*: the same numbers on every machine. */
struct unit_random {
    uint64_t state;
};

static inline uint64_t unit_next(struct unit_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * UINT64_C(2685821657736338717);
}

static inline size_t unit_below(struct unit_random *r, size_t n)
{
    return (size_t)(unit_next(r) >> 16) % n;
}

#endif
