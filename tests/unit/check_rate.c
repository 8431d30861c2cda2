#include "service/rate_keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

#define SECOND INT64_C(1000000000)

static struct rate_limit limit_of(int64_t quota, int64_t period_ns, int64_t burst)
{
    struct rate_limit l;
    ck_assert(rate_limit_set(&l, quota, period_ns, burst));
    return l;
}

START_TEST(costs_are_rounded_up)
{
    struct rate_limit l = limit_of(3, SECOND, 3);
    ck_assert_int_eq(rate_cost_ns(&l, 1), 333333334);
    ck_assert_int_eq(rate_cost_ns(&l, 3), SECOND);
    ck_assert_int_eq(l.burst_ns, SECOND);
}
END_TEST

START_TEST(what_fits_costs_no_more_than_the_room)
{
    static const int64_t quotas[] = {1, 3, 7, 1000, 999999937, 1000000000};
    static const int64_t periods[] = {1000000, SECOND, 60 * SECOND, RATE_PERIOD_MAX_MS * 1000000};
    static const int64_t rooms[] = {1, 999, SECOND, 86400 * SECOND, RATE_FULL_MAX_NS};

    for (size_t q = 0; q < COUNT(quotas); q++)
        for (size_t p = 0; p < COUNT(periods); p++)
            for (size_t r = 0; r < COUNT(rooms); r++) {
                struct rate_limit l = limit_of(quotas[q], periods[p], 1);
                int64_t n = rate_fit(&l, rooms[r]);
                if (n > RATE_PERMITS_MAX)
                    continue;
                ck_assert_int_le(rate_cost_ns(&l, n), rooms[r]);
                ck_assert_int_gt(rate_cost_ns(&l, n + 1), rooms[r]);
            }
}
END_TEST

START_TEST(a_burst_above_ten_years_is_refused)
{
    struct rate_limit l;
    ck_assert(!rate_limit_set(&l, 1, 366 * 86400 * SECOND, 10));
    ck_assert(!rate_limit_set(&l, 1, RATE_PERIOD_MAX_MS * 1000000, RATE_PERMITS_MAX));
    ck_assert(rate_limit_set(&l, 1, 365 * 86400 * SECOND, 10));
}
END_TEST

START_TEST(charges_keep_to_the_limit)
{
    struct rate_limit l = limit_of(10, SECOND, 5);
    int64_t tat_ns = 0, now_ns = 1000 * SECOND;
    for (int i = 0; i < 5; i++)
        ck_assert(rate_charge(&l, &tat_ns, now_ns, 1));
    ck_assert(!rate_charge(&l, &tat_ns, now_ns, 1));
    ck_assert_int_eq(rate_retry_ns(&l, tat_ns, now_ns, 1), SECOND / 10);
    ck_assert_int_eq(rate_retry_ns(&l, tat_ns, now_ns, 6), -1);
    ck_assert(!rate_charge(&l, &tat_ns, now_ns + SECOND / 10 - 1, 1));
    ck_assert(rate_charge(&l, &tat_ns, now_ns + SECOND / 10, 1));
    ck_assert_int_eq(rate_remaining(&l, tat_ns, now_ns + 100 * SECOND), 5);
}
END_TEST

START_TEST(demand_rises_at_once_and_falls_slowly)
{
    struct rate_demand d = {0};
    for (int64_t us = 10000000; us < 11000000; us += 1000)
        rate_demand_add(&d, us, 1);
    ck_assert_int_ge(rate_demand_per_s(&d, 11000000), 900);
    ck_assert_int_le(rate_demand_per_s(&d, 11000000), 1100);
    for (int i = 0; i < 500; i++)
        rate_demand_add(&d, 11000000, 1);
    ck_assert_int_ge(rate_demand_per_s(&d, 11000001), 10000);
    ck_assert_int_le(rate_demand_per_s(&d, 20000000), 100);
}
END_TEST

START_TEST(what_is_taken_in_advance_is_a_small_part)
{
    struct rate_limit hot = limit_of(1000, SECOND, 1000);
    ck_assert_int_eq(rate_life_us(&hot, 100000), SECOND / 1000 / 20);
    ck_assert_int_eq(rate_life_us(&hot, 10), 250000);
    ck_assert_int_le(rate_advance(&hot, 1000000, 31250), 125);
    ck_assert_int_eq(rate_advance(&hot, 1, 31250), 0);
    /* A burst that comes back at once leaves nothing to take in advance. */
    struct rate_limit tight = limit_of(1000, SECOND, 1);
    ck_assert_int_eq(rate_life_us(&tight, 100000), 0);
    ck_assert_int_le(rate_pause_us(&tight, 1023), 500);
}
END_TEST

/* --- keys --- */

static struct rate_ask ask_of(const char *key)
{
    return (struct rate_ask){
        .key = str_of(key), .quota = 10, .period_ms = 1000, .burst = 10, .cost = 1};
}

