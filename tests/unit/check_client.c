/* The client library without a network: replies, quoting, addresses. */

#include <inttypes.h>
#include <stdio.h>

#include "client/address.h"
#include "client/reply.h"
#include "unit.h"
#include "wire/line.h"

START_TEST(replies_are_taken_apart)
{
    static const struct {
        const char *line;
        enum line_kind kind;
        pglockd_status status;
        const char *tag;
        const char *json;
    } cases[] = {
        {"OK {}", LINE_REPLY, PGLOCKD_OK, NULL, "{}"},
        {"BUSY {\"a\":1}", LINE_REPLY, PGLOCKD_BUSY, NULL, "{\"a\":1}"},
        {"@x.1 TIMEOUT {}", LINE_REPLY, PGLOCKD_TIMEOUT, "x.1", "{}"},
        {"@y LOST {}", LINE_REPLY, PGLOCKD_LOST, "y", "{}"},
        {"LIMITED {}", LINE_REPLY, PGLOCKD_LIMITED, NULL, "{}"},
        {"DEADLOCK {}", LINE_REPLY, PGLOCKD_DEADLOCK, NULL, "{}"},
        {"DENIED {}", LINE_REPLY, PGLOCKD_DENIED, NULL, "{}"},
        {"ERR {} ", LINE_REPLY, PGLOCKD_ERR, NULL, "{} "},
        {"* EVENT {\"event\":\"lost\"}", LINE_EVENT, 0, NULL, "{\"event\":\"lost\"}"},
        {"* BYE {}", LINE_BYE, 0, NULL, "{}"},
        {"", LINE_BAD, 0, NULL, NULL},
        {"OK", LINE_BAD, 0, NULL, NULL},
        {"ok {}", LINE_BAD, 0, NULL, NULL},
        {"OKAY {}", LINE_BAD, 0, NULL, NULL},
        {"UNREACHABLE {}", LINE_BAD, 0, NULL, NULL},
        {"@x", LINE_BAD, 0, NULL, NULL},
        {"@x  OK {}", LINE_BAD, 0, NULL, NULL},
        {"* EVENTS {}", LINE_BAD, 0, NULL, NULL},
        {"HTTP/1.1 400 Bad Request", LINE_BAD, 0, NULL, NULL},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct line_parts p = line_parse(cases[i].line);

        ck_assert_msg(p.kind == cases[i].kind, "%s: kind %d", cases[i].line, p.kind);
        if (p.kind == LINE_BAD)
            continue;
        ck_assert_str_eq(p.json, cases[i].json);
        if (p.kind != LINE_REPLY)
            continue;
        ck_assert_int_eq(p.status, cases[i].status);
        ck_assert_int_eq(p.tag != NULL, cases[i].tag != NULL);
        if (p.tag)
            ck_assert_bytes(((struct str){p.tag, p.tag_len}), str_of(cases[i].tag), cases[i].line);
    }
}
END_TEST

START_TEST(integers_are_exact)
{
    static const int64_t numbers[] = {
        0, 1, -1, 2147483647, 2147483648, 1000000000000000, 9007199254740991, -9007199254740991};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        char json[64];
        int nomem;

        snprintf(json, sizeof(json), "{\"token\":%" PRId64 "}", numbers[i]);
        pglockd_reply *r = reply_new(PGLOCKD_OK, json, &nomem);
        ck_assert_ptr_nonnull(r);
        ck_assert_int_eq(pglockd_reply_int(r, "token", 7), numbers[i]);
        ck_assert_str_eq(pglockd_reply_json(r), json);
        pglockd_reply_free(r);
    }
}
END_TEST

START_TEST(members_of_another_type_give_the_fallback)
{
    int nomem;
    pglockd_reply *r =
        reply_new(PGLOCKD_LOST, "{\"a\":\"x\",\"b\":1,\"c\":null,\"d\":1e300}", &nomem);

    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(pglockd_reply_status(r), PGLOCKD_LOST);
    ck_assert_int_eq(pglockd_reply_int(r, "a", -5), -5);
    ck_assert_int_eq(pglockd_reply_int(r, "c", -5), -5);
    ck_assert_int_eq(pglockd_reply_int(r, "d", -5), -5);
    ck_assert_int_eq(pglockd_reply_int(r, "B", -5), -5);
    ck_assert_str_eq(pglockd_reply_string(r, "a", "-"), "x");
    ck_assert_str_eq(pglockd_reply_string(r, "b", "-"), "-");
    ck_assert_str_eq(pglockd_reply_string(r, "missing", "-"), "-");
    pglockd_reply_free(r);
}
END_TEST

START_TEST(what_is_no_object_is_refused)
{
    static const char *const bad[] = {"", "{", "[]", "1", "{} {}", "{}x", "{\"a\":}", "nil"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        int nomem;
        ck_assert_msg(!reply_new(PGLOCKD_OK, bad[i], &nomem), "%s", bad[i]);
        ck_assert_int_eq(nomem, 0);
    }
}
END_TEST

