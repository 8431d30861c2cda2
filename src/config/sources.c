#include "config/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "config/file.h"
#include "wire/conninfo.h"

static const struct {
    const char *word;
    enum action action;
} actions[] = {
    {"--check-config", ACTION_CHECK}, {"--show-config", ACTION_SHOW},
    {"--help", ACTION_HELP},          {"-h", ACTION_HELP},
    {"--version", ACTION_VERSION},    {"-V", ACTION_VERSION},
};

/* -1 when there is none. With fold_dashes "-" stands for "_". */
static int setting_find(struct str name, bool fold_dashes)
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

static bool is_list(int i)
{
    enum setting_kind kind = settings_table[i].kind;

    return kind == SETTING_LISTEN || kind == SETTING_NAMES || kind == SETTING_PREFIXES ||
           kind == SETTING_PEERS;
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
    bool append = is_list(i) && setting_level(s, i) == source.level;
    struct buf why = {0};
    bool ok;

    s->origin->source[i] = source;
    ok = setting_parse(s, i, text, append, &why);
    if (!ok)
        put_bad_value(s, i, text, buf_str(&why), err);
    buf_free(&why);
    return ok;
}

void sources_defaults(struct settings *s)
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
    else if (!is_list(i) && setting_level(c->s, i) == LEVEL_FILE)
        why = "it is set a second time: keep one of the lines";
    if (!why)
        return assign(c->s, i, value, (struct settings_source){LEVEL_FILE, line}, c->err);
    buf_printf(c->err, "%s:%zu: %s: %s", c->path, line, log_quote(str_of(key)), why);
    return false;
}

bool sources_file(struct settings *s, struct buf *err)
{
    struct file_context c = {s, s->config, err};
    bool missing;

    if (settings_file_read(s->config, assign_from_file, &c, &missing, err))
        return true;
    if (!missing || setting_level(s, SETTING_INDEX_config) != LEVEL_DEFAULT)
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

bool sources_environment(struct settings *s, struct buf *err)
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

/* Walks the command line and takes either config or all but config from it. */
static bool walk_options(struct settings *s, bool only_config, enum action *action, struct buf *err)
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

bool sources_config_path(struct settings *s, enum action *action, struct buf *err)
{
    const char *path = environment_value(SETTING_INDEX_config);

    if (path &&
        !assign(s, SETTING_INDEX_config, path, (struct settings_source){LEVEL_ENVIRONMENT, 0}, err))
        return false;
    return walk_options(s, true, action, err);
}

bool sources_options(struct settings *s, enum action *action, struct buf *err)
{
    return walk_options(s, false, action, err);
}
