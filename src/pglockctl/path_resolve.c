#include "pglockctl/path_resolve.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINKS_MAX = 40 }; /* as the kernel: more are a loop */

/* What a path is made of: the part that is resolved, and what is still to be walked. */
struct walk {
    struct buf *path;
    struct buf rest;
    int links;
    struct buf *err;
};

void path_pop(struct buf *path)
{
    while (path->len > 0 && path->data[--path->len] != '/')
        continue;
    (void)buf_cstr(path);
}

static bool fail(struct walk *w, int error)
{
    buf_puts(w->err, strerror(error));
    return false;
}

/* The symlink at the end of the path gives way to its target, which is walked next. */
static bool follow_link(struct walk *w)
{
    char target[PATH_MAX];
    struct buf rest = {0};
    ssize_t n = readlink(buf_cstr(w->path), target, sizeof(target));

    if (n < 0)
        return fail(w, errno);
    if (++w->links > LINKS_MAX)
        return fail(w, ELOOP);
    if (n > 0 && target[0] == '/')
        buf_clear(w->path);
    else
        path_pop(w->path);
    buf_put(&rest, target, (size_t)n);
    buf_putc(&rest, '/');
    buf_put(&rest, w->rest.data, w->rest.len);
    buf_free(&w->rest);
    w->rest = rest;
    return true;
}

static bool step(struct walk *w, struct str segment, bool follow)
{
    struct stat st;

    if (segment.n == 0 || str_is(segment, "."))
        return true;
    if (str_is(segment, "..")) {
        path_pop(w->path);
        return true;
    }
    buf_putc(w->path, '/');
    buf_put(w->path, segment.p, segment.n);
    if (!follow)
        return true;
    if (lstat(buf_cstr(w->path), &st) == 0)
        return !S_ISLNK(st.st_mode) || follow_link(w);
    return errno == ENOENT || errno == ENOTDIR || fail(w, errno);
}

bool path_resolve(struct buf *path, const char *file, bool follow, struct buf *err)
{
    struct walk w = {.path = path, .err = err};
    bool ok = true;

    if (*file == '\0') {
        buf_puts(err, "a file has a name");
        return false;
    }
    if (*file == '/')
        buf_clear(path);
    buf_puts(&w.rest, file);
    while (ok && w.rest.len > 0) {
        const char *slash = memchr(w.rest.data, '/', w.rest.len);
        size_t n = slash ? (size_t)(slash - w.rest.data) : w.rest.len;
        struct buf segment = {0};

        buf_put(&segment, w.rest.data, n);
        buf_drop(&w.rest, n + (slash != NULL));
        ok = step(&w, buf_str(&segment), follow);
        buf_free(&segment);
    }
    buf_free(&w.rest);
    (void)buf_cstr(path);
    return ok;
}

bool path_working_directory(struct buf *path, struct buf *err)
{
    char *cwd = getcwd(NULL, 0);

    buf_clear(path);
    if (!cwd) {
        buf_printf(err, "the working directory has no path: %s", strerror(errno));
        return false;
    }
    buf_puts(path, strcmp(cwd, "/") == 0 ? "" : cwd);
    (void)buf_cstr(path);
    free(cwd);
    return true;
}

bool path_is_directory(struct buf *path)
{
    struct stat st;
    const char *name = path->len > 0 ? buf_cstr(path) : "/";
    return stat(name, &st) == 0 && S_ISDIR(st.st_mode);
}
