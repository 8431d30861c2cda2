/* Who holds a resource, and who waits for it. */

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/xalloc.h"
#include "pglockctl/fields.h"
#include "pglockctl/others.h"
#include "pglockctl/text.h"
#include "wire/resource.h"

static bool others;

static const struct opt options[] = {
    {.name = "others",
     .kind = OPT_FLAG,
     .into = &others,
     .help = "show what others hold of it, and exit with 75 if they do"},
};

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

static int show(const struct ctl *ctl, const struct opt_words *words)
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

static int show_others_of_resources(const struct ctl *ctl, const struct opt_words *words)
{
    size_t n = words->nwords + words->nrest;
    struct path_name *names = xcalloc(n + 1, sizeof(*names));
    int status = n > 0 ? CTL_OK : ctl_usage_error("info needs a RESOURCE");

    for (size_t i = 0; i < n && status == CTL_OK; i++) {
        char *word = i < words->nwords ? words->words[i] : words->rest[i - words->nwords];
        const char *why = resource_check(str_of(word));
        names[i].resource = word;
        if (why)
            status = ctl_usage_error("%s: %s", word, why);
    }
    if (status == CTL_OK)
        status = others_print(ctl, names, n);
    free(names);
    return status;
}

static int info_main(struct ctl *ctl, const struct opt_words *words)
{
    struct path_names names = {0};
    struct opt_words resources = {0};

    if (!path_wanted())
        return others ? show_others_of_resources(ctl, words) : show(ctl, words);
    int status =
        others ? path_names_get(&names, words, true) : path_words(&names, words, false, &resources);
    if (status == CTL_OK)
        status = others ? others_print(ctl, names.at, names.n) : show(ctl, &resources);
    path_words_free(&resources);
    path_names_free(&names);
    return status;
}

const struct command command_info = {
    .name = "info",
    .synopsis = "RESOURCE...",
    .summary = "Show who holds a resource and who waits for it",
    .details =
        "\nWith --others only the locks are shown that others hold of the resources, also by a\n"
        "tree above; of directories (--files) also beneath them. A lock is ours if its owner\n"
        "is our name, or its token is in PGLOCK_TOKENS.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .files = FILES_BY_ITSELF,
    .main = info_main,
};
