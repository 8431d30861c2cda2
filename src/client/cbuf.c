#include "client/cbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cbuf_free(struct cbuf *b)
{
    free(b->data);
    *b = (struct cbuf){0};
}

bool cbuf_reserve(struct cbuf *b, size_t n)
{
    if (b->failed)
        return false;
    if (n <= b->cap - b->len)
        return true;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < n)
        cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void cbuf_put(struct cbuf *b, const char *p, size_t n)
{
    if (n == 0 || !cbuf_reserve(b, n))
        return;
    memcpy(b->data + b->len, p, n);
    b->len += n;
}

void cbuf_puts(struct cbuf *b, const char *s)
{
    cbuf_put(b, s, strlen(s));
}

void cbuf_printf(struct cbuf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !cbuf_reserve(b, (size_t)n + 1))
        return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void cbuf_drop(struct cbuf *b, size_t n)
{
    b->len -= n;
    if (b->len > 0)
        memmove(b->data, b->data + n, b->len);
}

const char *cbuf_cstr(struct cbuf *b)
{
    if (!cbuf_reserve(b, 1))
        return NULL;
    b->data[b->len] = '\0';
    return b->data;
}

void cbuf_quote(struct cbuf *b, const char *s)
{
    cbuf_put(b, "\"", 1);
    for (const char *run = s;; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch >= 0x20 && ch != '"' && ch != '\\' && ch != 0x7f)
            continue;
        cbuf_put(b, run, (size_t)(s - run));
        if (ch == '\0')
            break;
        if (ch == '"' || ch == '\\')
            cbuf_printf(b, "\\%c", ch);
        else
            cbuf_printf(b, "\\u%04x", ch);
        run = s + 1;
    }
    cbuf_put(b, "\"", 1);
}
