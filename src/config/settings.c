#include "config/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/xalloc.h"
#include "wire/conninfo.h"
#include "wire/duration.h"

#include "config.h"

const struct setting settings_table[SETTINGS_COUNT] = {
#define SETTINGS_ROW(field, name, kind, def, min, max, reloadable, value, help)                    \
    {name,                                                                                         \
     SETTING_##kind,                                                                               \
     def,                                                                                          \
     min,                                                                                          \
     max,                                                                                          \
     reloadable,                                                                                   \
     value,                                                                                        \
     help,                                                                                         \
     offsetof(struct settings, field)},
    SETTINGS_TABLE(SETTINGS_ROW)
#undef SETTINGS_ROW
};

/* What the command line asks for beside values. */
enum action { ACTION_RUN, ACTION_CHECK, ACTION_SHOW, ACTION_HELP, ACTION_VERSION };

static const struct {
    const char *word;
    enum action action;
} actions[] = {
    {"--check-config", ACTION_CHECK}, {"--show-config", ACTION_SHOW},
    {"--help", ACTION_HELP},          {"-h", ACTION_HELP},
    {"--version", ACTION_VERSION},    {"-V", ACTION_VERSION},
};

int setting_find(struct str name, bool fold_dashes)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const char *wanted = settings_table[i].name;
        size_t k = 0;

        while (k < name.n && wanted[k] &&
               (name.p[k] == wanted[k] || (fold_dashes && name.p[k] == '-' && wanted[k] == '_')))
            k++;
        if (k == name.n && wanted[k] == '\0')
            return i;
    }
    return -1;
}

static enum settings_level level_of(const struct settings *s, int i)
{
    return s->origin->source[i].level;
}

static bool is_list(int i)
{
    return settings_table[i].kind == SETTING_LISTEN || settings_table[i].kind == SETTING_NAMES;
}

/* "SOURCE: NAME VALUE: reason"; a connection string is not repeated, it may hold a password. */
static void put_bad_value(const struct settings *s, int i, const char *text, struct str why,
                          struct buf *err)
{
    setting_put_source(s, i, err);
    buf_printf(err, ": %s", settings_table[i].name);
    if (settings_table[i].kind != SETTING_CONNINFO)
        buf_printf(err, " is %s", log_quote(str_of(text)));
    buf_puts(err, ": ");
    buf_put(err, why.p, why.n);
}

/* Lists gather the values of one source; a stronger source replaces those of a weaker one. */
static bool assign(struct settings *s, int i, const char *text, struct settings_source source,
                   struct buf *err)
{
    bool append = is_list(i) && level_of(s, i) == source.level;
    struct buf why = {0};
    bool ok;

    s->origin->source[i] = source;
    ok = setting_parse(s, i, text, append, &why);
    if (!ok)
        put_bad_value(s, i, text, buf_str(&why), err);
    buf_free(&why);
    return ok;
}

static void assign_defaults(struct settings *s)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const char *text = settings_table[i].default_text;
        struct buf err = {0};

        if (text && !assign(s, i, text, (struct settings_source){0}, &err)) {
            log_error("bad_default", "detail=%s", log_quote(buf_str(&err)));
            abort(); /* the table itself is wrong; a unit test loads every default */
        }
    }
}

struct file_context {
    struct settings *s;
    const char *path;
    struct buf *err;
};

static bool assign_from_file(void *arg, const char *key, const char *value, size_t line)
{
    struct file_context *c = arg;
    int i = setting_find(str_of(key), false);
    const char *why = NULL;

    if (i < 0)
        why = "there is no such setting (pglockd --help lists them)";
    else if (i == SETTING_INDEX_config)
        why = "it names the file and cannot stand in it";
    else if (!is_list(i) && level_of(c->s, i) == LEVEL_FILE)
        why = "it is set a second time: keep one of the lines";
    if (!why)
        return assign(c->s, i, value, (struct settings_source){LEVEL_FILE, line}, c->err);
    buf_printf(c->err, "%s:%zu: %s: %s", c->path, line, log_quote(str_of(key)), why);
    return false;
}

static bool load_file(struct settings *s, struct buf *err)
{
    struct file_context c = {s, s->config, err};
    bool missing;

    if (settings_file_read(s->config, assign_from_file, &c, &missing, err))
        return true;
    if (!missing || level_of(s, SETTING_INDEX_config) != LEVEL_DEFAULT)
        return false;
    buf_clear(err);
    return true;
}

static const char *environment_value(int i)
{
    char name[64];
    char *p = name + snprintf(name, sizeof(name), "PGLOCKD_");
    const char *value;

    for (const char *q = settings_table[i].name; *q; q++)
        *p++ = (char)(*q >= 'a' && *q <= 'z' ? *q - 'a' + 'A' : *q);
    *p = '\0';
    value = getenv(name);
    return value && *value ? value : NULL;
}

static bool load_environment(struct settings *s, struct buf *err)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const char *value = environment_value(i);

        if (value && i != SETTING_INDEX_config &&
            !assign(s, i, value, (struct settings_source){LEVEL_ENVIRONMENT, 0}, err))
            return false;
    }
    return true;
}

