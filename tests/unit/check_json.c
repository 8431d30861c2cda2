#include "base/json.h"

#include <cjson/cJSON.h>

#include "unit.h"

START_TEST(commas)
{
    struct buf b = {0};
    struct json j = json_to(&b);

    json_begin_object(&j);
    json_put_string(&j, "a", STR_LIT("x"));
    json_key(&j, "b");
    json_begin_array(&j);
    json_begin_object(&j);
    json_end_object(&j);
    json_begin_array(&j);
    json_end_array(&j);
    json_int(&j, -1);
    json_null(&j);
    json_bool(&j, true);
    json_raw(&j, STR_LIT("{\"r\":1}"));
    json_string(&j, (struct str){NULL, 0});
    json_end_array(&j);
    json_put_int(&j, "c", 2);
    json_put_bool(&j, "d", false);
    json_end_object(&j);
    ck_assert_str_eq(buf_cstr(&b),
                     "{\"a\":\"x\",\"b\":[{},[],-1,null,true,{\"r\":1},\"\"],\"c\":2,\"d\":false}");
    buf_free(&b);
}
END_TEST

START_TEST(integers_are_exact)
{
    static const struct {
        int64_t v;
        const char *text;
    } rows[] = {
        {INT64_C(1000000000000000), "1000000000000000"},
        {INT64_C(9007199254740991), "9007199254740991"},
        {INT64_MAX, "9223372036854775807"},
        {INT64_MIN, "-9223372036854775808"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = {0};
        struct json j = json_to(&b);

        json_int(&j, rows[i].v);
        ck_assert_str_eq(buf_cstr(&b), rows[i].text);
        buf_free(&b);
    }
}
END_TEST

#define BAD "\xef\xbf\xbd"

START_TEST(strings)
{
    static const struct {
        struct str in;
        const char *out;
    } rows[] = {
        {STR_LIT(""), "\"\""},
        {STR_LIT("plain ~ !"), "\"plain ~ !\""},
        {STR_LIT("\"\\/"), "\"\\\"\\\\/\""},
        {STR_LIT("a\0b"), "\"a\\u0000b\""},
        {STR_LIT("\n\r\t\x1f"), "\"\\u000a\\u000d\\u0009\\u001f\""},
        {STR_LIT("\x7f"), "\"\\u007f\""},
        {STR_LIT("\xc2\x85"), "\"\\u0085\""},
        {STR_LIT("\xc2\xa0"), "\"\xc2\xa0\""},
        {STR_LIT("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\""},
        {STR_LIT("\xf0\x9f\x94\x92"), "\"\xf0\x9f\x94\x92\""},
        {STR_LIT("\xff"), "\"" BAD "\""},
        {STR_LIT("a\xc3"), "\"a" BAD "\""},
        {STR_LIT("\xc3("), "\"" BAD "(\""},
        {STR_LIT("\xed\xa0\x80"), "\"" BAD BAD BAD "\""}, /* a surrogate */
        {STR_LIT("\xc0\x80"), "\"" BAD BAD "\""},         /* overlong NUL */
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = unit_exact(rows[i].in);
        struct buf b = {0};
        struct json j = json_to(&b);

        json_string(&j, (struct str){exact, rows[i].in.n});
        ck_assert_str_eq(buf_cstr(&b), rows[i].out);
        buf_free(&b);
        free(exact);
    }
}
END_TEST

/* Whatever the bytes, another parser reads the string, and valid text comes back as it was. */
START_TEST(random_bytes_are_valid_json)
{
    struct unit_random r = {1};

    for (int round = 0; round < 20000; round++) {
        char bytes[24];
        size_t n = unit_below(&r, sizeof(bytes));
        bool ascii = round % 2 == 0;
        struct buf b = {0};
        struct json j = json_to(&b);
        cJSON *parsed;

        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(ascii ? 1 + unit_below(&r, 127) : 1 + unit_below(&r, 255));
        json_string(&j, (struct str){bytes, n});
        parsed = cJSON_ParseWithOpts(buf_cstr(&b), NULL, 1);
        ck_assert_msg(cJSON_IsString(parsed), "not JSON: %s", b.data);
        if (ascii)
            ck_assert_bytes(str_of(parsed->valuestring), ((struct str){bytes, n}), "round trip");
        cJSON_Delete(parsed);
        buf_free(&b);
    }
}
END_TEST

UNIT_MAIN("json", commas, integers_are_exact, strings, random_bytes_are_valid_json)