/* What is written with the request builder comes back out of the daemon's own parser. */
START_TEST(words_come_back_as_they_were)
{
    static const char *const words[] = {
        "plain",       "",          "a b",       "a=b",          "@tag",        "\"quoted\"",
        "back\\slash", "tab\there", "line\nend", "\x01\x1f\x7f", "caf\xc3\xa9", "\\u0041",
        "a\" b=\"c",   "\r\n",
    };
    for (size_t i = 0; i < COUNT(words); i++) {
        pglockd_request *r = pglockd_request_new("LOCK");
        struct wire_request *w = malloc(sizeof(*w));

        pglockd_request_arg(r, words[i]);
        pglockd_request_value(r, "note", words[i]);
        pglockd_request_ms(r, "ttl", 1500);
        pglockd_request_ms(r, "wait", PGLOCKD_FOREVER);
        pglockd_request_int(r, "token", INT64_C(9007199254740991));
        char *line = strdup(pglockd_request_line(r));
        const char *problem = wire_parse(line, strlen(line), w);
        ck_assert_msg(!problem, "%s: %s", pglockd_request_line(r), problem);
        ck_assert_uint_eq(w->nargs, 1);
        ck_assert_bytes(w->args[0], str_of(words[i]), "argument");
        ck_assert_bytes(*wire_value(w, "note"), str_of(words[i]), "value");
        ck_assert_bytes(*wire_value(w, "ttl"), STR_LIT("1500ms"), "ttl");
        ck_assert_bytes(*wire_value(w, "wait"), STR_LIT("inf"), "wait");
        ck_assert_bytes(*wire_value(w, "token"), STR_LIT("9007199254740991"), "token");
        free(line);
        free(w);
        pglockd_request_free(r);
    }
}
END_TEST

START_TEST(random_words_come_back_as_they_were)
{
    struct unit_random random = {42};
    struct wire_request *w = malloc(sizeof(*w));

    for (int round = 0; round < 2000; round++) {
        char word[32];
        size_t n = unit_below(&random, sizeof(word));
        for (size_t i = 0; i < n; i++)
            word[i] = (char)(1 + unit_below(&random, 127));
        word[n] = '\0';
        char *quoted = pglockd_quote(word), line[300];
        int len = snprintf(line, sizeof(line), "INFO %s", quoted);
        ck_assert_ptr_null(wire_parse(line, (size_t)len, w));
        ck_assert_bytes(w->args[0], str_of(word), "word");
        free(quoted);
    }
    free(w);
}
END_TEST

START_TEST(addresses_are_read)
{
    struct address_list list;
    char error[512];

    ck_assert_int_eq(address_list_parse("tcp://a.example:1,unix:/x/y,[::1]:7432,b:65535", &list,
                                        error, sizeof(error)),
                     0);
    ck_assert_uint_eq(list.count, 4);
    ck_assert_str_eq(list.items[0].host, "a.example");
    ck_assert_str_eq(list.items[0].port, "1");
    ck_assert_str_eq(list.items[1].path, "/x/y");
    ck_assert_ptr_null(list.items[1].host);
    ck_assert_str_eq(list.items[2].host, "::1");
    ck_assert_str_eq(list.items[3].text, "b:65535");
    address_list_free(&list);
}
END_TEST

START_TEST(bad_addresses_are_refused)
{
    static const char *const bad[] = {
        "",        ",",          "host",        "host:",    "host:0",   "host:65536",
        "host:1x", ":7432",      "unix:",       "::1:7432", "tcp://",   "tls://",
        "a:1,",    "http://a:1", "tcp://a/b:1", "[]:1",     "a:1,,b:2", "host:-1",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct address_list list;
        char error[512] = "";

        ck_assert_msg(address_list_parse(bad[i], &list, error, sizeof(error)) < 0, "%s", bad[i]);
        ck_assert_msg(strstr(error, "the address \""), "%s: %s", bad[i], error);
        ck_assert_uint_eq(list.count, 0);
    }
}
END_TEST

START_TEST(tls_is_read_from_the_address)
{
    struct address_list list;
    char error[512] = "";

    ck_assert_int_eq(address_list_parse("tls://h:1,tcp://i:2,tls://[::1]:3", &list, error, 512), 0);
    ck_assert(list.items[0].tls && !list.items[1].tls && list.items[2].tls);
    ck_assert_str_eq(list.items[0].host, "h");
    ck_assert_str_eq(list.items[2].host, "::1");
    address_list_free(&list);
}
END_TEST

START_TEST(tls_options_without_their_size_are_refused)
{
    pglockd *c = pglockd_new("tls://h:1");
    pglockd_tls_options o = {.ca_file = "/nowhere"};
    ck_assert_int_eq(pglockd_set_tls(c, &o), PGLOCKD_INVALID);
    ck_assert_int_eq(pglockd_set_tls(c, NULL), PGLOCKD_OK);
    pglockd_free(c);
}
END_TEST

UNIT_MAIN("client", replies_are_taken_apart, integers_are_exact,
          members_of_another_type_give_the_fallback, what_is_no_object_is_refused,
          words_come_back_as_they_were, random_words_come_back_as_they_were, addresses_are_read,
          bad_addresses_are_refused, tls_is_read_from_the_address,
          tls_options_without_their_size_are_refused)
