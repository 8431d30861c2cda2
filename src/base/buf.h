#ifndef PGLOCKD_BASE_BUF_H
#define PGLOCKD_BASE_BUF_H

/*
 * A growable byte buffer. A zeroed struct is an empty buffer. The bytes data[0 .. len) are the
 * contents; they are not NUL-terminated unless buf_cstr() was called last. Growing aborts on lack
 * of memory (see xalloc.h): callers bound what they append.
 */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_free(struct buf *b);
static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}

/* Makes room for n more bytes and returns where they go; the caller adds what it wrote to len. */
char *buf_reserve(struct buf *b, size_t n);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_putc(struct buf *b, char c);
void buf_puts(struct buf *b, const char *s);
/* Decimal, exact for every int64_t. */
void buf_put_int(struct buf *b, int64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* Takes n bytes out that begin at offset at. */
void buf_cut(struct buf *b, size_t at, size_t n);
/* Gives memory back when the buffer is empty and holds more than keep bytes. */
void buf_trim(struct buf *b, size_t keep);
/* Terminates with a NUL that is not counted in len; valid until the next append. */
const char *buf_cstr(struct buf *b);
static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->data, b->len};
}

#endif