static bool find_action(const char *word, enum action *action)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(word, actions[i].word) == 0) {
            *action = actions[i].action;
            return true;
        }
    }
    return false;
}

/*
 * The option at argv[*at]; *at moves past its value. Returns the row and its value, or -1 with a
 * sentence in err.
 */
static int read_option(const struct settings_origin *o, int *at, const char **value,
                       struct buf *err)
{
    const char *word = o->argv[*at];
    size_t n = strcspn(word, "=");
    int i = -1;

    if (strncmp(word, "--", 2) == 0)
        i = setting_find((struct str){word + 2, n - 2}, true);
    if (i < 0) {
        buf_printf(err, "%s is not an option: every setting is --name value (see pglockd --help)",
                   log_quote((struct str){word, n}));
        return -1;
    }
    if (word[n] == '=') {
        *value = word + n + 1;
    } else if (*at + 1 < o->argc && strncmp(o->argv[*at + 1], "--", 2) != 0) {
        *value = o->argv[++*at];
    } else {
        buf_printf(err, "option --%s needs a value: --%s %s", settings_table[i].name,
                   settings_table[i].name, settings_table[i].value);
        return -1;
    }
    return i;
}

static bool assign_option(struct settings *s, int i, const char *value, struct buf *err)
{
    if (i == SETTING_INDEX_dsn && conninfo_redact(str_of(value), NULL)) {
        buf_puts(err, "option --dsn: the connection string holds a password, which every user of "
                      "this machine could read: use dsn_file, a service or a password file");
        return false;
    }
    return assign(s, i, value, (struct settings_source){LEVEL_OPTION, 0}, err);
}

/* Walks the command line; with only_config everything but --config and the actions is skipped. */
static bool load_options(struct settings *s, bool only_config, enum action *action, struct buf *err)
{
    for (int at = 1; at < s->origin->argc; at++) {
        const char *value = NULL;
        int i;

        if (find_action(s->origin->argv[at], action)) {
            if (*action >= ACTION_HELP)
                return true;
            continue;
        }
        i = read_option(s->origin, &at, &value, err);
        if (i < 0)
            return false;
        if (only_config == (i == SETTING_INDEX_config) && !assign_option(s, i, value, err))
            return false;
    }
    return true;
}

static void put_row(const struct settings *s, int i, struct buf *out)
{
    buf_printf(out, "%s (", settings_table[i].name);
    setting_format(s, i, out);
    buf_puts(out, ", ");
    setting_put_source(s, i, out);
    buf_puts(out, ")");
}

static bool check_not_above(const struct settings *s, int low, int64_t low_value, int high,
                            int64_t high_value, struct buf *err)
{
    if (low_value <= high_value)
        return true;
    put_row(s, low, err);
    buf_puts(err, " must not be above ");
    put_row(s, high, err);
    return false;
}

static bool check_relations(const struct settings *s, struct buf *err)
{
    return check_not_above(s, SETTING_INDEX_ttl_min_ms, s->ttl_min_ms, SETTING_INDEX_ttl_max_ms,
                           s->ttl_max_ms, err) &&
           check_not_above(s, SETTING_INDEX_ttl_min_ms, s->ttl_min_ms, SETTING_INDEX_ttl_ms,
                           s->ttl_ms, err) &&
           check_not_above(s, SETTING_INDEX_ttl_ms, s->ttl_ms, SETTING_INDEX_ttl_max_ms,
                           s->ttl_max_ms, err) &&
           check_not_above(s, SETTING_INDEX_line_max, (int64_t)s->line_max, SETTING_INDEX_max_input,
                           (int64_t)s->max_input, err);
}

/* Which database: the strongest source that names one decides, and it must name one only. */
static bool choose_database(struct settings *s, struct buf *err)
{
    static const int rows[] = {SETTING_INDEX_dsn, SETTING_INDEX_dsn_file, SETTING_INDEX_embedded};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    enum settings_level top = LEVEL_DEFAULT;
    int chosen = -1;

    for (int k = 0; k < ROWS; k++) {
        if (level_of(s, rows[k]) > top)
            top = level_of(s, rows[k]);
    }
    for (int k = 0; k < ROWS; k++) {
        int i = rows[k];

        if (level_of(s, i) < top) {
            setting_clear(s, i);
            s->origin->source[i] = (struct settings_source){0};
        } else if (top > LEVEL_DEFAULT && chosen >= 0) {
            put_row(s, chosen, err);
            buf_puts(err, " and ");
            put_row(s, i, err);
            buf_puts(err, " exclude each other: keep one");
            return false;
        } else {
            chosen = i;
        }
    }
    if (top == LEVEL_DEFAULT)
        buf_puts(err, "no database is named: set one of embedded (a directory for a private "
                      "PostgreSQL), dsn and dsn_file");
    return top > LEVEL_DEFAULT;
}

static void set_dependent_defaults(struct settings *s)
{
    if (level_of(s, SETTING_INDEX_migrate) == LEVEL_DEFAULT)
        s->migrate = s->embedded ? SETTINGS_MIGRATE_AUTO : SETTINGS_MIGRATE_CHECK;
}

