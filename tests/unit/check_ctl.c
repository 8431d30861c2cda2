/* pglockctl without a daemon: options, words, exit statuses, text, the histogram. */

#include <locale.h>
#include <stdio.h>

#include "pglockctl/ctl.h"
#include "pglockctl/hist.h"
#include "pglockctl/run_guard.h"
#include "pglockctl/text.h"
#include "unit.h"
#include "wire/line.h"

/* ---- options ---- */

static struct {
    bool flag, other;
    const char *text;
    int64_t number, time;
} o;

static const struct opt table[] = {
    {.letter = 'f', .name = "flag", .kind = OPT_FLAG, .into = &o.flag, .help = "a flag"},
    {.letter = 'o', .name = "other", .kind = OPT_FLAG, .into = &o.other, .help = "another"},
    {.letter = 't', .name = "text", .kind = OPT_STRING, .into = &o.text, .value = "T"},
    {.letter = 'N', .name = "num", .kind = OPT_NUMBER, .into = &o.number, .min = 1, .max = 9},
    {.name = "time", .kind = OPT_DURATION, .into = &o.time, .min = 10, .max = 5000},
};

/* Splits line at spaces and parses it; the words point into static memory. */
static bool parse(const char *line, bool stop, struct opt_words *words, struct buf *err)
{
    static char copy[256], *argv[32];
    const struct opt *tables[] = {table};
    const size_t sizes[] = {COUNT(table)};
    int argc = 0;

    memset(&o, 0, sizeof(o));
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word)
            argv[argc++] = word;
    return opt_parse(argc, argv, stop, tables, sizes, 1, words, err);
}

START_TEST(options_and_words_may_be_mixed)
{
    struct opt_words w;
    struct buf err = {0};

    ck_assert(parse("a -fN3 b --text=x=y --time 2s - -o -- -f --", false, &w, &err));
    ck_assert(o.flag && o.other);
    ck_assert_str_eq(o.text, "x=y");
    ck_assert_int_eq(o.number, 3);
    ck_assert_int_eq(o.time, 2000);
    ck_assert_uint_eq(w.nwords, 3);
    ck_assert_str_eq(w.words[0], "a");
    ck_assert_str_eq(w.words[1], "b");
    ck_assert_str_eq(w.words[2], "-");
    ck_assert(w.dashes);
    ck_assert_uint_eq(w.nrest, 2);
    ck_assert_str_eq(w.rest[0], "-f");
    ck_assert_str_eq(w.rest[1], "--");
}
END_TEST

START_TEST(the_first_word_can_end_the_options)
{
    struct opt_words w;
    struct buf err = {0};

    ck_assert(parse("-f command -o --what", true, &w, &err));
    ck_assert(o.flag && !o.other);
    ck_assert_uint_eq(w.nwords, 3);
    ck_assert_str_eq(w.words[0], "command");
}
END_TEST

