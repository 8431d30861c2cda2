/* Who holds a resource, and who waits for it. */

#include <cjson/cJSON.h>
#include <stdio.h>

#include "pglockctl/ctl.h"
#include "pglockctl/fields.h"
#include "pglockctl/text.h"

static const struct field holder_fields[] = {
    {"OWNER", "owner", FIELD_TEXT},    {"MODE", "mode", FIELD_TEXT},
    {"SCOPE", "scope", FIELD_TEXT},    {"HELD", "held_ms", FIELD_DURATION},
    {"TTL", "ttl_ms", FIELD_DURATION}, {"NOTE", "note", FIELD_TEXT},
};

static const struct field waiter_fields[] = {
    {"#", "position", FIELD_INT},
    {"OWNER", "owner", FIELD_TEXT},
    {"MODE", "mode", FIELD_TEXT},
    {"SCOPE", "scope", FIELD_TEXT},
    {"WAITING", "waiting_ms", FIELD_DURATION},
};

static void put_list(struct buf *out, const char *what, const cJSON *list,
                     const struct field *fields, size_t nfields)
{
    if (cJSON_GetArraySize(list) == 0)
        return;
    buf_printf(out, "  %s\n", what);
    fields_put_table(out, "    ", list, fields, nfields);
}

static void put_resource(struct buf *out, const cJSON *resource)
{
    const cJSON *holders = cJSON_GetObjectItemCaseSensitive(resource, "holders");
    const cJSON *queue = cJSON_GetObjectItemCaseSensitive(resource, "queue");
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(resource, "resource");

    text_put_safe(out, cJSON_IsString(name) ? name->valuestring : "-");
    if (cJSON_GetArraySize(holders) == 0 && cJSON_GetArraySize(queue) == 0)
        buf_puts(out, "  free");
    buf_putc(out, '\n');
    put_list(out, "held by", holders, holder_fields, FIELD_COUNT(holder_fields));
    put_list(out, "waiting", queue, waiter_fields, FIELD_COUNT(waiter_fields));
}

static int info_main(struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
    struct buf out = {0};
    int status = ctl_ask(ctl, "INFO", words, &reply);

    if (status == CTL_OK && !ctl->json) {
        cJSON *object = cJSON_Parse(pglockd_reply_json(reply));
        const cJSON *resource, *list = cJSON_GetObjectItemCaseSensitive(object, "resources");
        cJSON_ArrayForEach(resource, list) put_resource(&out, resource);
        fputs(buf_cstr(&out), stdout);
        cJSON_Delete(object);
    }
    buf_free(&out);
    pglockd_reply_free(reply);
    return status;
}

const struct command command_info = {
    .name = "info",
    .synopsis = "RESOURCE...",
    .summary = "Show who holds a resource and who waits for it",
    .files = FILES_AS_WORDS,
    .main = info_main,
};
