#include "wire/duration.h"

#include "unit.h"

#define DAY_MS INT64_C(86400000)

static const char *parse(const char *text, int allow_inf, int64_t *ms)
{
    struct str s = str_of(text);
    char *exact = unit_exact(s);
    const char *error = duration_parse((struct str){exact, s.n}, allow_inf, ms);

    free(exact);
    return error;
}

START_TEST(good)
{
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"0s", 0},
        {"0ms", 0},
        {"1ms", 1},
        {"500ms", 500},
        {"30s", 30000},
        {"5m", 300000},
        {"2h", 7200000},
        {"1d", DAY_MS},
        {"0030s", 30000},
        {"3650d", 3650 * DAY_MS},
        {"87600h", 3650 * DAY_MS},
        {"315360000000ms", 3650 * DAY_MS},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t ms = -1;
        const char *error = parse(rows[i].text, 0, &ms);

        ck_assert_msg(!error, "%s: %s", rows[i].text, error);
        ck_assert_int_eq(ms, rows[i].ms);
    }
}
END_TEST

START_TEST(bad)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "whole number with a unit"},
        {"s", "whole number with a unit"},
        {"-5s", "whole number with a unit"},
        {"+5s", "whole number with a unit"},
        {" 5s", "whole number with a unit"},
        {"abc", "whole number with a unit"},
        {"INF", "whole number with a unit"},
        {"30", "needs a unit"},
        {"0", "needs a unit"},
        {"1.5s", "1500ms"},
        {"30 s", "no space"},
        {"30S", "ms, s, m, h or d"},
        {"30sec", "ms, s, m, h or d"},
        {"5us", "ms, s, m, h or d"},
        {"5m30s", "ms, s, m, h or d"},
        {"5s ", "ms, s, m, h or d"},
        {"3651d", "3650d"},
        {"87601h", "3650d"},
        {"315360000001ms", "3650d"},
        {"9223372036854775807ms", "3650d"},
        {"9223372036854775808d", "3650d"},
        {"99999999999999999999999999999999999999999s", "3650d"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t ms = 12345;
        const char *error = parse(rows[i].text, 1, &ms);

        ck_assert_msg(error && strstr(error, rows[i].says), "\"%s\": got \"%s\", want \"%s\"",
                      rows[i].text, error ? error : "no error", rows[i].says);
        ck_assert_int_eq(ms, 12345);
    }
}
END_TEST

START_TEST(infinity)
{
    int64_t ms = 0;

    ck_assert_ptr_null(parse("inf", 1, &ms));
    ck_assert(ms == DURATION_INF);
    ck_assert_ptr_nonnull(strstr(parse("inf", 0, &ms), "not accepted here"));
}
END_TEST

START_TEST(format)
{
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "0s"},
        {1, "1ms"},
        {999, "999ms"},
        {1000, "1s"},
        {1500, "1500ms"},
        {60000, "1m"},
        {90000, "90s"},
        {3600000, "1h"},
        {5400000, "90m"},
        {DAY_MS, "1d"},
        {25 * DAY_MS / 24, "25h"},
        {DURATION_INF, "inf"},
        {-1500, "-1500ms"},
        {INT64_MIN, "-9223372036854775808ms"},
    };
    char out[24];

    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_str_eq(duration_format(rows[i].ms, out), rows[i].text);
}
END_TEST

START_TEST(round_trip)
{
    struct unit_random r = {2};
    char out[24];

    for (int i = 0; i < 100000; i++) {
        int64_t shift = (int64_t)unit_below(&r, 38);
        int64_t ms = (int64_t)(unit_next(&r) >> 26) % (3650 * DAY_MS) >> shift;
        int64_t back = -1;

        ck_assert_ptr_null(parse(duration_format(ms, out), 0, &back));
        ck_assert_int_eq(back, ms);
    }
}
END_TEST

UNIT_MAIN("duration", good, bad, infinity, format, round_trip)