START_TEST(bad_options_are_named)
{
    static const struct {
        const char *line, *in_message;
    } cases[] = {
        {"--nope", "--nope"},    {"-x", "-x"},        {"-fx", "-x"},
        {"--text", "needs"},     {"-t", "needs"},     {"--flag=1", "no value"},
        {"-N 0", "from 1 to 9"}, {"-N 10", "from 1"}, {"-N 3x", "3x"},
        {"-N", "needs"},         {"--time 30", "30"}, {"--time 6s", "from 10ms to 5s"},
        {"--time inf", "inf"},   {"--fla", "--fla"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct opt_words w;
        struct buf err = {0};

        ck_assert_msg(!parse(cases[i].line, false, &w, &err), "%s", cases[i].line);
        ck_assert_msg(strstr(buf_cstr(&err), cases[i].in_message), "%s: %s", cases[i].line,
                      buf_cstr(&err));
        buf_free(&err);
    }
}
END_TEST

/* ---- words ---- */

START_TEST(words_become_one_quoted_line)
{
    static const struct {
        const char *words[4], *rest[2], *line;
    } cases[] = {
        {{"a/b", "ttl=30s"}, {0}, "V \"a/b\" ttl=\"30s\""},
        {{"ttl=30s", "a/b"}, {0}, "V \"a/b\" ttl=\"30s\""},
        {{"note=two words", "a"}, {0}, "V \"a\" note=\"two words\""},
        {{"note=", "a b"}, {0}, "V \"a b\" note=\"\""},
        {{"a/b=c"}, {0}, "V \"a/b=c\""},
        {{"1=c"}, {0}, "V \"1=c\""},
        {{"\"a=b\"", "note=\"x y\""}, {0}, "V \"a=b\" note=\"x y\""},
        {{"\"a\" b=\"c\""}, {0}, "V \"\\\"a\\\" b=\\\"c\\\"\""},
        {{"\"open"}, {0}, "V \"\\\"open\""},
        {{"x", "shared-tree=y"}, {"ttl=30s"}, "V \"x\" \"ttl=30s\" shared-tree=\"y\""},
        {{"two\nlines"}, {0}, "V \"two\\u000alines\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct opt_words w = {.words = (char **)cases[i].words, .rest = (char **)cases[i].rest};
        struct buf line = {0};

        while (w.nwords < 4 && w.words[w.nwords])
            w.nwords++;
        while (w.nrest < 2 && w.rest[w.nrest])
            w.nrest++;
        ctl_put_line(&line, "V", &w);
        ck_assert_str_eq(buf_cstr(&line), cases[i].line);
        buf_free(&line);
    }
}
END_TEST

/* No words, however made, can become other words than they are: one argument stays one. */
START_TEST(no_word_becomes_two)
{
    static const char alphabet[] = "ab=\" \\u0n\t";
    struct unit_random random = {7};
    struct wire_request *r = malloc(sizeof(*r));

    for (int round = 0; round < 5000; round++) {
        char word[16] = "", *words[] = {word};
        struct opt_words w = {.rest = words, .nrest = 1};
        struct buf line = {0};

        for (size_t i = 0, n = unit_below(&random, 15); i < n; i++)
            word[i] = alphabet[unit_below(&random, sizeof(alphabet) - 1)];
        ctl_put_line(&line, "V", &w);
        ck_assert_ptr_null(wire_parse(line.data, line.len, r));
        ck_assert_uint_eq(r->nargs, 1);
        ck_assert_uint_eq(r->npairs, 0);
        ck_assert_bytes(r->args[0], str_of(word), "word");
        buf_free(&line);
    }
    free(r);
}
END_TEST

START_TEST(values_are_found_without_case)
{
    char *words[] = {(char *)"R", (char *)"Wait=5s", (char *)"x=wait=1"};
    struct opt_words w = {.words = words, .nwords = 3};

    ck_assert_str_eq(ctl_word_value(&w, "wait"), "5s");
    ck_assert_str_eq(ctl_word_value(&w, "x"), "wait=1");
    ck_assert_ptr_null(ctl_word_value(&w, "ttl"));
}
END_TEST

/* ---- exit statuses ---- */

START_TEST(statuses_have_exit_statuses)
{
    static const struct {
        pglockd_status status;
        const char *code;
        int exit_status;
    } cases[] = {
        {PGLOCKD_OK, "", 0},
        {PGLOCKD_BUSY, "busy", 42},
        {PGLOCKD_TIMEOUT, "timeout", 42},
        {PGLOCKD_LIMITED, "limited", 42},
        {PGLOCKD_LOST, "lost", 76},
        {PGLOCKD_DENIED, "denied", 77},
        {PGLOCKD_ERR, "bad_request", 64},
        {PGLOCKD_ERR, "unknown_verb", 64},
        {PGLOCKD_ERR, "ttl_out_of_range", 64},
        {PGLOCKD_ERR, "unavailable", 69},
        {PGLOCKD_ERR, "outcome_unknown", 69},
        {PGLOCKD_ERR, "internal", 69},
        {PGLOCKD_UNREACHABLE, "", 69},
        {PGLOCKD_UNKNOWN, "", 69},
        {PGLOCKD_PROTOCOL, "", 69},
        {PGLOCKD_NOMEM, "", 69},
        {PGLOCKD_INVALID, "", 64},
    };
    struct ctl ctl = {.busy_status = 42};

    for (size_t i = 0; i < COUNT(cases); i++)
        ck_assert_msg(ctl_exit_status(&ctl, cases[i].status, cases[i].code) == cases[i].exit_status,
                      "%s %s", pglockd_status_name(cases[i].status), cases[i].code);
}
END_TEST

/* ---- text ---- */

START_TEST(text_of_others_is_harmless)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain caf\xc3\xa9 \xe6\x97\xa5", "plain caf\xc3\xa9 \xe6\x97\xa5"},
        {"\x1b[31mred", "\\x1b[31mred"},
        {"a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"},
        {"\xc2\x9b"
         "31m",
         "\\u{9b}31m"},
        {"\xe2\x80\xae"
         "abc",
         "\\u{202e}abc"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\x7f", "\\x7f"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out = {0};
        text_put_safe(&out, cases[i].in);
        ck_assert_str_eq(buf_cstr(&out), cases[i].out);
        buf_free(&out);
    }
}
END_TEST

START_TEST(columns_are_aligned)
{
    struct table t = {.ncols = 3};
    struct buf out = {0};

    setlocale(LC_CTYPE, "C.UTF-8");
    table_add(&t, "A");
    table_add(&t, "B");
    table_add(&t, "C");
    table_add(&t, "\xe6\x97\xa5\xe6\x9c\xac"); /* two characters, four columns */
    table_add(&t, "");
    table_add_duration(&t, 65000);
    table_put(&t, " ", &out);
    ck_assert_str_eq(buf_cstr(&out), " A     B  C\n \xe6\x97\xa5\xe6\x9c\xac  -  1m05s\n");
    table_free(&t);
    buf_free(&out);
}
END_TEST

START_TEST(durations_are_readable)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "0ms"},         {999, "999ms"},       {1000, "1.0s"},
        {59999, "59.9s"},   {60000, "1m00s"},     {3599999, "59m59s"},
        {3600000, "1h00m"}, {86399999, "23h59m"}, {86400000, "1d00h"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out = {0};
        text_put_duration(&out, cases[i].ms);
        ck_assert_str_eq(buf_cstr(&out), cases[i].text);
        buf_free(&out);
    }
}
END_TEST

