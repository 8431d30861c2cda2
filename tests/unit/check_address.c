#include "wire/address.h"

#include "unit.h"

static const char *parse(struct str s, struct address *a)
{
    char *exact = unit_exact(s);
    const char *error = address_parse((struct str){exact, s.n}, a);

    free(exact);
    return error;
}

START_TEST(tcp)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        bool local;
    } rows[] = {
        {"127.0.0.1:7432", "127.0.0.1", 7432, true},
        {"127.9.8.7:0", "127.9.8.7", 0, true},
        {"[::1]:65535", "::1", 65535, true},
        {"localhost:1", "localhost", 1, true},
        {"LocalHost:1", "LocalHost", 1, true},
        {"0.0.0.0:7432", "0.0.0.0", 7432, false},
        {"128.0.0.1:1", "128.0.0.1", 1, false},
        {"[::]:1", "::", 1, false},
        {"[fe80::1]:1", "fe80::1", 1, false},
        {"127.0.0.1.example.org:1", "127.0.0.1.example.org", 1, false},
        {"localhost.example.org:1", "localhost.example.org", 1, false},
        {"db_1.example-x.org:07432", "db_1.example-x.org", 7432, false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct address a;
        const char *error = parse(str_of(rows[i].text), &a);

        ck_assert_msg(!error, "%s: %s", rows[i].text, error);
        ck_assert_str_eq(a.host, rows[i].host);
        ck_assert_uint_eq(a.port, rows[i].port);
        ck_assert(!a.is_unix);
        ck_assert_msg(address_is_local(&a) == rows[i].local, "%s", rows[i].text);
    }
}
END_TEST

START_TEST(bad)
{
    static const struct {
        struct str text;
        const char *says;
    } rows[] = {
        {STR_LIT(""), "HOST:PORT or unix:PATH"},
        {STR_LIT("localhost"), "HOST:PORT or unix:PATH"},
        {STR_LIT("7432"), "HOST:PORT or unix:PATH"},
        {STR_LIT("[::1]"), "HOST:PORT or unix:PATH"},
        {STR_LIT(":7432"), "host is missing"},
        {STR_LIT("[]:7432"), "host is missing"},
        {STR_LIT("[127.0.0.1]:7432"), "between the brackets"},
        {STR_LIT("[::1:7432"), "name or an IP address"},
        {STR_LIT("::1:7432"), "in brackets"},
        {STR_LIT("*:7432"), "name or an IP address"},
        {STR_LIT("a b:7432"), "name or an IP address"},
        {STR_LIT("a\0b:7432"), "name or an IP address"},
        {STR_LIT("http://x:7432"), "in brackets"},
        {STR_LIT("x:"), "a port is"},
        {STR_LIT("x:65536"), "a port is"},
        {STR_LIT("x:99999"), "a port is"},
        {STR_LIT("x:000001"), "a port is"},
        {STR_LIT("x:-1"), "a port is"},
        {STR_LIT("x:7432 "), "a port is"},
        {STR_LIT("x:http"), "a port is"},
        {STR_LIT("unix:"), "path is missing"},
        {STR_LIT("unix:/a\0b"), "NUL"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct address a;
        const char *error = parse(rows[i].text, &a);

        ck_assert_msg(error && strstr(error, rows[i].says), "%s: got \"%s\", want \"%s\"",
                      rows[i].text.p, error ? error : "no error", rows[i].says);
    }
}
END_TEST

START_TEST(lengths)
{
    char text[400];
    struct address a;

    memset(text, 'x', sizeof(text));
    memcpy(text, "unix:", 5);
    ck_assert_ptr_null(parse((struct str){text, 5 + 107}, &a));
    ck_assert(a.is_unix && address_is_local(&a));
    ck_assert_uint_eq(strlen(a.path), 107);
    ck_assert_ptr_nonnull(strstr(parse((struct str){text, 5 + 108}, &a), "107"));
    memset(text, 'x', sizeof(text));
    memcpy(text + 253, ":1", 2);
    ck_assert_ptr_null(parse((struct str){text, 255}, &a));
    memcpy(text + 253, "x:1", 3);
    ck_assert_ptr_nonnull(strstr(parse((struct str){text, 256}, &a), "253"));
}
END_TEST

UNIT_MAIN("address", tcp, bad, lengths)
