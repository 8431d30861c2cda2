#ifndef PGLOCKD_PG_ARRAY_H
#define PGLOCKD_PG_ARRAY_H

/*
 * PostgreSQL's binary wire format of one-dimensional arrays (array_send and array_recv in
 * src/backend/utils/adt/arrayfuncs.c): dimensions, null flag, element type, count, lower bound, and
 * for each element its length and bytes, all big-endian.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum pg_type {
    PG_BOOL = 16,
    PG_CHAR = 18, /* "char", one byte */
    PG_INT8 = 20,
    PG_INT4 = 23,
    PG_TEXT = 25,
    PG_BOOL_ARRAY = 1000,
    PG_INT8_ARRAY = 1016,
    PG_TEXT_ARRAY = 1009,
};

/* Writes one array to the end of a buffer; begin, n elements, end. */
struct array_writer {
    struct buf *out;
    size_t head; /* offset of the array in out */
    int32_t count;
    bool has_null;
};

void array_begin(struct array_writer *w, struct buf *out, enum pg_type element);
void array_put_bool(struct array_writer *w, bool v);
void array_put_int4(struct array_writer *w, int32_t v);
void array_put_int8(struct array_writer *w, int64_t v);
void array_put_text(struct array_writer *w, struct str s);
void array_put_null(struct array_writer *w);
void array_end(struct array_writer *w);

/* Reads one array; a NULL value (SQL null) is an empty array. */
struct array_reader {
    const unsigned char *p;
    const unsigned char *end;
    int32_t left; /* elements not read yet */
};

/* False when the bytes are not a one-dimensional array. */
bool array_open(struct array_reader *r, const void *value, int length);
/*
 * The next element as an integer (int8, int4 or "char"); false at the end or when the bytes are
 * malformed. A null element reads as 0.
 */
bool array_next_int(struct array_reader *r, int64_t *v);
/* The next element as text; a null element reads as an empty string. */
bool array_next_text(struct array_reader *r, struct str *s);

/*
 * Reads a record in PostgreSQL's binary format (record_send in src/backend/utils/adt/rowtypes.c):
 * the count of fields, and for each its type, length and bytes.
 */
struct record_reader {
    const unsigned char *p;
    const unsigned char *end;
    int32_t left;
};

/* False when the bytes are no record. */
bool record_open(struct record_reader *r, const void *value, int length);
/* The next field; NULL and 0 for SQL null. False at the end or when the bytes are malformed. */
bool record_next(struct record_reader *r, const void **value, int *length);

#endif
