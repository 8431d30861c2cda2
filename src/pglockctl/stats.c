/* What the daemon counts. */

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "pglockctl/ctl.h"
#include "pglockctl/text.h"

/* Nested objects become dotted names. */
static void add_value(struct table *t, struct buf *name, const cJSON *item)
{
    const cJSON *child;
    size_t len = name->len;

    if (cJSON_IsObject(item) || cJSON_IsArray(item)) {
        int i = 0;
        cJSON_ArrayForEach(child, item)
        {
            if (len > 0)
                buf_putc(name, '.');
            if (child->string)
                buf_puts(name, child->string);
            else
                buf_put_int(name, i++);
            add_value(t, name, child);
            name->len = len;
        }
        return;
    }
    table_add(t, buf_cstr(name));
    if (cJSON_IsNumber(item))
        table_add_int(t, (int64_t)item->valuedouble);
    else if (cJSON_IsString(item))
        table_add(t, item->valuestring);
    else
        table_add(t, cJSON_IsTrue(item) ? "true" : cJSON_IsFalse(item) ? "false" : "-");
}

static int stats_main(struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
    int status = ctl_ask(ctl, "STATS", words, &reply);

    if (status == CTL_OK && !ctl->json) {
        struct table t = {.ncols = 2};
        struct buf name = {0}, out = {0};
        cJSON *object = cJSON_Parse(pglockd_reply_json(reply));

        add_value(&t, &name, object);
        table_put(&t, "", &out);
        fputs(buf_cstr(&out), stdout);
        cJSON_Delete(object);
        table_free(&t);
        buf_free(&name);
        buf_free(&out);
    }
    pglockd_reply_free(reply);
    return status;
}

const struct command command_stats = {
    .name = "stats",
    .synopsis = "",
    .summary = "Show what the daemon counts",
    .main = stats_main,
};
