#include "pglockctl/text.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/codepoint.h"
#include "base/xalloc.h"

void text_put_safe(struct buf *out, const char *s)
{
    for (size_t left = strlen(s); left > 0;) {
        uint32_t cp = 0;
        size_t n = codepoint_decode(s, left, &cp);

        if (n == 0) {
            buf_printf(out, "\\x%02x", (unsigned char)*s);
            n = 1;
        } else if (!codepoint_is_harmful(cp)) {
            buf_put(out, s, n);
        } else if (cp < 0x80) {
            buf_printf(out, "\\x%02x", (unsigned)cp);
        } else {
            buf_printf(out, "\\u{%x}", (unsigned)cp);
        }
        s += n;
        left -= n;
    }
}

/* Columns that a terminal gives to the first character of s, which has *n bytes; unknown ones count
 * as one. */
static size_t first_width(const char *s, size_t left, size_t *n)
{
    uint32_t cp = 0;

    *n = codepoint_decode(s, left, &cp);
    int w = *n ? wcwidth((wchar_t)cp) : 1;
    *n = *n ? *n : 1;
    return w < 0 ? 1 : (size_t)w;
}

/* Columns of the beginning of s, up to columns; *len is how many bytes of it fit. */
static size_t width_up_to(const char *s, size_t columns, size_t *len)
{
    size_t width = 0, left = strlen(s);

    for (*len = 0; left > 0;) {
        size_t n, w = first_width(s + *len, left, &n);
        if (w > columns - width)
            break;
        width += w;
        *len += n;
        left -= n;
    }
    return width;
}

static size_t display_width(const char *s)
{
    size_t len;
    return width_up_to(s, SIZE_MAX, &len);
}

void text_put_cut(struct buf *out, const char *s, size_t columns)
{
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    size_t len;

    width_up_to(s, columns, &len);
    if (s[len] == '\0' || columns == 0) {
        buf_put(out, s, len);
        return;
    }
    width_up_to(s, columns - 1, &len);
    buf_put(out, s, len);
    buf_puts(out, utf8 ? "…" : ">");
}

void text_put_duration(struct buf *out, int64_t ms)
{
    int64_t s = ms / 1000;

    if (ms < 0)
        buf_puts(out, "-");
    else if (ms < 1000)
        buf_printf(out, "%" PRId64 "ms", ms);
    else if (s < 60)
        buf_printf(out, "%" PRId64 ".%" PRId64 "s", s, ms % 1000 / 100);
    else if (s < 3600)
        buf_printf(out, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    else if (s < 86400)
        buf_printf(out, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    else
        buf_printf(out, "%" PRId64 "d%02" PRId64 "h", s / 86400, s / 3600 % 24);
}

static void add_cell(struct table *t, char *cell)
{
    if (t->ncells == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cells = xrealloc(t->cells, t->cap * sizeof(*t->cells));
    }
    t->cells[t->ncells++] = cell;
}

void table_add(struct table *t, const char *s)
{
    struct buf b = {0};

    text_put_safe(&b, s && *s ? s : "-");
    add_cell(t, xstrdup(buf_cstr(&b)));
    buf_free(&b);
}

void table_add_blank(struct table *t)
{
    add_cell(t, xstrdup(""));
}

void table_add_duration(struct table *t, int64_t ms)
{
    struct buf b = {0};

    text_put_duration(&b, ms);
    add_cell(t, xstrdup(buf_cstr(&b)));
    buf_free(&b);
}

void table_add_int(struct table *t, int64_t n)
{
    struct buf b = {0};

    buf_put_int(&b, n);
    add_cell(t, xstrdup(buf_cstr(&b)));
    buf_free(&b);
}

static void end_line(struct buf *out)
{
    while (out->len > 0 && out->data[out->len - 1] == ' ')
        out->len--;
    buf_putc(out, '\n');
}

void table_put(const struct table *t, const char *indent, struct buf *out)
{
    size_t *width = xcalloc(t->ncols, sizeof(*width));

    for (size_t i = 0; i < t->ncells; i++) {
        size_t w = display_width(t->cells[i]);
        if (w > width[i % t->ncols])
            width[i % t->ncols] = w;
    }
    for (size_t i = 0; i < t->ncells; i++) {
        size_t col = i % t->ncols;
        if (col == 0)
            buf_puts(out, indent);
        buf_puts(out, t->cells[i]);
        if (col + 1 == t->ncols)
            end_line(out);
        else
            for (size_t w = display_width(t->cells[i]); w < width[col] + 2; w++)
                buf_putc(out, ' ');
    }
    free(width);
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->ncells; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct table){.ncols = t->ncols};
}
