#ifndef PGLOCKD_BASE_JSON_H
#define PGLOCKD_BASE_JSON_H

/*
 * A JSON writer that appends to a buffer. Commas are placed by the writer; the caller balances
 * begin and end. Integers are printed exactly (cJSON prints 10^15 as 1e+15). Strings are escaped
 * as RFC 8259 asks; control characters and DEL become \u00XX, invalid UTF-8 becomes U+FFFD.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct json {
    struct buf *out;
    bool comma; /* the next value or key needs a comma before it */
};

static inline struct json json_to(struct buf *out)
{
    return (struct json){out, false};
}

void json_begin_object(struct json *j);
void json_end_object(struct json *j);
void json_begin_array(struct json *j);
void json_end_array(struct json *j);
/* key is a plain literal that needs no escape. */
void json_key(struct json *j, const char *key);
/* The same for any text. */
void json_key_str(struct json *j, struct str key);
void json_string(struct json *j, struct str s);
void json_int(struct json *j, int64_t v);
void json_bool(struct json *j, bool v);
void json_null(struct json *j);
/* Appends text that is already one JSON value. */
void json_raw(struct json *j, struct str value);

/* key and value in one call */
void json_put_string(struct json *j, const char *key, struct str s);
void json_put_int(struct json *j, const char *key, int64_t v);
void json_put_bool(struct json *j, const char *key, bool v);

#endif
