/* The locks that are held, drawn as the tree that their resources are. */

#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "pglockctl/pages.h"
#include "pglockctl/path_name.h"
#include "pglockctl/text.h"

struct marks {
    const char *child, *last_child, *line, *space;
};

static const struct marks unicode_marks = {"├── ", "└── ", "│   ", "    "};
static const struct marks ascii_marks = {"|-- ", "`-- ", "|   ", "    "};

/* A lease and what its resource is beneath the root of the drawing; "" for the root itself. */
struct leaf {
    const char *path;
    const cJSON *lock;
    size_t place; /* in the daemon's order, which is that of the tokens */
};

struct drawing {
    const struct marks *marks;
    struct table table;
    struct leaf *leaves; /* in the order of a walk: a node, then all beneath it */
};

static size_t segment_length(const char *path)
{
    return strcspn(path, "/");
}

static int compare_leaves(const void *x, const void *y)
{
    const struct leaf *a = x, *b = y;
    int order = path_compare(a->path, b->path);

    return order ? order : (a->place > b->place) - (a->place < b->place);
}

static void add_row(struct drawing *d, const struct buf *branch, const char *name,
                    const cJSON *lock)
{
    struct buf cell = {0};

    buf_put(&cell, branch->data, branch->len);
    buf_puts(&cell, name);
    table_add(&d->table, buf_cstr(&cell));
    if (lock)
        fields_add_row(&d->table, lock, lock_fields + 1, LOCK_FIELDS - 1);
    else
        for (int i = 1; i < LOCK_FIELDS; i++)
            table_add_blank(&d->table);
    buf_free(&cell);
}

/*
 * The rows of one node: its name with the first of its leases [0, held), the others below. branch
 * is what stands before the name, below what stands before the lines under it.
 */
static void add_node(struct drawing *d, const struct leaf *leaves, size_t held, bool has_children,
                     const struct buf *branch, const struct buf *below, const char *name)
{
    struct buf next = {0};

    buf_put(&next, below->data, below->len);
    buf_puts(&next, has_children ? d->marks->line : d->marks->space);
    add_row(d, branch, name, held > 0 ? leaves[0].lock : NULL);
    for (size_t i = 1; i < held; i++)
        add_row(d, &next, "", leaves[i].lock);
    buf_free(&next);
}

/* Draws the children that leaves [from, to) have at offset; below is what stands before them. */
static void add_children(struct drawing *d, size_t from, size_t to, size_t offset,
                         struct buf *below)
{
    size_t end, held, len = below->len;

    for (; from < to; from = end) {
        const char *name = d->leaves[from].path + offset;
        size_t n = segment_length(name);
        for (end = from; end < to; end++) {
            const char *other = d->leaves[end].path + offset;
            if (segment_length(other) != n || memcmp(name, other, n) != 0)
                break;
        }
        for (held = from; held < end && d->leaves[held].path[offset + n] == '\0';)
            held++;
        struct buf branch = {0}, text = {0};
        buf_put(&branch, below->data, below->len);
        buf_puts(&branch, end == to ? d->marks->last_child : d->marks->child);
        buf_put(&text, name, n);
        buf_puts(below, end == to ? d->marks->space : d->marks->line);
        add_node(d, d->leaves + from, held - from, held < end, &branch, below, buf_cstr(&text));
        add_children(d, held, end, offset + n + 1, below);
        below->len = len;
        buf_free(&branch);
        buf_free(&text);
    }
}

/* The path of resource beneath prefix. "/" is the root of all. */
static const char *path_beneath(const char *resource, const char *prefix)
{
    size_t n = strlen(prefix);

    if (strncmp(resource, prefix, n) == 0)
        resource += n;
    return *resource == '/' ? resource + 1 : resource;
}

static void draw(struct buf *out, const cJSON *locks, const char *prefix)
{
    struct drawing d = {.table = {.ncols = LOCK_FIELDS}};
    size_t n = 0, held = 0;
    struct buf nothing = {0};
    const cJSON *lock;

    if (cJSON_GetArraySize(locks) == 0) {
        text_put_safe(out, *prefix ? prefix : "/");
        buf_puts(out, "  nothing is held\n");
        return;
    }

    d.marks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? &unicode_marks : &ascii_marks;
    d.leaves = xcalloc((size_t)cJSON_GetArraySize(locks) + 1, sizeof(*d.leaves));
    cJSON_ArrayForEach(lock, locks)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(lock, "resource"));
        d.leaves[n] = (struct leaf){path_beneath(name ? name : "-", prefix), lock, n};
        n++;
    }
    qsort(d.leaves, n, sizeof(*d.leaves), compare_leaves);
    while (held < n && d.leaves[held].path[0] == '\0')
        held++;
    fields_add_titles(&d.table, lock_fields, LOCK_FIELDS);
    add_node(&d, d.leaves, held, held < n, &nothing, &nothing, *prefix ? prefix : "/");
    add_children(&d, held, n, 0, &nothing);
    table_put(&d.table, "", out);
    table_free(&d.table);
    buf_free(&nothing);
    free(d.leaves);
}

static int tree_main(struct ctl *ctl, const struct opt_words *words)
{
    struct buf prefix = {0}, out = {0};
    struct opt_words list = {0};
    char *word = NULL;
    cJSON *locks;

    if (words->nwords + words->nrest > 1)
        return ctl_usage_error("tree takes one PREFIX at most (see pglockctl tree --help)");
    const char *root = words->nwords ? words->words[0] : words->nrest ? words->rest[0] : "";
    if (*root) {
        char *quoted = pglockd_quote(root);
        buf_printf(&prefix, "prefix=%s", quoted ? quoted : "");
        free(quoted);
        word = xstrdup(buf_cstr(&prefix));
        list = (struct opt_words){.words = &word, .nwords = 1};
    }
    int status = pages_ask(ctl, &list, &locks);
    if (status == CTL_OK && !ctl->json) {
        draw(&out, locks, root);
        fputs(buf_cstr(&out), stdout);
    }
    cJSON_Delete(locks);
    free(word);
    buf_free(&prefix);
    buf_free(&out);
    return status;
}

const struct command command_tree = {
    .name = "tree",
    .synopsis = "[PREFIX]",
    .summary = "Draw the locks that are held as a tree of paths",
    .details = "\nWithout PREFIX everything is drawn. --json prints the pages of LIST.\n",
    .main = tree_main,
};