/* ---- histogram ---- */

START_TEST(quantiles_are_close)
{
    struct hist *h = calloc(1, sizeof(*h));
    static const double qs[] = {0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1};

    for (int64_t v = 1; v <= 1000000; v++)
        hist_add(h, v * 1000);
    for (size_t i = 0; i < COUNT(qs); i++) {
        double want = qs[i] * 1e9, got = (double)hist_quantile(h, qs[i]);
        ck_assert_msg(got >= want && got <= want * 1.016, "%f: %f, want %f", qs[i], got, want);
    }
    ck_assert_uint_eq(h->count, 1000000);
    ck_assert_int_eq(h->max, 1000000000);
    free(h);
}
END_TEST

START_TEST(extremes_have_a_bucket)
{
    struct hist *h = calloc(1, sizeof(*h)), *sum = calloc(1, sizeof(*sum));

    ck_assert_int_eq(hist_quantile(h, 0.5), 0);
    hist_add(h, -5);
    ck_assert_int_eq(hist_quantile(h, 1), 0);
    hist_add(h, INT64_MAX);
    ck_assert_int_eq(hist_quantile(h, 1), INT64_MAX);
    ck_assert_int_eq(hist_quantile(h, 0.5), 0);
    hist_merge(sum, h);
    hist_merge(sum, h);
    ck_assert_uint_eq(sum->count, 4);
    ck_assert_int_eq(sum->max, INT64_MAX);
    for (int bit = 0; bit < 63; bit++) {
        struct hist *one = calloc(1, sizeof(*one));
        hist_add(one, INT64_C(1) << bit);
        hist_add(one, INT64_MAX);
        int64_t low = hist_quantile(one, 0.5);
        ck_assert_int_ge(low, INT64_C(1) << bit);
        ck_assert_int_le(low, (INT64_C(1) << bit) + ((INT64_C(1) << bit) >> HIST_BITS));
        free(one);
    }
    hist_note(sum, INT64_MAX);
    ck_assert_uint_eq(sum->count, 4);
    free(h);
    free(sum);
}
END_TEST

/* ---- run ---- */

/* Whatever the user asks for: renewing has more than half of the TTL, KILL comes before its end. */
START_TEST(the_end_fits_into_the_lease)
{
    static const int64_t ttls[] = {100, 500, 1000, 3000, 30000, 600000};
    static const int64_t asked[] = {0, 1, 5000, 86400000};

    for (size_t i = 0; i < COUNT(ttls); i++)
        for (size_t k = 0; k < COUNT(asked); k++) {
            struct run_times t = run_times_for(ttls[i], asked[k]);
            ck_assert_int_ge(t.margin_us, 20000);
            ck_assert_int_le(t.kill_after_us, asked[k] * 1000);
            ck_assert_int_lt(t.margin_us + t.kill_after_us, ttls[i] * 1000 / 2);
        }
    ck_assert_int_eq(run_times_for(30000, 5000).kill_after_us, 5000000);
}
END_TEST

START_TEST(the_end_begins_once)
{
    struct run_times times = {.margin_us = 100000, .kill_after_us = 300000};
    struct run_shared s = {.deadline_us = pglockd_now_us() + 10000000};

    int64_t first = run_begin_end(&s, &times);
    ck_assert_int_le(first, pglockd_now_us() + 300000);
    ck_assert_int_eq(run_begin_end(&s, &times), first);
    struct run_shared late = {.deadline_us = pglockd_now_us() + 200000};
    ck_assert_int_eq(run_begin_end(&late, &times), late.deadline_us - 100000);
}
END_TEST

UNIT_MAIN("ctl", options_and_words_may_be_mixed, the_first_word_can_end_the_options,
          bad_options_are_named, words_become_one_quoted_line, no_word_becomes_two,
          values_are_found_without_case, statuses_have_exit_statuses, text_of_others_is_harmless,
          columns_are_aligned, durations_are_readable, quantiles_are_close, extremes_have_a_bucket,
          the_end_fits_into_the_lease, the_end_begins_once)
