#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/codepoint.h"

enum {
    LINE_MAX_BYTES = 4096,
    QUOTE_SOURCE_MAX = 256,
    /* every byte as \xNN, two quotes, "..." and a NUL */
    QUOTE_OUT_MAX = QUOTE_SOURCE_MAX * 4 + 6,
    QUOTE_BUFFERS = 8,
};

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static enum log_level current = LOG_INFO;

void log_set_level(enum log_level level)
{
    current = level;
}

enum log_level log_get_level(void)
{
    return current;
}

int log_level_parse(const char *word)
{
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        if (strcmp(word, level_names[i]) == 0)
            return i;
    }
    return -1;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

static size_t put_head(char *line, size_t size, enum log_level level, const char *event)
{
    int64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm tm;
    size_t n;
    int m;

    gmtime_r(&seconds, &tm);
    n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    m = snprintf(line + n, size - n, ".%03dZ level=%s event=%s", (int)(now_us / 1000 % 1000),
                 level_names[level], event);
    return n + (m > 0 ? (size_t)m : 0);
}

/* A caller that forgot log_quote() must not be able to start a line of its own. */
static void blot_controls(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
            p[i] = '?';
    }
}

static void write_all(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return; /* nowhere left to say it */
        p += done;
        n -= (size_t)done;
    }
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    static const char cut_mark[] = "...";
    char line[LINE_MAX_BYTES];
    const size_t room = sizeof(line) - 1; /* the LF replaces the NUL */
    int saved_errno = errno;
    size_t head, n;
    va_list ap;
    int m;

    if (level > current)
        return;
    head = put_head(line, room / 2, level, event);
    n = head < room / 2 ? head : room / 2 - 1;
    line[n++] = ' ';
    va_start(ap, fmt);
    m = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
    va_end(ap);
    if (m <= 0) {
        n--;
    } else if ((size_t)m > room - n) {
        n = room;
        memcpy(line + n - (sizeof(cut_mark) - 1), cut_mark, sizeof(cut_mark) - 1);
    } else {
        n += (size_t)m;
    }
    blot_controls(line, n);
    line[n++] = '\n';
    write_all(line, n);
    errno = saved_errno;
}

/* Writes the character at s to out, escaped where it must be; returns how many bytes it had. */
static size_t quote_one(struct str s, char *out, size_t *out_len)
{
    uint32_t cp = 0;
    size_t len = codepoint_decode(s.p, s.n, &cp);

    if (len == 1 && (cp == '"' || cp == '\\')) {
        out[(*out_len)++] = '\\';
    } else if (len == 1 && cp == '\n') {
        memcpy(out + *out_len, "\\n", 2);
        *out_len += 2;
        return 1;
    } else if (len == 0 || codepoint_is_harmful(cp)) {
        len = len ? len : 1;
        for (size_t i = 0; i < len; i++)
            *out_len += (size_t)snprintf(out + *out_len, 5, "\\x%02x", (unsigned char)s.p[i]);
        return len;
    }
    memcpy(out + *out_len, s.p, len);
    *out_len += len;
    return len;
}

const char *log_quote(struct str s)
{
    static char buffers[QUOTE_BUFFERS][QUOTE_OUT_MAX];
    static unsigned turn;
    char *out = buffers[turn++ % QUOTE_BUFFERS];
    size_t limit = s.n < QUOTE_SOURCE_MAX ? s.n : QUOTE_SOURCE_MAX;
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < limit;)
        i += quote_one((struct str){s.p + i, limit - i}, out, &n);
    if (s.n > limit) {
        memcpy(out + n, "...", 3);
        n += 3;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
