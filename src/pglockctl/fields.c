#include "pglockctl/fields.h"

static void add_field(struct table *t, const cJSON *item, enum field_kind kind)
{
    if (kind == FIELD_TEXT && cJSON_IsString(item))
        table_add(t, item->valuestring);
    else if (kind == FIELD_DURATION && cJSON_IsNumber(item))
        table_add_duration(t, (int64_t)item->valuedouble);
    else if (kind == FIELD_INT && cJSON_IsNumber(item))
        table_add_int(t, (int64_t)item->valuedouble);
    else
        table_add(t, NULL);
}

void fields_add_titles(struct table *t, const struct field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        table_add(t, fields[i].title);
}

void fields_add_row(struct table *t, const cJSON *object, const struct field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_field(t, cJSON_GetObjectItemCaseSensitive(object, fields[i].member), fields[i].kind);
}

void fields_put_table(struct buf *out, const char *indent, const cJSON *list,
                      const struct field *fields, size_t n)
{
    struct table t = {.ncols = n};
    const cJSON *object;

    fields_add_titles(&t, fields, n);
    cJSON_ArrayForEach(object, list) fields_add_row(&t, object, fields, n);
    table_put(&t, indent, out);
    table_free(&t);
}
