#include "base/pace.h"
#include "base/tally.h"

#include <stdio.h>

#include "unit.h"

START_TEST(counts_by_name)
{
    struct tally *t = tally_new();
    struct tally_entry *a = tally_add(t, STR_LIT("a"), 0);
    struct tally_entry *empty = tally_add(t, (struct str){0}, 0);

    ck_assert_ptr_eq(tally_add(t, STR_LIT("a"), 0), a);
    ck_assert_uint_eq(tally_count(t, STR_LIT("a")), 2);
    ck_assert_uint_eq(tally_count(t, STR_LIT("")), 1);
    ck_assert_uint_eq(tally_count(t, STR_LIT("b")), 0);
    tally_drop(t, a);
    ck_assert_uint_eq(tally_count(t, STR_LIT("a")), 1);
    tally_drop(t, a);
    ck_assert_uint_eq(tally_count(t, STR_LIT("a")), 0);
    tally_drop(t, empty);
    tally_drop(t, NULL);
    tally_free(t);
}
END_TEST

START_TEST(no_more_than_max)
{
    struct tally *t = tally_new();
    struct tally_entry *e = tally_add(t, STR_LIT("x"), 2);

    ck_assert_ptr_eq(tally_add(t, STR_LIT("x"), 2), e);
    ck_assert_ptr_null(tally_add(t, STR_LIT("x"), 2));
    ck_assert_uint_eq(tally_count(t, STR_LIT("x")), 2);
    ck_assert_ptr_nonnull(tally_add(t, STR_LIT("y"), 1));
    tally_drop(t, e);
    ck_assert_ptr_eq(tally_add(t, STR_LIT("x"), 2), e);
    tally_free(t);
    tally_free(NULL);
}
END_TEST

/* Names of all lengths up to several blocks of the hash, which differ in one byte. */
START_TEST(many_names)
{
    enum { NAMES = 5000 };
    static struct tally_entry *entries[NAMES];
    struct tally *t = tally_new();
    char name[64];

    for (int i = 0; i < NAMES; i++) {
        int n = snprintf(name, sizeof(name), "%0*d", 4 + i % 40, i);
        entries[i] = tally_add(t, (struct str){name, (size_t)n}, 1);
        ck_assert_ptr_nonnull(entries[i]);
    }
    for (int i = 0; i < NAMES; i++) {
        int n = snprintf(name, sizeof(name), "%0*d", 4 + i % 40, i);
        ck_assert_uint_eq(tally_count(t, (struct str){name, (size_t)n}), 1);
        if (i % 2)
            tally_drop(t, entries[i]);
    }
    for (int i = 0; i < NAMES; i++) {
        int n = snprintf(name, sizeof(name), "%0*d", 4 + i % 40, i);
        ck_assert_uint_eq(tally_count(t, (struct str){name, (size_t)n}), i % 2 ? 0 : 1);
    }
    tally_free(t);
}
END_TEST

START_TEST(a_second_at_once_and_then_as_time_goes)
{
    int64_t tat_us = 0, retry_us;

    for (int i = 0; i < 10; i++)
        ck_assert(pace_take(&tat_us, 5000000, 10, 0, &retry_us));
    ck_assert(!pace_take(&tat_us, 5000000, 10, 0, &retry_us));
    ck_assert_int_eq(retry_us, 100000);
    ck_assert(!pace_take(&tat_us, 5099999, 10, 0, &retry_us));
    ck_assert_int_eq(retry_us, 1);
    ck_assert(pace_take(&tat_us, 5100000, 10, 0, &retry_us));
    ck_assert(!pace_take(&tat_us, 5100000, 10, 0, &retry_us));
}
END_TEST

START_TEST(debt_goes_further)
{
    int64_t tat_us = 0, retry_us;
    int passed = 0;

    while (pace_take(&tat_us, 0, 4, PACE_SECOND_US, &retry_us))
        passed++;
    ck_assert_int_eq(passed, 8);
    ck_assert(!pace_take(&tat_us, 1000000, 4, 0, &retry_us));
    ck_assert(pace_take(&tat_us, 1250000, 4, 0, &retry_us));
}
END_TEST

UNIT_MAIN("tally", counts_by_name, no_more_than_max, many_names,
          a_second_at_once_and_then_as_time_goes, debt_goes_further)
