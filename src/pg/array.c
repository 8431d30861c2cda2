#include "pg/array.h"

#include <arpa/inet.h>
#include <endian.h>

enum { ARRAY_HEAD_BYTES = 20 };

static void put_int4(char *at, int32_t v)
{
    uint32_t be = htonl((uint32_t)v);
    memcpy(at, &be, sizeof(be));
}

static int32_t get_int4(const unsigned char *at)
{
    uint32_t be;
    memcpy(&be, at, sizeof(be));
    return (int32_t)ntohl(be);
}

void array_begin(struct array_writer *w, struct buf *out, enum pg_type element)
{
    *w = (struct array_writer){.out = out, .head = out->len};
    char *head = buf_reserve(out, ARRAY_HEAD_BYTES);
    put_int4(head, 1); /* dimensions */
    put_int4(head + 8, (int32_t)element);
    put_int4(head + 16, 1); /* lower bound */
    out->len += ARRAY_HEAD_BYTES;
}

/* Counts an element and makes room for its length and n bytes; returns where the bytes go. */
static char *add_element(struct array_writer *w, int32_t length, size_t n)
{
    char *at = buf_reserve(w->out, 4 + n);
    put_int4(at, length);
    w->out->len += 4 + n;
    w->count++;
    return at + 4;
}

void array_put_bool(struct array_writer *w, bool v)
{
    *add_element(w, 1, 1) = v ? 1 : 0;
}

void array_put_int4(struct array_writer *w, int32_t v)
{
    put_int4(add_element(w, 4, 4), v);
}

void array_put_int8(struct array_writer *w, int64_t v)
{
    uint64_t be = htobe64((uint64_t)v);
    memcpy(add_element(w, 8, 8), &be, 8);
}

void array_put_text(struct array_writer *w, struct str s)
{
    char *at = add_element(w, (int32_t)s.n, s.n);
    if (s.n > 0)
        memcpy(at, s.p, s.n);
}

void array_put_null(struct array_writer *w)
{
    add_element(w, -1, 0);
    w->has_null = true;
}

void array_end(struct array_writer *w)
{
    char *head = w->out->data + w->head;
    put_int4(head + 4, w->has_null ? 1 : 0);
    put_int4(head + 12, w->count);
    if (w->count == 0) { /* an empty array has no dimension */
        put_int4(head, 0);
        w->out->len = w->head + 12;
    }
}

bool array_open(struct array_reader *r, const void *value, int length)
{
    *r = (struct array_reader){0};
    if (value == NULL)
        return true;
    const unsigned char *p = value;
    if (length < 12)
        return false;
    int32_t dimensions = get_int4(p);
    if (dimensions == 0)
        return true;
    if (dimensions != 1 || length < ARRAY_HEAD_BYTES)
        return false;
    r->left = get_int4(p + 12);
    r->p = p + ARRAY_HEAD_BYTES;
    r->end = p + length;
    return r->left >= 0;
}

bool array_next_text(struct array_reader *r, struct str *s)
{
    *s = (struct str){0};
    if (r->left <= 0 || r->end - r->p < 4)
        return false;
    int32_t length = get_int4(r->p);
    r->p += 4;
    r->left--;
    if (length < 0)
        return true;
    if (length > r->end - r->p)
        return false;
    *s = (struct str){(const char *)r->p, (size_t)length};
    r->p += length;
    return true;
}

bool array_next_int(struct array_reader *r, int64_t *v)
{
    struct str bytes;
    *v = 0;
    if (!array_next_text(r, &bytes))
        return false;
    if (bytes.n == 8) {
        uint64_t be;
        memcpy(&be, bytes.p, 8);
        *v = (int64_t)be64toh(be);
    } else if (bytes.n == 4) {
        *v = get_int4((const unsigned char *)bytes.p);
    } else if (bytes.n == 1) {
        *v = (unsigned char)bytes.p[0];
    } else {
        return bytes.n == 0;
    }
    return true;
}

/* --- records --- */

bool record_open(struct record_reader *r, const void *value, int length)
{
    if (value == NULL || length < 4)
        return false;
    *r = (struct record_reader){.p = value, .end = (const unsigned char *)value + length};
    r->left = get_int4(r->p);
    r->p += 4;
    return r->left >= 0;
}

bool record_next(struct record_reader *r, const void **value, int *length)
{
    enum { FIELD_HEAD_BYTES = 8 }; /* type and length */
    if (r->left == 0 || r->end - r->p < FIELD_HEAD_BYTES)
        return false;
    int32_t n = get_int4(r->p + 4);
    r->p += FIELD_HEAD_BYTES;
    r->left--;
    *value = n < 0 ? NULL : r->p;
    *length = n < 0 ? 0 : n;
    if (n > r->end - r->p)
        return false;
    r->p += *length;
    return true;
}
