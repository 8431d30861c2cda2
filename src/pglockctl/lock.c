#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/xalloc.h"
#include "pglockctl/path_files.h"

/* One token alone; of several each with its resource. */
static void print_tokens(const pglockd_reply *reply)
{
    cJSON *object = cJSON_Parse(pglockd_reply_json(reply));
    const cJSON *lock, *locks = cJSON_GetObjectItemCaseSensitive(object, "locks");

    if (cJSON_GetArraySize(locks) <= 1)
        printf("%" PRId64 "\n", pglockd_reply_int(reply, "token", 0));
    else
        cJSON_ArrayForEach(lock, locks)
        {
            const cJSON *token = cJSON_GetObjectItemCaseSensitive(lock, "token");
            const cJSON *name = cJSON_GetObjectItemCaseSensitive(lock, "resource");
            if (cJSON_IsNumber(token) && cJSON_IsString(name))
                printf("%" PRId64 " %s\n", (int64_t)token->valuedouble, name->valuestring);
        }
    cJSON_Delete(object);
}

/* LOCK with these words; prints what was granted. */
static int lock_words(const struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
    int status = ctl_ask(ctl, "LOCK", words, &reply);

    if (status == CTL_OK && !ctl->json)
        print_tokens(reply);
    pglockd_reply_free(reply);
    return status;
}

/* ---- files ---- */

static size_t count_trees(const struct path_names *names)
{
    size_t n = 0;
    for (size_t i = 0; i < names->n; i++)
        n += names->at[i].tree;
    return n;
}

/* The word for a directory among files: exclusive-tree="…" or shared-tree="…". */
static char *tree_word(const struct opt_words *words, const char *resource)
{
    const char *mode = ctl_word_value(words, "mode");
    const char *key = mode && strcmp(mode, "shared") == 0 ? "shared-tree" : "exclusive-tree";
    char *quoted = pglockd_quote(resource);
    struct buf word = {0};

    buf_printf(&word, "%s=%s", key, quoted ? quoted : "\"\"");
    char *copy = xstrdup(buf_cstr(&word));
    buf_free(&word);
    free(quoted);
    return copy;
}

/*
 * words with the names as one set: files, or directories where there are no files, are arguments.
 * What out->words has from *own on is freed by the caller.
 */
static void put_set(const struct path_names *names, const struct opt_words *words,
                    struct opt_words *out, size_t *own)
{
    bool all_trees = count_trees(names) == names->n;

    *out = (struct opt_words){.words = xcalloc(words->nwords + names->n + 1, sizeof(char *)),
                              .rest = xcalloc(names->n + 1, sizeof(char *))};
    for (size_t i = 0; i < words->nwords; i++)
        out->words[out->nwords++] = words->words[i];
    *own = out->nwords;
    if (all_trees)
        out->words[out->nwords++] = xstrdup("scope=tree");
    for (size_t i = 0; i < names->n; i++) {
        char *resource = names->at[i].resource;
        if (names->at[i].tree && !all_trees)
            out->words[out->nwords++] = tree_word(words, resource);
        else
            out->rest[out->nrest++] = resource;
    }
}

static int lock_set(const struct ctl *ctl, const struct path_names *names,
                    const struct opt_words *words)
{
    struct opt_words set;
    size_t own;

    put_set(names, words, &set, &own);
    int status = lock_words(ctl, &set);
    while (set.nwords > own)
        free(set.words[--set.nwords]);
    path_words_free(&set);
    return status;
}

static int lock_files(const struct ctl *ctl, const struct opt_words *words)
{
    struct path_names names = {0};
    struct opt_words pairs;
    int status = path_words(&names, words, false, &pairs);

    if (status == CTL_OK && names.n == 0)
        status = ctl_usage_error("no file was named");
    if (status == CTL_OK) {
        path_names_reduce(&names);
        status = lock_set(ctl, &names, &pairs);
    }
    path_words_free(&pairs);
    path_names_free(&names);
    return status;
}

/* ---- the command ---- */

static int lock_main(struct ctl *ctl, const struct opt_words *words)
{
    return path_wanted() ? lock_files(ctl, words) : lock_words(ctl, words);
}

const struct command command_lock = {
    .name = "lock",
    .synopsis = "RESOURCE... [mode=shared] [ttl=30s] [wait=5s] [id=KEY] [owner=NAME] [note=TEXT]",
    .summary = "Take a lock and print its token",
    .details =
        "\nThe lock stands until it is released with its token or its TTL has passed:\n"
        "    token=$(pglockctl lock repo/a.ts ttl=1m wait=10s) || exit\n"
        "    pglockctl unlock repo/a.ts token=$token\n"
        "To run one command under a lock, use pglockctl run.\n"
        "\nSeveral resources are locked together or not at all; then each gets a line, TOKEN\n"
        "RESOURCE. With --files they are files; a directory is one with all beneath it.\n",
    .files = FILES_BY_ITSELF,
    .main = lock_main,
};
