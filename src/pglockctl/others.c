#include "pglockctl/others.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "pglockctl/pages.h"
#include "wire/resource.h"

/* INFO takes 64; so many fit into a line of the protocol, however long and quoted they are. */
enum { ASKED_AT_ONCE = 32 };

/* A resource to ask about: all its leases count, or, above what we look at, only trees. */
struct question {
    char *resource;
    bool above;
};

struct others {
    const struct ctl *ctl;
    pglockd *client;
    struct buf name; /* ours */
    cJSON *tokens;   /* ours, by resource; NULL: none */
    struct question *questions;
    size_t n;
    size_t cap;
    cJSON *found;
};

static const char *text_of(const cJSON *object, const char *member)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, member));
    return text ? text : "";
}

/* ---- which leases are ours ---- */

/* CTL_OK with *ours set, or says why the daemon cannot tell. */
static int check_token(struct others *o, const char *resource, bool *ours)
{
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(o->tokens, resource);

    *ours = false;
    if (!cJSON_IsNumber(token))
        return CTL_OK;
    pglockd_lease *lease = pglockd_lease_adopt(resource, (int64_t)token->valuedouble, 0, 0);
    pglockd_status status = lease ? pglockd_check(o->client, lease, NULL) : PGLOCKD_NOMEM;
    pglockd_lease_free(lease);
    *ours = status == PGLOCKD_OK;
    return *ours || status == PGLOCKD_LOST ? CTL_OK : ctl_fail(o->ctl, o->client, status);
}

static int look_at_lease(struct others *o, const cJSON *lease, bool above)
{
    bool ours = strcmp(text_of(lease, "owner"), buf_cstr(&o->name)) == 0;
    int status = CTL_OK;

    if (above && strcmp(text_of(lease, "scope"), "tree") != 0)
        return CTL_OK;
    if (!ours && strcmp(text_of(lease, "mode"), "exclusive") == 0)
        status = check_token(o, text_of(lease, "resource"), &ours);
    if (status == CTL_OK && !ours)
        cJSON_AddItemToArray(o->found, cJSON_Duplicate(lease, true));
    return status;
}

/* ---- at and above the resources ---- */

static void add_question(struct others *o, struct str resource, bool above)
{
    if (resource_check(resource) != NULL)
        return;
    if (o->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 64;
        o->questions = xrealloc(o->questions, o->cap * sizeof(*o->questions));
    }
    o->questions[o->n++] = (struct question){xstrndup(resource.p, resource.n), above};
}

static void add_questions(struct others *o, const char *resource)
{
    for (size_t i = 0; resource[i]; i++)
        if (resource[i] == '/')
            add_question(o, (struct str){resource, i}, true);
    add_question(o, str_of(resource), false);
}

static int compare_questions(const void *x, const void *y)
{
    const struct question *a = x, *b = y;
    int order = strcmp(a->resource, b->resource);
    return order ? order : a->above - b->above;
}

/* Each resource once, as the one that counts more. */
static void sort_questions(struct others *o)
{
    size_t kept = 0;

    if (o->n > 0)
        qsort(o->questions, o->n, sizeof(*o->questions), compare_questions);
    for (size_t i = 0; i < o->n; i++) {
        if (kept > 0 && strcmp(o->questions[kept - 1].resource, o->questions[i].resource) == 0)
            free(o->questions[i].resource);
        else
            o->questions[kept++] = o->questions[i];
    }
    o->n = kept;
}

/* A tree above is looked at as what it is itself, so as a holder of others it does not count. */
static int look_at_holders(struct others *o, const struct question *q, const cJSON *resource)
{
    const cJSON *holder, *holders = cJSON_GetObjectItemCaseSensitive(resource, "holders");
    int status = CTL_OK;

    cJSON_ArrayForEach(holder, holders)
    {
        if (status == CTL_OK && strcmp(text_of(holder, "resource"), q->resource) == 0)
            status = look_at_lease(o, holder, q->above);
    }
    return status;
}

