#include "pglockctl/path_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "pglockctl/path_resolve.h"
#include "wire/resource.h"

static bool files, lexical;
static const char *files0_from;

const struct opt path_options[PATH_OPTIONS] = {
    {.name = "files", .kind = OPT_FLAG, .into = &files, .help = "the words are files"},
    {.name = "files0-from",
     .kind = OPT_STRING,
     .into = &files0_from,
     .value = "FILE",
     .help = "files, each ended by a NUL, are in FILE (\"-\": standard input)"},
    {.name = "root",
     .kind = OPT_STRING,
     .into = &path_settings.root,
     .value = "DIR",
     .help = "name files from here on (default: nearest .pglockd, or /)"},
    {.name = "prefix",
     .kind = OPT_STRING,
     .into = &path_settings.prefix,
     .value = "NAME",
     .help = "stands before the names of files"},
    {.name = "case",
     .kind = OPT_STRING,
     .into = &path_settings.letter_case,
     .value = "HOW",
     .help = "keep (default), or fold: A and a are one"},
    {.name = "unicode",
     .kind = OPT_STRING,
     .into = &path_settings.unicode,
     .value = "HOW",
     .help = "nfc (default): spellings of a letter are one; or keep"},
    {.name = "lexical",
     .kind = OPT_FLAG,
     .into = &lexical,
     .help = "take files as they are written, follow no symlink"},
};

bool path_wanted(void)
{
    return files || files0_from;
}

bool path_settings_are_used(bool always)
{
    const struct path_settings *s = &path_settings;
    bool any = s->root || s->prefix || s->letter_case || s->unicode || lexical;

    if (any && !always && !path_wanted())
        ctl_error("--root, --prefix, --case, --unicode and --lexical go with --files");
    return !any || always || path_wanted();
}

/* ---- one file ---- */

static void add_name(struct path_names *names, const char *file, struct buf *resource, bool tree)
{
    if (names->n == names->cap) {
        names->cap = names->cap ? names->cap * 2 : 16;
        names->at = xrealloc(names->at, names->cap * sizeof(*names->at));
    }
    names->at[names->n++] = (struct path_name){xstrdup(file), xstrdup(buf_cstr(resource)), tree};
}

/* The root of a file is looked for from the directory that it is in on; of a directory, from it. */
static int find_root(struct path_names *names, const struct buf *path, bool is_directory)
{
    struct buf from = {0};

    buf_put(&from, path->data, path->len);
    if (!is_directory)
        path_pop(&from);
    int status = path_root_find(&names->root, &from);
    buf_free(&from);
    return status;
}

/* path: where the file was found to be. */
static int name_path(struct path_names *names, const char *file, struct buf *path, bool any_name)
{
    struct buf name = {0}, scratch = {0};
    bool is_directory = !lexical && path_is_directory(path);
    bool tree = is_directory || file[strlen(file) - 1] == '/';
    int status = find_root(names, path, is_directory);

    if (status == CTL_OK) {
        struct str beneath = path_under(buf_str(&names->root.dir), buf_str(path));
        if (beneath.p)
            path_encode(&name, &names->root.rules, beneath);
        const char *why =
            beneath.p ? path_check(buf_str(&name), &scratch) : "it is not beneath the root";
        if (why && !(any_name && name.len > 0))
            status = ctl_usage_error("%s: %s", file, why);
    }
    if (status == CTL_OK)
        add_name(names, file, &name, tree);
    buf_free(&name);
    buf_free(&scratch);
    return status;
}

static int add_file(struct path_names *names, const char *file, bool any_name)
{
    struct buf path = {0}, err = {0};
    bool begun = *file == '/' || path_working_directory(&path, &err);
    int status = begun && path_resolve(&path, file, !lexical, &err)
                     ? name_path(names, file, &path, any_name)
                     : ctl_usage_error("%s: %s", *file ? file : "\"\"", buf_cstr(&err));

    buf_free(&path);
    buf_free(&err);
    return status;
}

/* ---- many files ---- */

static int read_files(struct path_names *names, FILE *in, bool any_name)
{
    char *file = NULL;
    size_t cap = 0;
    int status = CTL_OK;

    while (status == CTL_OK && getdelim(&file, &cap, '\0', in) >= 0)
        status = add_file(names, file, any_name);
    free(file);
    if (status == CTL_OK && ferror(in))
        status = ctl_usage_error("cannot read %s: %s", files0_from, strerror(errno));
    return status;
}

static int add_list(struct path_names *names, char *const *list, size_t n, bool any_name)
{
    int status = CTL_OK;
    for (size_t i = 0; i < n && status == CTL_OK; i++)
        status = add_file(names, list[i], any_name);
    return status;
}

int path_names_get(struct path_names *names, const struct opt_words *words, bool any_name)
{
    int status = add_list(names, words->words, words->nwords, any_name);

    if (status == CTL_OK)
        status = add_list(names, words->rest, words->nrest, any_name);
    if (status != CTL_OK || !files0_from)
        return status;
    bool is_stdin = strcmp(files0_from, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(files0_from, "re");
    if (!in)
        return ctl_usage_error("cannot open %s: %s", files0_from, strerror(errno));
    status = read_files(names, in, any_name);
    if (!is_stdin)
        fclose(in);
    return status;
}

void path_names_free(struct path_names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        free(names->at[i].file);
        free(names->at[i].resource);
    }
    free(names->at);
    path_root_free(&names->root);
    *names = (struct path_names){0};
}

/* Of one resource the tree comes first. */
static int compare_names(const void *x, const void *y)
{
    const struct path_name *a = x, *b = y;
    int order = path_compare(a->resource, b->resource);
    return order ? order : b->tree - a->tree;
}

/* Is b in what a locks? */
static bool is_in(const struct path_name *a, const struct path_name *b)
{
    if (a->tree)
        return resource_covers(str_of(a->resource), str_of(b->resource));
    return strcmp(a->resource, b->resource) == 0;
}

void path_names_reduce(struct path_names *names)
{
    size_t kept = 0;

    if (names->n > 0)
        qsort(names->at, names->n, sizeof(*names->at), compare_names);
    for (size_t i = 0; i < names->n; i++) {
        if (kept > 0 && is_in(&names->at[kept - 1], &names->at[i])) {
            free(names->at[i].file);
            free(names->at[i].resource);
        } else {
            names->at[kept++] = names->at[i];
        }
    }
    names->n = kept;
}

/* ---- words ---- */

int path_words(struct path_names *names, const struct opt_words *words, bool any_name,
               struct opt_words *out)
{
    struct opt_words list = {.rest = words->rest, .nrest = words->nrest};

    list.words = xcalloc(words->nwords + 1, sizeof(*list.words));
    *out = (struct opt_words){.words = xcalloc(words->nwords + 1, sizeof(*out->words))};
    for (size_t i = 0; i < words->nwords; i++) {
        if (ctl_is_pair(words->words[i]))
            out->words[out->nwords++] = words->words[i];
        else
            list.words[list.nwords++] = words->words[i];
    }
    int status = path_names_get(names, &list, any_name);
    free(list.words);
    out->rest = xcalloc(names->n + 1, sizeof(*out->rest));
    for (size_t i = 0; i < names->n; i++)
        out->rest[out->nrest++] = names->at[i].resource;
    return status;
}

void path_words_free(struct opt_words *out)
{
    free(out->words);
    free(out->rest);
    *out = (struct opt_words){0};
}
