#ifndef PGLOCKD_CLIENT_CBUF_H
#define PGLOCKD_CLIENT_CBUF_H

/*
 * A growable byte buffer for the library, which may not abort: lack of memory sets `failed`, after
 * which appends do nothing. A zeroed struct is an empty buffer.
 */

#include <stdbool.h>
#include <stddef.h>

struct cbuf {
    char *data;
    size_t len;
    size_t cap;
    bool failed;
};

void cbuf_free(struct cbuf *b);
/* Makes room for n more bytes; false (and failed) when there is none. */
bool cbuf_reserve(struct cbuf *b, size_t n);
void cbuf_put(struct cbuf *b, const char *p, size_t n);
void cbuf_puts(struct cbuf *b, const char *s);
void cbuf_printf(struct cbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes. */
void cbuf_drop(struct cbuf *b, size_t n);
/* The bytes with a NUL behind them, which is not counted; NULL after a failure. */
const char *cbuf_cstr(struct cbuf *b);
/* s as a JSON string with its quotes. */
void cbuf_quote(struct cbuf *b, const char *s);

#endif
