#include "pglockctl/pages.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

const struct field lock_fields[LOCK_FIELDS] = {
    {"RESOURCE", "resource", FIELD_TEXT}, {"OWNER", "owner", FIELD_TEXT},
    {"MODE", "mode", FIELD_TEXT},         {"SCOPE", "scope", FIELD_TEXT},
    {"HELD", "held_ms", FIELD_DURATION},  {"TTL", "ttl_ms", FIELD_DURATION},
    {"NOTE", "note", FIELD_TEXT},
};

/* Moves the leases of a page to all. Where the next page begins: a new string, or NULL. */
static char *take_page(cJSON *all, const pglockd_reply *reply)
{
    cJSON *object = cJSON_Parse(pglockd_reply_json(reply));
    cJSON *locks = cJSON_GetObjectItemCaseSensitive(object, "locks");
    const char *next = pglockd_reply_string(reply, "next", "");
    bool any = cJSON_GetArraySize(locks) > 0;

    for (cJSON *lock = locks ? locks->child : NULL, *behind; lock; lock = behind) {
        behind = lock->next;
        cJSON_AddItemToArray(all, cJSON_DetachItemViaPointer(locks, lock));
    }
    cJSON_Delete(object);
    return *next && any ? xstrdup(next) : NULL;
}

/* The user's words with the cursor and the page size added. */
static int ask_page(const struct ctl *ctl, const struct opt_words *words, const char *after,
                    pglockd_reply **reply)
{
    struct buf cursor = {0};
    char **all = xcalloc(words->nwords + 2, sizeof(*all));
    char limit[] = "limit=1000";
    struct opt_words page = *words;

    for (size_t i = 0; i < words->nwords; i++)
        all[i] = words->words[i];
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

int pages_ask(const struct ctl *ctl, const struct opt_words *words, cJSON **locks)
{
    cJSON *all = cJSON_CreateArray();
    char *after = NULL;
    int status;

    do {
        pglockd_reply *reply;
        status = ask_page(ctl, words, after, &reply);
        free(after);
        after = status == CTL_OK ? take_page(all, reply) : NULL;
        pglockd_reply_free(reply);
    } while (after && !ctl_word_value(words, "limit"));
    free(after);
    *locks = status == CTL_OK ? all : NULL;
    if (status != CTL_OK)
        cJSON_Delete(all);
    return status;
}
