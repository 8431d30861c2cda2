#include "config/file.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

/*
 * inih reads the file, but it cuts what is too long, and values at " ;", without a word. So each
 * line is checked before inih sees it, and refused where inih would not take all of it.
 */

enum {
    FILE_BYTES_MAX = 1 << 20,
    LINE_BYTES_MAX = INI_MAX_LINE - 3, /* inih's buffer also holds CR, LF and NUL */
};

struct file_reader {
    const char *path;
    struct str rest;
    size_t line; /* the number of the line that inih works on */
    settings_file_fn *fn;
    void *arg;
    struct buf *err;
};

static bool fail(struct file_reader *r, const char *why)
{
    buf_printf(r->err, "%s:%zu: %s", r->path, r->line, why);
    return false;
}

static struct str trim(struct str s)
{
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || (s.p[s.n - 1] >= '\t' && s.p[s.n - 1] <= '\r')))
        s.n--;
    while (s.n > 0 && (s.p[0] == ' ' || (s.p[0] >= '\t' && s.p[0] <= '\r'))) {
        s.p++;
        s.n--;
    }
    return s;
}

static bool has_cut(struct str s)
{
    for (size_t i = 1; i < s.n; i++) {
        if (s.p[i] == ';' && (s.p[i - 1] == ' ' || s.p[i - 1] == '\t'))
            return true;
    }
    return false;
}

static bool check_line(struct file_reader *r, struct str line)
{
    struct str text = trim(line);
    const char *equals, *colon;
    char why[160];

    if (line.n > 0 && memchr(line.p, '\0', line.n))
        return fail(r, "the line contains a NUL byte");
    if (line.n > LINE_BYTES_MAX) {
        snprintf(why, sizeof(why),
                 "the line has %zu bytes, and at most %d are read: shorten it (a long connection "
                 "string belongs into dsn_file)",
                 line.n, LINE_BYTES_MAX);
        return fail(r, why);
    }
    if (text.n == 0 || text.p[0] == ';' || text.p[0] == '#')
        return true;
    if (line.p != text.p)
        return fail(r, "the line begins with a blank: only comments may be indented");
    if (text.p[0] == '[')
        return str_is(text, "[pglockd]") || fail(r, "the only section is [pglockd]");
    equals = memchr(text.p, '=', text.n);
    colon = memchr(text.p, ':', text.n);
    if (!equals || (colon && colon < equals)) /* inih would part the line at the colon */
        return fail(r, "the line is neither [pglockd], key = value nor a comment");
    if (has_cut(text))
        return fail(r, "\" ;\" would end the value: put the comment on a line of its own");
    return true;
}

/* The next line, checked, to inih. NULL ends the file, also where a line is refused. */
static char *next_line(char *out, int size, void *stream)
{
    struct file_reader *r = stream;
    struct str line = r->rest;
    const char *lf;

    if (r->rest.n == 0 || r->err->len > 0)
        return NULL;
    r->line++;
    lf = memchr(line.p, '\n', line.n);
    if (lf)
        line.n = (size_t)(lf - line.p);
    r->rest.p += line.n + (lf != NULL);
    r->rest.n -= line.n + (lf != NULL);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (!check_line(r, line) || line.n >= (size_t)size)
        return NULL;
    if (line.n > 0)
        memcpy(out, line.p, line.n);
    out[line.n] = '\0';
    return out;
}

static int on_key(void *user, const char *section, const char *key, const char *value)
{
    struct file_reader *r = user;
    size_t n = strlen(value);

    if (r->err->len > 0)
        return 0;
    if (strcmp(section, "pglockd") != 0)
        return fail(r, "a setting stands before the section: begin the file with [pglockd]");
    if (n >= 2 && value[0] == '"' && value[n - 1] == '"')
        return fail(r, "values are written without quotes around them");
    return r->fn(r->arg, key, value, r->line);
}

static bool read_all(const char *path, struct buf *text, bool *missing, struct buf *err)
{
    FILE *file = fopen(path, "re");
    size_t n;

    *missing = !file && errno == ENOENT;
    if (!file) {
        buf_printf(err, "cannot open the configuration file %s: %s", path, strerror(errno));
        return false;
    }
    do {
        n = fread(buf_reserve(text, 4096), 1, 4096, file);
        text->len += n;
    } while (n > 0 && text->len <= FILE_BYTES_MAX);
    if (ferror(file))
        buf_printf(err, "cannot read the configuration file %s: %s", path, strerror(errno));
    else if (text->len > FILE_BYTES_MAX)
        buf_printf(err, "the configuration file %s has more than 1 MiB", path);
    fclose(file);
    return err->len == 0;
}

bool settings_file_read(const char *path, settings_file_fn *fn, void *arg, bool *missing,
                        struct buf *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    struct file_reader r = {.path = path, .fn = fn, .arg = arg, .err = err};
    struct buf text = {0};
    int bad = 0;

    if (read_all(path, &text, missing, err)) {
        r.rest = buf_str(&text);
        if (r.rest.n >= 3 && memcmp(r.rest.p, bom, 3) == 0)
            r.rest = (struct str){text.data + 3, text.len - 3};
        bad = ini_parse_stream(next_line, &r, on_key, &r);
        if (bad != 0 && err->len == 0) /* check_line() leaves nothing that inih refuses */
            buf_printf(err, "%s:%d: the line is not understood", path, bad);
    }
    buf_free(&text);
    return err->len == 0;
}
