#include "base/json.h"

#include "base/codepoint.h"

/* Every value and key is announced here, so that commas have one home. */
static void next(struct json *j)
{
    if (j->comma)
        buf_putc(j->out, ',');
    j->comma = true;
}

static void begin(struct json *j, char open)
{
    next(j);
    buf_putc(j->out, open);
    j->comma = false;
}

static void end(struct json *j, char close)
{
    buf_putc(j->out, close);
    j->comma = true;
}

void json_begin_object(struct json *j)
{
    begin(j, '{');
}

void json_end_object(struct json *j)
{
    end(j, '}');
}

void json_begin_array(struct json *j)
{
    begin(j, '[');
}

void json_end_array(struct json *j)
{
    end(j, ']');
}

void json_key(struct json *j, const char *key)
{
    next(j);
    buf_putc(j->out, '"');
    buf_puts(j->out, key);
    buf_puts(j->out, "\":");
    j->comma = false;
}

/* How many bytes at p go out as they are. */
static size_t plain_run(const char *p, size_t n)
{
    size_t i = 0;

    while (i < n && p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')
        i++;
    return i;
}

/* Writes the one character at p that is not plain and returns how many bytes it had. */
static size_t put_special(struct buf *out, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    uint32_t cp = 0;
    size_t len = codepoint_decode(p, n, &cp);

    if (len == 0) {
        buf_puts(out, "\xef\xbf\xbd");
        return 1;
    }
    if (codepoint_is_control(cp)) {
        char escape[6] = {'\\', 'u', '0', '0', hex[cp >> 4], hex[cp & 15]};
        buf_put(out, escape, sizeof(escape));
    } else {
        if (len == 1)
            buf_putc(out, '\\');
        buf_put(out, p, len);
    }
    return len;
}

void json_string(struct json *j, struct str s)
{
    size_t i = 0;

    next(j);
    buf_putc(j->out, '"');
    while (i < s.n) {
        size_t run = plain_run(s.p + i, s.n - i);

        buf_put(j->out, s.p + i, run);
        i += run;
        if (i < s.n)
            i += put_special(j->out, s.p + i, s.n - i);
    }
    buf_putc(j->out, '"');
}

void json_key_str(struct json *j, struct str key)
{
    json_string(j, key);
    buf_putc(j->out, ':');
    j->comma = false;
}

void json_int(struct json *j, int64_t v)
{
    next(j);
    buf_put_int(j->out, v);
}

void json_bool(struct json *j, bool v)
{
    next(j);
    buf_puts(j->out, v ? "true" : "false");
}

void json_null(struct json *j)
{
    next(j);
    buf_puts(j->out, "null");
}

void json_raw(struct json *j, struct str value)
{
    next(j);
    buf_put(j->out, value.p, value.n);
}

void json_put_string(struct json *j, const char *key, struct str s)
{
    json_key(j, key);
    json_string(j, s);
}

void json_put_int(struct json *j, const char *key, int64_t v)
{
    json_key(j, key);
    json_int(j, v);
}

void json_put_bool(struct json *j, const char *key, bool v)
{
    json_key(j, key);
    json_bool(j, v);
}