START_TEST(a_bounded_number_of_keys_is_remembered)
{
    struct rate_keys keys;
    char name[32];
    rate_keys_init(&keys, 7);
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof(name), "k%d", i);
        struct rate_ask ask = ask_of(name);
        ck_assert_ptr_nonnull(rate_keys_get(&keys, &ask, 1000));
    }
    ck_assert_uint_le(keys.count, 1000);
    struct rate_ask last = ask_of("k19999");
    struct rate_key *e = rate_keys_get(&keys, &last, 1000);
    ck_assert_ptr_eq(rate_keys_get(&keys, &last, 1000), e);
    last.burst = 11; /* another limit is another counter */
    ck_assert_ptr_ne(rate_keys_get(&keys, &last, 1000), e);
    rate_keys_free(&keys);
}
END_TEST

START_TEST(a_pool_ends_with_its_time)
{
    struct rate_keys keys;
    struct rate_policies none = {.epoch = 1};
    struct rate_ask ask = ask_of("k");
    rate_keys_init(&keys, 7);
    struct rate_key *e = rate_keys_get(&keys, &ask, 10);
    rate_key_resolve(e, &none);
    rate_key_pool_add(e, 3, 1000, 500);
    rate_key_pool_add(e, 2, 2000, 600);
    ck_assert_int_eq(rate_key_pool(e, 700), 5);
    ck_assert(!rate_key_take(e, 6, 700));
    ck_assert(rate_key_take(e, 4, 700));
    ck_assert_int_eq(rate_key_pool(e, 700), 1);
    rate_key_pool_add(e, 9, 900, 950); /* came too late */
    ck_assert_int_eq(rate_key_pool(e, 1000), 1);
    ck_assert_int_eq(rate_key_pool(e, 2000), 0);
    none.epoch = 2;
    rate_key_pool_add(e, 3, 3000, 2000);
    rate_key_resolve(e, &none); /* permits of other policies are worth nothing */
    ck_assert_int_eq(rate_key_pool(e, 2100), 0);
    rate_keys_free(&keys);
}
END_TEST

/* --- policies --- */

START_TEST(patterns)
{
    static const struct {
        const char *pattern;
        bool prefix;
        const char *key;
        bool matches;
    } rows[] = {
        {"a/b", true, "a/b", true},      {"a/b", true, "a/b/c", true},
        {"a/b", true, "a/bc", false},    {"a/b", false, "a/b/c", false},
        {"a/b", false, "a/b", true},     {"user:", true, "user:7", true},
        {"user", true, "user:7", false}, {"", true, "anything", true},
        {"a/", true, "a/b", true},       {"a/b", true, "a", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rate_policy p = {.pattern = (char *)rows[i].pattern, .prefix = rows[i].prefix};
        ck_assert_msg(rate_policy_matches(&p, str_of(rows[i].key)) == rows[i].matches, "%s %s",
                      rows[i].pattern, rows[i].key);
    }
}
END_TEST

START_TEST(away)
{
    struct rate_policies policies = {.epoch = 1};
    struct rate_ask ask = {.key = str_of("k"), .cost = 1};
    struct rate_keys keys;
    struct rate_policy *p = rate_policies_add(&policies);
    p->name = strdup("p");
    p->pattern = strdup("");
    p->prefix = true;
    p->away = RATE_AWAY_LOCAL;
    p->away_percent = 20;
    p->limit = limit_of(10, SECOND, 10);
    rate_keys_init(&keys, 7);
    struct rate_key *e = rate_keys_get(&keys, &ask, 10);
    rate_key_resolve(e, &policies);
    ck_assert(rate_key_decide_away(e, 1000000, 2)); /* a fifth of the burst */
    ck_assert(!rate_key_decide_away(e, 1000000, 1));
    ck_assert(!rate_key_decide_away(e, 1499999, 1));
    ck_assert(rate_key_decide_away(e, 1500000, 1));
    p->away = RATE_AWAY_ALLOW;
    policies.epoch = 2;
    rate_key_resolve(e, &policies);
    for (int i = 0; i < 100; i++)
        ck_assert(rate_key_decide_away(e, 1500000, 1));
    p->away = RATE_AWAY_DENY;
    policies.epoch = 3;
    rate_key_resolve(e, &policies);
    ck_assert(!rate_key_decide_away(e, 1500000, 1));
    rate_keys_free(&keys);
    rate_policies_free(&policies);
}
END_TEST

UNIT_MAIN("rate", costs_are_rounded_up, what_fits_costs_no_more_than_the_room,
          a_burst_above_ten_years_is_refused, charges_keep_to_the_limit,
          demand_rises_at_once_and_falls_slowly, what_is_taken_in_advance_is_a_small_part,
          a_bounded_number_of_keys_is_remembered, a_pool_ends_with_its_time, patterns, away)