/* Fills *s from all sources, except where *action says that it will not be needed. */
static bool load_all(struct settings *s, int argc, char **argv, enum action *action,
                     struct buf *err)
{
    const char *config = environment_value(SETTING_INDEX_config);

    *s = (struct settings){.origin = xcalloc(1, sizeof(struct settings_origin))};
    s->origin->argc = argc;
    s->origin->argv = argv;
    assign_defaults(s);
    if (config && !assign(s, SETTING_INDEX_config, config,
                          (struct settings_source){LEVEL_ENVIRONMENT, 0}, err))
        return false;
    if (!load_options(s, true, action, err))
        return false;
    if (*action >= ACTION_HELP)
        return true;
    if (!load_file(s, err) || !load_environment(s, err) || !load_options(s, false, action, err) ||
        !choose_database(s, err) || !check_relations(s, err))
        return false;
    set_dependent_defaults(s);
    return true;
}

static bool check_only(const struct settings *s, struct buf *err)
{
    struct buf dsn = {0};
    bool ok = s->embedded || settings_read_dsn(s, &dsn, err);

    buf_free(&dsn);
    return ok;
}

static void print(void (*put)(const struct settings *, struct buf *), const struct settings *s)
{
    struct buf out = {0};

    put(s, &out);
    fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
}

static void put_help(const struct settings *s, struct buf *out)
{
    (void)s;
    settings_put_help(out);
}

enum settings_result settings_load(struct settings *s, int argc, char **argv, struct buf *err)
{
    enum action action = ACTION_RUN;

    if (!load_all(s, argc, argv, &action, err))
        return SETTINGS_BAD_CONFIG;
    switch (action) {
    case ACTION_RUN:
        return SETTINGS_RUN;
    case ACTION_CHECK:
        if (!check_only(s, err))
            return SETTINGS_BAD_CONFIG;
        puts("the configuration is valid");
        break;
    case ACTION_SHOW:
        print(settings_put_values, s);
        break;
    case ACTION_HELP:
        print(put_help, s);
        break;
    case ACTION_VERSION:
        puts("pglockd " PACKAGE_VERSION);
        break;
    }
    fflush(stdout);
    return SETTINGS_EXIT_OK;
}

/* Which rows must stay as they are for this process is in their table row. */
static void swap_fixed_rows(struct settings *a, struct settings *b)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        if (!settings_table[i].reloadable) {
            struct settings_source source = a->origin->source[i];

            setting_swap(a, b, i);
            a->origin->source[i] = b->origin->source[i];
            b->origin->source[i] = source;
        }
    }
}

static void put_restart_notes(const struct settings *live, const struct settings *fresh,
                              struct buf *out)
{
    const char *comma = "";

    for (int i = 0; i < SETTINGS_COUNT; i++) {
        if (!settings_table[i].reloadable && !setting_same(live, fresh, i)) {
            buf_printf(out, "%s%s", comma, settings_table[i].name);
            comma = ", ";
        }
    }
    if (*comma)
        buf_puts(out, " changed: restart pglockd for that");
}

bool settings_reload(struct settings *s, struct buf *err)
{
    enum action action = ACTION_RUN;
    struct buf notes = {0};
    struct settings fresh;
    bool ok = load_all(&fresh, s->origin->argc, s->origin->argv, &action, err);

    if (ok) {
        put_restart_notes(s, &fresh, &notes);
        swap_fixed_rows(s, &fresh); /* fresh is now what would be in force */
        ok = check_relations(&fresh, err);
        if (ok) {
            struct settings old = *s;

            *s = fresh;
            fresh = old;
            buf_put(err, notes.data, notes.len);
        } else {
            swap_fixed_rows(s, &fresh);
        }
    }
    buf_free(&notes);
    settings_free(&fresh);
    return ok;
}

void settings_free(struct settings *s)
{
    for (int i = 0; i < SETTINGS_COUNT; i++)
        setting_clear(s, i);
    free(s->origin);
    s->origin = NULL;
}

static bool read_first_line(const char *path, struct buf *out, struct buf *err)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    if (!file) {
        buf_printf(err, "cannot open dsn_file %s: %s", path, strerror(errno));
        return false;
    }
    errno = 0;
    n = getline(&line, &cap, file);
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        n--;
    if (n > 0 && memchr(line, '\0', (size_t)n))
        buf_printf(err, "the first line of dsn_file %s contains a NUL byte", path);
    else if (n > 0)
        buf_put(out, line, (size_t)n);
    else if (ferror(file))
        buf_printf(err, "cannot read dsn_file %s: %s", path, strerror(errno));
    else
        buf_printf(err, "the first line of dsn_file %s is empty: write the connection string there",
                   path);
    free(line);
    fclose(file);
    return n > 0 && err->len == 0;
}

bool settings_read_dsn(const struct settings *s, struct buf *out, struct buf *err)
{
    if (s->dsn_file)
        return read_first_line(s->dsn_file, out, err);
    if (!s->dsn) {
        buf_puts(err, "no dsn or dsn_file is set");
        return false;
    }
    buf_puts(out, s->dsn);
    return true;
}
