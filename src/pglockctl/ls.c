/* The locks that are held, page by page. */

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "pglockctl/ctl.h"
#include "pglockctl/fields.h"
#include "pglockctl/text.h"

static const struct field lock_fields[] = {
    {"RESOURCE", "resource", FIELD_TEXT}, {"OWNER", "owner", FIELD_TEXT},
    {"MODE", "mode", FIELD_TEXT},         {"SCOPE", "scope", FIELD_TEXT},
    {"HELD", "held_ms", FIELD_DURATION},  {"TTL", "ttl_ms", FIELD_DURATION},
    {"NOTE", "note", FIELD_TEXT},
};

/* Adds the rows of a page and returns where the next one begins: a new string, or NULL. */
static char *add_page(struct table *t, const pglockd_reply *reply)
{
    cJSON *object = cJSON_Parse(pglockd_reply_json(reply));
    const cJSON *lock, *locks = cJSON_GetObjectItemCaseSensitive(object, "locks");
    const char *next = pglockd_reply_string(reply, "next", "");

    cJSON_ArrayForEach(lock, locks) fields_add_row(t, lock, lock_fields, FIELD_COUNT(lock_fields));
    char *after = *next && cJSON_GetArraySize(locks) > 0 ? xstrdup(next) : NULL;
    cJSON_Delete(object);
    return after;
}

/* The user's words with the cursor and the page size added; whoever names limit= sees one page. */
static int ask_page(const struct ctl *ctl, const struct opt_words *words, const char *after,
                    pglockd_reply **reply)
{
    struct buf cursor = {0};
    char **all = xcalloc(words->nwords + 2, sizeof(*all));
    char limit[] = "limit=1000";
    struct opt_words page = *words;

    memcpy(all, words->words, words->nwords * sizeof(*all));
    page.words = all;
    if (!ctl_word_value(words, "limit"))
        all[page.nwords++] = limit;
    if (after) {
        char *quoted = pglockd_quote(after);
        buf_printf(&cursor, "after=%s", quoted ? quoted : "");
        free(quoted);
        all[page.nwords] = xstrdup(buf_cstr(&cursor));
        page.nwords++;
    }
    int status = ctl_ask(ctl, "LIST", &page, reply);
    if (after)
        free(all[page.nwords - 1]);
    free(all);
    buf_free(&cursor);
    return status;
}

static int ls_main(struct ctl *ctl, const struct opt_words *words)
{
    struct table t = {.ncols = FIELD_COUNT(lock_fields)};
    struct buf out = {0};
    char *after = NULL;
    int status;

    fields_add_titles(&t, lock_fields, FIELD_COUNT(lock_fields));
    do {
        pglockd_reply *reply;
        status = ask_page(ctl, words, after, &reply);
        free(after);
        after = status == CTL_OK ? add_page(&t, reply) : NULL;
        pglockd_reply_free(reply);
    } while (after && !ctl_word_value(words, "limit"));
    free(after);
    if (!ctl->json && t.ncells > t.ncols)
        table_put(&t, "", &out);
    fputs(buf_cstr(&out), stdout);
    table_free(&t);
    buf_free(&out);
    return status;
}

const struct command command_ls = {
    .name = "ls",
    .synopsis = "[prefix=P] [owner=N] [limit=N] [after=CURSOR]",
    .summary = "List the locks that are held",
    .details = "\nWithout limit= all pages are shown, with --json one line for each.\n",
    .main = ls_main,
};
