#include "pg/array.h"

#include "unit.h"

static void write_ints(struct buf *b, const int64_t *v, int n)
{
    struct array_writer w;
    array_begin(&w, b, PG_INT8);
    for (int i = 0; i < n; i++)
        array_put_int8(&w, v[i]);
    array_end(&w);
}

START_TEST(integers_come_back)
{
    const int64_t in[] = {0, 1, -1, INT64_MAX, INT64_MIN, INT64_C(1) << 53};
    const int n = sizeof(in) / sizeof(in[0]);
    struct buf b = {0};
    struct array_reader r;
    int64_t v;
    write_ints(&b, in, n);
    ck_assert(array_open(&r, b.data, (int)b.len));
    for (int i = 0; i < n; i++) {
        ck_assert(array_next_int(&r, &v));
        ck_assert_int_eq(v, in[i]);
    }
    ck_assert(!array_next_int(&r, &v));
    buf_free(&b);
}
END_TEST

/* Byte for byte what array_send() makes of '{7}'::int8[]. */
START_TEST(the_format_is_the_servers)
{
    static const char expected[] = "\0\0\0\1"         /* dimensions */
                                   "\0\0\0\0"         /* no nulls */
                                   "\0\0\0\x14"       /* int8 */
                                   "\0\0\0\1\0\0\0\1" /* one element, from 1 */
                                   "\0\0\0\x8\0\0\0\0\0\0\0\7";
    const int64_t seven = 7;
    struct buf b = {0};
    write_ints(&b, &seven, 1);
    ck_assert_uint_eq(b.len, sizeof(expected) - 1);
    ck_assert_mem_eq(b.data, expected, b.len);
    buf_free(&b);
}
END_TEST

START_TEST(an_empty_array_has_no_dimension)
{
    struct buf b = {0};
    struct array_reader r;
    int64_t v;
    write_ints(&b, NULL, 0);
    ck_assert_uint_eq(b.len, 12);
    ck_assert(array_open(&r, b.data, (int)b.len));
    ck_assert(!array_next_int(&r, &v));
    ck_assert(array_open(&r, NULL, 0)); /* SQL null */
    ck_assert(!array_next_int(&r, &v));
    buf_free(&b);
}
END_TEST

START_TEST(texts_and_nulls_come_back)
{
    struct buf b = {0};
    struct array_writer w;
    struct array_reader r;
    struct str s;
    buf_puts(&b, "before"); /* an array need not stand at the start */
    array_begin(&w, &b, PG_TEXT);
    array_put_text(&w, STR_LIT("a/b"));
    array_put_null(&w);
    array_put_text(&w, (struct str){NULL, 0});
    array_end(&w);
    ck_assert_int_eq(b.data[6 + 7], 1); /* has nulls */
    ck_assert(array_open(&r, b.data + 6, (int)b.len - 6));
    ck_assert(array_next_text(&r, &s) && str_is(s, "a/b"));
    ck_assert(array_next_text(&r, &s) && s.p == NULL);
    ck_assert(array_next_text(&r, &s) && s.p != NULL && s.n == 0);
    ck_assert(!array_next_text(&r, &s));
    buf_free(&b);
}
END_TEST

/* Every prefix of an array, and lengths that point outside, are refused without reading past it. */
START_TEST(malformed_bytes_are_refused)
{
    const int64_t in[] = {1, 2};
    struct buf b = {0};
    struct array_reader r;
    int64_t v;
    write_ints(&b, in, 2);
    for (size_t n = 0; n < b.len; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, b.data, n);
        bool whole =
            array_open(&r, copy, (int)n) && array_next_int(&r, &v) && array_next_int(&r, &v);
        ck_assert(!whole);
        free(copy);
    }
    b.data[20 + 3] = 100; /* the first element claims 100 bytes */
    ck_assert(array_open(&r, b.data, (int)b.len));
    ck_assert(!array_next_int(&r, &v));
    b.data[3] = 2; /* two dimensions */
    ck_assert(!array_open(&r, b.data, (int)b.len));
    buf_free(&b);
}
END_TEST

UNIT_MAIN("array", integers_come_back, the_format_is_the_servers, an_empty_array_has_no_dimension,
          texts_and_nulls_come_back, malformed_bytes_are_refused)
