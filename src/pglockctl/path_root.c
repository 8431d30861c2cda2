#include "pglockctl/path_root.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/file.h"
#include "pglockctl/ctl.h"
#include "pglockctl/path_resolve.h"
#include "wire/resource.h"

static const char file_name[] = "/.pglockd";

struct path_settings path_settings;

/* ---- what can be set, once ---- */

static const char *set_prefix(struct path_root *root, const char *value)
{
    buf_clear(&root->prefix);
    buf_puts(&root->prefix, value);
    root->rules.prefix = buf_str(&root->prefix);
    return resource_check(root->rules.prefix);
}

static const char *set_flag(bool *flag, const char *value, const char *on, const char *why)
{
    *flag = strcmp(value, on) == 0;
    return *flag || strcmp(value, "keep") == 0 ? NULL : why;
}

static const char *set_case(struct path_root *root, const char *value)
{
    return set_flag(&root->rules.fold_case, value, "fold", "it is keep or fold");
}

static const char *set_unicode(struct path_root *root, const char *value)
{
    return set_flag(&root->rules.nfc, value, "nfc", "it is keep or nfc");
}

/* set returns NULL, or why the value is none. */
static const struct setting {
    const char *name; /* in .pglockd, and of the option */
    const char *environment;
    const char **option;
    const char *(*set)(struct path_root *root, const char *value);
} settings[] = {
    {"prefix", "PGLOCKCTL_PREFIX", &path_settings.prefix, set_prefix},
    {"case", "PGLOCKCTL_CASE", &path_settings.letter_case, set_case},
    {"unicode", "PGLOCKCTL_UNICODE", &path_settings.unicode, set_unicode},
};
enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

/* An empty variable is as good as none. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* From the weaker to the stronger. */
static int set_from_outside(struct path_root *root)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        const char *value = environment(s->environment), *why;
        if (value && (why = s->set(root, value)) != NULL) {
            ctl_error("%s=%s: %s", s->environment, value, why);
            return CTL_CONFIG;
        }
        if (*s->option && (why = s->set(root, *s->option)) != NULL)
            return ctl_usage_error("--%s %s: %s", s->name, *s->option, why);
    }
    return CTL_OK;
}

/* ---- .pglockd ---- */

struct reader {
    struct path_root *root;
    const char *path;
    struct buf *err;
};

static bool set_from_file(void *arg, const char *key, const char *value, size_t line)
{
    struct reader *r = arg;
    const char *why = "there is no such key: they are prefix, case and unicode";

    for (size_t i = 0; i < SETTINGS; i++)
        if (strcmp(settings[i].name, key) == 0)
            why = settings[i].set(r->root, value);
    if (why)
        buf_printf(r->err, "%s:%zu: %s: %s", r->path, line, key, why);
    return why == NULL;
}

static int read_file(struct path_root *root, const char *path)
{
    struct buf err = {0};
    struct reader r = {root, path, &err};
    bool missing;

    bool ok = settings_file_read(path, set_from_file, &r, &missing, &err);
    if (!ok)
        ctl_error("%s", buf_cstr(&err));
    buf_free(&err);
    return ok ? CTL_OK : CTL_CONFIG;
}

/*
 * Where everybody may make files, as in /tmp, one counts only if it belongs to root or to whom the
 * directory belongs: what somebody else left there must not change what others' files are called.
 */
static bool is_trusted(const struct stat *dir, const struct stat *file)
{
    return !(dir->st_mode & S_IWOTH) || file->st_uid == 0 || file->st_uid == dir->st_uid;
}

/*
 * Whether dir has a file of settings, whose path is then in *path. CTL_OK, or says why nobody can
 * tell: to take that for "none" would give a file another name.
 */
static int look_for_file(const struct buf *dir, struct buf *path, bool *found)
{
    struct stat of_dir, of_file;

    buf_clear(path);
    buf_put(path, dir->data, dir->len);
    *found = stat(dir->len > 0 ? buf_cstr(path) : "/", &of_dir) == 0;
    buf_puts(path, file_name);
    *found = *found && lstat(buf_cstr(path), &of_file) == 0;
    if (!*found && errno != ENOENT && errno != ENOTDIR) {
        ctl_error("cannot look for %s: %s", buf_cstr(path), strerror(errno));
        return CTL_CONFIG;
    }
    *found = *found && S_ISREG(of_file.st_mode) && is_trusted(&of_dir, &of_file);
    return CTL_OK;
}

/* ---- finding the root ---- */

static int load(struct path_root *root, const struct buf *dir)
{
    struct buf path = {0};
    bool found;

    path_root_free(root);
    buf_put(&root->dir, dir->data, dir->len);
    root->rules.nfc = true;
    int status = look_for_file(dir, &path, &found);
    if (status == CTL_OK && found)
        status = read_file(root, buf_cstr(&path));
    if (status == CTL_OK)
        status = set_from_outside(root);
    if (status == CTL_OK && found && root->prefix.len == 0) {
        ctl_error("%s: prefix is missing; without one the names here would also be those of "
                  "every other root that has none",
                  buf_cstr(&path));
        status = CTL_CONFIG;
    }
    buf_free(&path);
    root->loaded = status == CTL_OK;
    return status;
}

/* Goes up from dir to the nearest directory with settings, or to the top. */
static int climb(struct buf *dir)
{
    struct buf path = {0};
    bool found;
    int status;

    while ((status = look_for_file(dir, &path, &found)) == CTL_OK && !found && dir->len > 0)
        path_pop(dir);
    buf_free(&path);
    return status;
}

static int resolve_given(struct buf *dir, const char *given)
{
    struct buf err = {0};
    int status = path_settings.root ? CTL_BAD_REQUEST : CTL_CONFIG;

    bool begun = *given == '/' || path_working_directory(dir, &err);
    if (!begun || !path_resolve(dir, given, true, &err))
        ctl_error("the root %s: %s", given, buf_cstr(&err));
    else if (!path_is_directory(dir))
        ctl_error("the root %s is not a directory", given);
    else
        status = CTL_OK;
    buf_free(&err);
    return status;
}

int path_root_find(struct path_root *root, struct buf *from)
{
    const char *given = path_settings.root ? path_settings.root : environment("PGLOCKCTL_ROOT");
    struct buf dir = {0};
    int status;

    if (given && root->loaded)
        return CTL_OK;
    if (given) {
        status = resolve_given(&dir, given);
    } else {
        buf_put(&dir, from->data, from->len);
        status = climb(&dir);
    }
    if (status == CTL_OK && !(root->loaded && str_eq(buf_str(&dir), buf_str(&root->dir))))
        status = load(root, &dir);
    buf_free(&dir);
    return status;
}

void path_root_free(struct path_root *root)
{
    buf_free(&root->dir);
    buf_free(&root->prefix);
    *root = (struct path_root){0};
}
