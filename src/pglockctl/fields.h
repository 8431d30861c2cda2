#ifndef PGLOCKD_PGLOCKCTL_FIELDS_H
#define PGLOCKD_PGLOCKCTL_FIELDS_H

/* Arrays of JSON objects as tables. */

#include <cjson/cJSON.h>
#include <stddef.h>

#include "base/buf.h"
#include "pglockctl/text.h"

#define FIELD_COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum field_kind { FIELD_TEXT, FIELD_DURATION, FIELD_INT };

struct field {
    const char *title;
    const char *member; /* what is missing or of another type is shown as "-" */
    enum field_kind kind;
};

void fields_add_titles(struct table *t, const struct field *fields, size_t n);
void fields_add_row(struct table *t, const cJSON *object, const struct field *fields, size_t n);

/* A header and a row for each object of list. */
void fields_put_table(struct buf *out, const char *indent, const cJSON *list,
                      const struct field *fields, size_t n);

#endif
