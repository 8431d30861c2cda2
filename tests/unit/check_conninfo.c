#include "wire/conninfo.h"

#include "unit.h"

START_TEST(redacts)
{
    static const struct {
        const char *in, *out;
        bool secret;
    } rows[] = {
        {"", "", false},
        {"   ", "   ", false},
        {"host=h port=5432 dbname=d", "host=h port=5432 dbname=d", false},
        {"host=h password=s3 user=u", "host=h password=*** user=u", true},
        {"password = s3", "password = ***", true},
        {"password='a b' host=h", "password=*** host=h", true},
        {"password='a\\'b' host=h", "password=*** host=h", true},
        {"password=a\\ b host=h", "password=*** host=h", true},
        {"password='not closed host=h", "password=***", true},
        {"password=", "password=***", true},
        {"PASSWORD=x", "PASSWORD=***", true},
        {"sslpassword=x oauth_client_secret=y", "sslpassword=*** oauth_client_secret=***", true},
        {"passfile=/f service=s", "passfile=/f service=s", false},
        {"application_name='password=x'", "application_name='password=x'", false},
        {"host=h password", "host=h ***", false}, /* libpq refuses these two */
        {"host=h my secret=x", "host=h ***", false},
        {"password=my secret", "password=*** ***", true},
        {"postgresql://", "postgresql://", false},
        {"postgresql://u@h:5432/d", "postgresql://u@h:5432/d", false},
        {"postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d", true},
        {"postgres://u:p@h", "postgres://u:***@h", true},
        {"postgresql://h:1,g:2/d?target_session_attrs=any",
         "postgresql://h:1,g:2/d?target_session_attrs=any", false},
        {"postgresql://h/d?password=x&user=u", "postgresql://h/d?password=***&user=u", true},
        {"postgresql://h/d?user=u&sslpassword=x", "postgresql://h/d?user=u&sslpassword=***", true},
        {"postgresql://h/d?p%61ssword=x&a=b", "postgresql://h/d?p%61ssword=***&a=b", true},
        {"postgresql://u:p?q@h/d", "postgresql://u:***", true},
        {"postgresql://u:p@q@h/d?a=b", "postgresql://u:***@h/d?a=b", true},
        {"postgresql://u:p/q@h/d", "postgresql://u:***@h/d", false}, /* a port to libpq */
        {"postgresql://u@h:1/d?password=x@y", "postgresql://u@h:***", true},
        {"postgresql://u@h/d?password=x@y", "postgresql://u@h/d?password=***", true},
        {"postgresql://u@h/d?password=x:y", "postgresql://u@h/d?password=***", true},
        {"postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d", false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str in = str_of(rows[i].in);
        char *exact = unit_exact(in);
        struct buf out = {0};

        in.p = exact;
        ck_assert_msg(conninfo_redact(in, &out) == rows[i].secret, "%s", rows[i].in);
        ck_assert_bytes(buf_str(&out), str_of(rows[i].out), rows[i].in);
        ck_assert_msg(conninfo_redact(in, NULL) == rows[i].secret, "%s", rows[i].in);
        buf_free(&out);
        free(exact);
    }
}
END_TEST

/* A password of any form between known neighbours never comes out. */
START_TEST(no_leak)
{
    static const char alphabet[] = "S?/@:&=%' \\#";
    struct unit_random r = {6};

    for (int round = 0; round < 100000; round++) {
        char secret[9] = "S";
        size_t n = 1 + unit_below(&r, 7);
        struct buf in = {0}, out = {0};

        for (size_t i = 1; i < n; i++)
            secret[i] = alphabet[unit_below(&r, sizeof(alphabet) - 1)];
        switch (round % 3) {
        case 0:
            buf_printf(&in, "postgresql://u:%s@h:1/d?a=b", secret);
            break;
        case 1:
            buf_printf(&in, "postgresql://u@h:1/d?a=b&password=S%s",
                       strchr(secret, '&') ? "" : secret);
            break;
        default:
            buf_printf(&in, "host=h password='S%s' user=u", strpbrk(secret, "'\\") ? "" : secret);
        }
        conninfo_redact(buf_str(&in), &out);
        ck_assert_msg(!memchr(out.data, 'S', out.len), "%s: %s", buf_cstr(&in), buf_cstr(&out));
        buf_free(&in);
        buf_free(&out);
    }
}
END_TEST

UNIT_MAIN("conninfo", redacts, no_leak)
