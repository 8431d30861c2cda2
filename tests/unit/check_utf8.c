#include "wire/utf8.h"

#include "base/codepoint.h"
#include "unit.h"

static bool valid(struct str s)
{
    char *exact = unit_exact(s);
    bool ok = utf8_valid((struct str){exact, s.n});

    free(exact);
    return ok;
}

START_TEST(good)
{
    static const struct str rows[] = {
        STR_LIT(""),
        STR_LIT("plain"),
        STR_LIT("a\0b"),
        STR_LIT("\x7f"),
        STR_LIT("\xc2\x80"),
        STR_LIT("\xdf\xbf"),
        STR_LIT("\xe0\xa0\x80"),
        STR_LIT("\xed\x9f\xbf"),
        STR_LIT("\xee\x80\x80"),
        STR_LIT("\xef\xbf\xbf"),
        STR_LIT("\xf0\x90\x80\x80"),
        STR_LIT("\xf4\x8f\xbf\xbf"),
        STR_LIT("a\xc3\xa4o\xf0\x9f\x94\x92z"),
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(valid(rows[i]), "row %zu", i);
}
END_TEST

START_TEST(bad)
{
    static const struct str rows[] = {
        STR_LIT("\x80"), /* continuation alone */
        STR_LIT("\xbf"),
        STR_LIT("\xc3"), /* cut short */
        STR_LIT("\xe2\x82"),
        STR_LIT("\xf0\x9f\x94"),
        STR_LIT("\xc3("), /* continuation missing */
        STR_LIT("\xe2(\xa1"),
        STR_LIT("\xe2\x82("),
        STR_LIT("\xf0\x28\x8c\xbc"),
        STR_LIT("\xc0\x80"), /* overlong */
        STR_LIT("\xc1\xbf"),
        STR_LIT("\xe0\x9f\xbf"),
        STR_LIT("\xf0\x8f\xbf\xbf"),
        STR_LIT("\xed\xa0\x80"), /* surrogates */
        STR_LIT("\xed\xbf\xbf"),
        STR_LIT("\xf4\x90\x80\x80"), /* above U+10FFFF */
        STR_LIT("\xf5\x80\x80\x80"),
        STR_LIT("\xf8\x88\x80\x80\x80"),
        STR_LIT("\xfe"),
        STR_LIT("\xff"),
        STR_LIT("good\xffgood"),
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(!valid(rows[i]), "row %zu", i);
}
END_TEST

/* Every scalar value is encoded and decoded to itself, in the shortest form. */
START_TEST(every_code_point)
{
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        char bytes[4];
        uint32_t back = 0;
        size_t n;

        if (cp >= 0xd800 && cp <= 0xdfff)
            continue;
        n = codepoint_encode(cp, bytes);
        if (codepoint_decode(bytes, n, &back) != n || back != cp ||
            (n > 1 && codepoint_decode(bytes, n - 1, &back) != 0))
            ck_abort_msg("U+%04X in %zu bytes", cp, n);
    }
}
END_TEST

START_TEST(controls)
{
    ck_assert(codepoint_is_control(0));
    ck_assert(codepoint_is_control(0x1f));
    ck_assert(!codepoint_is_control(0x20));
    ck_assert(!codepoint_is_control(0x7e));
    ck_assert(codepoint_is_control(0x7f));
    ck_assert(codepoint_is_control(0x9f));
    ck_assert(!codepoint_is_control(0xa0));
}
END_TEST

UNIT_MAIN("utf8", good, bad, every_code_point, controls)
