#include "base/buf.h"

#include "unit.h"

START_TEST(empty)
{
    struct buf b = {0};

    buf_put(&b, NULL, 0);
    buf_puts(&b, "");
    buf_drop(&b, 0);
    buf_drop(&b, 5);
    buf_trim(&b, 0);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_ptr_null(b.data);
    ck_assert_str_eq(buf_cstr(&b), "");
    ck_assert_uint_eq(b.len, 0);
    buf_free(&b);
    buf_free(&b);
}
END_TEST

START_TEST(appends_across_growth)
{
    struct buf b = {0};

    for (int i = 0; i < 10000; i++) {
        buf_putc(&b, (char)('a' + i % 26));
        buf_put(&b, "\0xy", 3);
    }
    ck_assert_uint_eq(b.len, 40000);
    for (size_t i = 0; i < 10000; i++) {
        ck_assert_int_eq(b.data[4 * i], (char)('a' + i % 26));
        ck_assert_mem_eq(b.data + 4 * i + 1, "\0xy", 3);
    }
    buf_free(&b);
    ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(reserve_gives_room)
{
    struct buf b = {0};

    for (size_t n = 0; n < 300; n++) {
        char *p = buf_reserve(&b, n);

        ck_assert_ptr_eq(p, b.data + b.len);
        ck_assert_uint_ge(b.cap - b.len, n);
        memset(p, 'x', n);
        b.len += n;
    }
    buf_free(&b);
}
END_TEST

START_TEST(integers)
{
    static const struct {
        int64_t v;
        const char *text;
    } rows[] = {
        {0, "0"},
        {-1, "-1"},
        {9, "9"},
        {10, "10"},
        {INT64_C(1000000000000000), "1000000000000000"},
        {INT64_C(9007199254740991), "9007199254740991"},
        {INT64_MAX, "9223372036854775807"},
        {INT64_MIN, "-9223372036854775808"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = {0};

        buf_put_int(&b, rows[i].v);
        ck_assert_str_eq(buf_cstr(&b), rows[i].text);
        buf_free(&b);
    }
}
END_TEST

START_TEST(printf_of_every_length)
{
    char want[400];

    for (size_t n = 0; n < 300; n++) {
        struct buf b = {0};

        memset(want, 'z', n);
        want[n] = '\0';
        buf_puts(&b, "ab");
        buf_printf(&b, "%s", want);
        ck_assert_uint_eq(b.len, n + 2);
        buf_printf(&b, "%s|%d", want, -7);
        ck_assert_uint_eq(b.len, n * 2 + 5);
        ck_assert_mem_eq(b.data, "ab", 2);
        ck_assert_mem_eq(b.data + 2, want, n);
        ck_assert_str_eq(buf_cstr(&b) + 2 + 2 * n, "|-7");
        buf_free(&b);
    }
}
END_TEST

START_TEST(drop_and_trim)
{
    struct buf b = {0};

    buf_puts(&b, "abcdef");
    buf_drop(&b, 2);
    ck_assert_bytes(buf_str(&b), STR_LIT("cdef"), "drop 2");
    buf_trim(&b, 0); /* not empty: nothing happens */
    ck_assert_bytes(buf_str(&b), STR_LIT("cdef"), "trim");
    buf_drop(&b, 4);
    ck_assert_uint_eq(b.len, 0);
    buf_trim(&b, b.cap);
    ck_assert_ptr_nonnull(b.data);
    buf_trim(&b, b.cap - 1);
    ck_assert_ptr_null(b.data);
    ck_assert_uint_eq(b.cap, 0);
    buf_puts(&b, "again");
    buf_drop(&b, 100);
    ck_assert_uint_eq(b.len, 0);
    buf_free(&b);
}
END_TEST

START_TEST(str_comparisons)
{
    ck_assert(str_eq((struct str){NULL, 0}, STR_LIT("")));
    ck_assert(str_eq(STR_LIT("a\0b"), STR_LIT("a\0b")));
    ck_assert(!str_eq(STR_LIT("a\0b"), STR_LIT("a\0c")));
    ck_assert(!str_is(STR_LIT("ab"), "abc"));
    ck_assert(str_is_nocase(STR_LIT("LoCk"), "lock"));
    ck_assert(!str_is_nocase(STR_LIT("locks"), "lock"));
    ck_assert(str_is(str_of(NULL), ""));
}
END_TEST

UNIT_MAIN("buf", empty, appends_across_growth, reserve_gives_room, integers, printf_of_every_length,
          drop_and_trim, str_comparisons)
