#include "base/log.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "unit.h"

static int saved_stderr;
static char captured[16384];

/* What is written to standard error until capture_end() returns it. */
static FILE *capture_begin(void)
{
    FILE *file = tmpfile();

    ck_assert_ptr_nonnull(file);
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    return file;
}

static const char *capture_end(FILE *file)
{
    size_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(file);
    n = fread(captured, 1, sizeof(captured) - 1, file);
    captured[n] = '\0';
    fclose(file);
    return captured;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t re;
    int rc;

    ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    rc = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    return rc == 0;
}

#define STAMP "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

START_TEST(line_format)
{
    FILE *file = capture_begin();
    const char *text;

    errno = EINTR;
    log_info("client_closed", "conn=%d reason=%s", 7, "quit");
    ck_assert_int_eq(errno, EINTR);
    text = capture_end(file);
    ck_assert_msg(matches(text, STAMP "level=info event=client_closed conn=7 reason=quit\n$"), "%s",
                  text);
}
END_TEST

START_TEST(event_alone)
{
    FILE *file = capture_begin();

    log_error("stopped", "%s", "");
    ck_assert(matches(capture_end(file), STAMP "level=error event=stopped\n$"));
}
END_TEST

START_TEST(levels)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    ck_assert_int_eq(log_get_level(), LOG_INFO);
    for (int set = LOG_ERROR; set <= LOG_DEBUG; set++) {
        FILE *file = capture_begin();
        const char *text;

        log_set_level((enum log_level)set);
        log_error("e", "n=%d", 0);
        log_warn("w", "n=%d", 1);
        log_info("i", "n=%d", 2);
        log_debug("d", "n=%d", 3);
        text = capture_end(file);
        for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
            char word[20];

            snprintf(word, sizeof(word), "level=%s ", names[level]);
            ck_assert_int_eq(strstr(text, word) != NULL, level <= set);
        }
        ck_assert_int_eq(log_level_parse(names[set]), set);
        ck_assert_str_eq(log_level_name((enum log_level)set), names[set]);
    }
    ck_assert_int_eq(log_level_parse("INFO"), -1);
    ck_assert_int_eq(log_level_parse(""), -1);
    ck_assert_int_eq(log_level_parse("information"), -1);
}
END_TEST

START_TEST(unquoted_text_stays_in_its_line)
{
    FILE *file = capture_begin();
    const char *text;

    log_info("event", "text=%s", "a\nlevel=error\x7f\x1b[31m");
    text = capture_end(file);
    ck_assert_ptr_nonnull(strstr(text, "text=a?level=error??[31m\n"));
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

/* Whole lines are whole; a line that is cut ends with "..." and is as long as a line can be. */
START_TEST(long_line_is_cut)
{
    char text[5001];
    int cut = 0;

    memset(text, 'x', sizeof(text));
    for (size_t len = 4000; len < sizeof(text); len += len < 4100 ? 1 : 300) {
        FILE *file = capture_begin();
        const char *out, *value;

        text[len] = '\0';
        log_info("event", "text=%s", text);
        text[len] = 'x';
        out = capture_end(file);
        value = strstr(out, "text=") + strlen("text=");
        if (strspn(value, "x") == len) {
            ck_assert_str_eq(value + len, "\n");
            continue;
        }
        cut++;
        ck_assert_str_eq(value + strspn(value, "x"), "...\n");
        ck_assert_uint_eq(strlen(out), 4096);
    }
    ck_assert_int_gt(cut, 3);
    ck_assert_int_lt(cut, 100);
}
END_TEST

START_TEST(quote)
{
    static const struct {
        struct str in;
        const char *out;
    } rows[] = {
        {STR_LIT(""), "\"\""},
        {STR_LIT("a b=c"), "\"a b=c\""},
        {STR_LIT("say \"hi\" \\"), "\"say \\\"hi\\\" \\\\\""},
        {STR_LIT("a\nb\rc\td"), "\"a\\nb\\x0dc\\x09d\""},
        {STR_LIT("\0\x1b\x7f"), "\"\\x00\\x1b\\x7f\""},
        {STR_LIT("\xc3\xbc\xf0\x9f\x94\x92"), "\"\xc3\xbc\xf0\x9f\x94\x92\""},
        {STR_LIT("\xff\xc3"), "\"\\xff\\xc3\""},
        {STR_LIT("\xc2\x85"), "\"\\xc2\\x85\""},
        {STR_LIT("\xe2\x80\xa8"), "\"\\xe2\\x80\\xa8\""}, /* a line separator */
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = unit_exact(rows[i].in);

        ck_assert_str_eq(log_quote((struct str){exact, rows[i].in.n}), rows[i].out);
        free(exact);
    }
    ck_assert_str_eq(log_quote((struct str){NULL, 0}), "\"\"");
}
END_TEST

START_TEST(quote_cuts)
{
    char bytes[300];
    const char *out;

    memset(bytes, 'x', sizeof(bytes));
    out = log_quote((struct str){bytes, 256});
    ck_assert_uint_eq(strlen(out), 258);
    out = log_quote((struct str){bytes, 257});
    ck_assert_uint_eq(strlen(out), 261);
    ck_assert_str_eq(out + 257, "...\"");
    memset(bytes, 1, sizeof(bytes)); /* the longest output */
    out = log_quote((struct str){bytes, 300});
    ck_assert_uint_eq(strlen(out), 256 * 4 + 5);
}
END_TEST

START_TEST(eight_quotes_in_one_line)
{
    const char *out[8];

    for (size_t i = 0; i < 8; i++)
        out[i] = log_quote((struct str){&"abcdefgh"[i], 1});
    for (size_t i = 0; i < 8; i++)
        ck_assert_int_eq(out[i][1], "abcdefgh"[i]);
}
END_TEST

START_TEST(clocks)
{
    int64_t mono = clock_mono_us(), wall = clock_wall_us();

    ck_assert_int_gt(wall, INT64_C(1700000000000000));
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_mono_us();

        ck_assert_int_ge(now, mono);
        mono = now;
    }
    usleep(2000);
    ck_assert_int_ge(clock_mono_us() - mono, 2000);
}
END_TEST

UNIT_MAIN("log", line_format, event_alone, levels, unquoted_text_stays_in_its_line,
          long_line_is_cut, quote, quote_cuts, eight_quotes_in_one_line, clocks)