static int ask_some(struct others *o, const struct question *q, size_t n)
{
    char *resources[ASKED_AT_ONCE];
    const struct opt_words words = {.rest = resources, .nrest = n};
    pglockd_reply *reply;

    for (size_t i = 0; i < n; i++)
        resources[i] = q[i].resource;
    pglockd_status answer = ctl_call(o->client, "INFO", &words, &reply);
    int status = ctl_finish(o->ctl, o->client, answer, &reply);
    if (status != CTL_OK)
        return status;
    cJSON *object = cJSON_Parse(pglockd_reply_json(reply));
    const cJSON *resource, *list = cJSON_GetObjectItemCaseSensitive(object, "resources");
    cJSON_ArrayForEach(resource, list)
    {
        for (size_t i = 0; i < n && status == CTL_OK; i++)
            if (strcmp(text_of(resource, "resource"), q[i].resource) == 0)
                status = look_at_holders(o, &q[i], resource);
    }
    cJSON_Delete(object);
    pglockd_reply_free(reply);
    return status;
}

static int ask_questions(struct others *o)
{
    int status = CTL_OK;

    for (size_t i = 0; i < o->n && status == CTL_OK; i += ASKED_AT_ONCE)
        status = ask_some(o, o->questions + i, o->n - i < ASKED_AT_ONCE ? o->n - i : ASKED_AT_ONCE);
    return status;
}

/* ---- beneath a tree ---- */

static int look_beneath(struct others *o, const char *resource)
{
    struct buf prefix = {0};
    char *quoted = pglockd_quote(resource), *word;
    cJSON *locks;
    const cJSON *lock;

    buf_printf(&prefix, "prefix=%s", quoted ? quoted : "\"\"");
    word = xstrdup(buf_cstr(&prefix));
    const struct opt_words words = {.words = &word, .nwords = 1};
    int status = pages_ask(o->ctl, &words, &locks);
    cJSON_ArrayForEach(lock, locks)
    {
        if (status == CTL_OK && strcmp(text_of(lock, "resource"), resource) != 0)
            status = look_at_lease(o, lock, false);
    }
    cJSON_Delete(locks);
    free(word);
    free(quoted);
    buf_free(&prefix);
    return status;
}

/* ---- all of it ---- */

static void print_found(const struct others *o)
{
    struct buf out = {0};

    if (cJSON_GetArraySize(o->found) > 0 && !o->ctl->json) {
        fields_put_table(&out, "", o->found, lock_fields, LOCK_FIELDS);
        fputs(buf_cstr(&out), stdout);
    }
    buf_free(&out);
}

static void others_free(struct others *o)
{
    for (size_t i = 0; i < o->n; i++)
        free(o->questions[i].resource);
    free(o->questions);
    cJSON_Delete(o->tokens);
    cJSON_Delete(o->found);
    buf_free(&o->name);
    pglockd_free(o->client);
}

int others_print(const struct ctl *ctl, const struct path_name *names, size_t n)
{
    const char *tokens = getenv("PGLOCK_TOKENS");
    struct others o = {.ctl = ctl, .client = ctl_client(ctl), .found = cJSON_CreateArray()};
    int status;

    o.tokens = tokens ? cJSON_Parse(tokens) : NULL;
    ctl_put_name(ctl, &o.name);
    for (size_t i = 0; i < n; i++)
        add_questions(&o, names[i].resource);
    sort_questions(&o);
    status = ask_questions(&o);
    for (size_t i = 0; i < n && status == CTL_OK; i++)
        if (names[i].tree && resource_check(str_of(names[i].resource)) == NULL)
            status = look_beneath(&o, names[i].resource);
    print_found(&o);
    if (status == CTL_OK && cJSON_GetArraySize(o.found) > 0)
        status = (int)ctl->busy_status;
    others_free(&o);
    return status;
}
