/* The resources of files, and the files of resources; asks no daemon. */

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "pglockctl/path_files.h"
#include "pglockctl/path_resolve.h"
#include "wire/resource.h"

static bool reverse, null_ends;

static const struct opt options[] = {
    {.letter = 'r',
     .name = "reverse",
     .kind = OPT_FLAG,
     .into = &reverse,
     .help = "print the files of resources"},
    {.letter = '0',
     .name = "null",
     .kind = OPT_FLAG,
     .into = &null_ends,
     .help = "end what is printed with NULs, not with line ends"},
};

static void put_line(struct buf *out, struct str text)
{
    buf_put(out, text.p, text.n);
    buf_putc(out, null_ends ? '\0' : '\n');
}

static void put_json(struct buf *out, const struct path_name *name)
{
    struct buf line = {0};
    struct json j = json_to(&line);

    json_begin_object(&j);
    json_put_string(&j, "file", str_of(name->file));
    json_put_string(&j, "resource", str_of(name->resource));
    json_put_string(&j, "scope", name->tree ? STR_LIT("tree") : STR_LIT("node"));
    json_end_object(&j);
    put_line(out, buf_str(&line));
    buf_free(&line);
}

static int print_resources(const struct ctl *ctl, const struct opt_words *words, struct buf *out)
{
    struct path_names names = {0};
    int status = path_names_get(&names, words, false);

    for (size_t i = 0; i < names.n; i++) {
        if (ctl->json)
            put_json(out, &names.at[i]);
        else
            put_line(out, str_of(names.at[i].resource));
    }
    path_names_free(&names);
    return status;
}

static int put_file(const struct path_root *root, const char *resource, struct buf *out)
{
    struct buf path = {0};
    struct str prefix = root->rules.prefix, name = str_of(resource);

    if (prefix.n > 0)
        name = path_under(prefix, name);
    buf_put(&path, root->dir.data, root->dir.len);
    if (name.n > 0 || path.len == 0)
        buf_putc(&path, '/');
    bool ok = resource_check(str_of(resource)) == NULL && name.p && path_decode(&path, name);
    if (ok)
        put_line(out, buf_str(&path));
    else
        ctl_error("%s is not the resource of a file beneath %.*s/", resource, (int)root->dir.len,
                  root->dir.len > 0 ? root->dir.data : "");
    buf_free(&path);
    return ok ? CTL_OK : CTL_BAD_REQUEST;
}

/* The root is the one of the working directory. */
static int print_files(const struct opt_words *words, struct buf *out)
{
    struct path_root root = {0};
    struct buf cwd = {0}, err = {0};
    int status = CTL_OK;

    if (!path_working_directory(&cwd, &err))
        status = ctl_usage_error("%s", buf_cstr(&err));
    if (status == CTL_OK)
        status = path_root_find(&root, &cwd);
    for (size_t i = 0; i < words->nwords && status == CTL_OK; i++)
        status = put_file(&root, words->words[i], out);
    for (size_t i = 0; i < words->nrest && status == CTL_OK; i++)
        status = put_file(&root, words->rest[i], out);
    path_root_free(&root);
    buf_free(&cwd);
    buf_free(&err);
    return status;
}

/* All of them are printed, or none. */
static int path_main(struct ctl *ctl, const struct opt_words *words)
{
    struct buf out = {0};

    if (words->nwords + words->nrest == 0 && !path_wanted())
        return ctl_usage_error("path needs a FILE (see pglockctl path --help)");
    if (reverse && (ctl->json || path_wanted()))
        return ctl_usage_error("--reverse takes resources, and prints nothing but paths");
    int status = reverse ? print_files(words, &out) : print_resources(ctl, words, &out);
    if (status == CTL_OK && out.len > 0)
        fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
    return status;
}

const struct command command_path = {
    .name = "path",
    .synopsis = "FILE...",
    .summary = "Print the resources of files",
    .details =
        "\nThe resource of a file is its path beneath a root: the directory of --root, else the\n"
        "nearest one at or above the file that has a file .pglockd, else /. Symlinks are\n"
        "followed; a file need not exist. .pglockd sets the prefix of its names:\n"
        "    [pglockd]\n"
        "    prefix = shop\n"
        "PGLOCKCTL_ROOT, PGLOCKCTL_PREFIX, PGLOCKCTL_CASE and PGLOCKCTL_UNICODE set what the\n"
        "options do. The manual says how names are made.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .files = FILES_ALWAYS,
    .main = path_main,
};
