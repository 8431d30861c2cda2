#include "config/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/xalloc.h"
#include "config.h"
#include "wire/address.h"

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

/* May other machines reach it, and read there what they should not? */
static bool is_exposed(const struct settings *s, const char *text)
{
    struct address address;

    return address_parse(str_of(text), &address) == NULL && !address_is_local(&address) &&
           !(s->auth && address.tls);
}

/* The row with such an address, and the address; -1: there is none. */
static int exposed_row(const struct settings *s, const char **address)
{
    for (size_t i = 0; i < s->listen.n; i++) {
        if (is_exposed(s, s->listen.items[i])) {
            *address = s->listen.items[i];
            return SETTING_INDEX_listen;
        }
    }
    *address = s->http;
    return s->http && is_exposed(s, s->http) ? SETTING_INDEX_http : -1;
}

/* Nothing is open to a network by accident: who wants that says so by name. */
static bool check_exposure(const struct settings *s, struct buf *err)
{
    const char *address;
    int row = exposed_row(s, &address);
    bool wanted = s->auth ? s->plaintext_auth : s->auth_off_on_network;

    if (row < 0 || wanted)
        return true;
    setting_put_source(s, row, err);
    buf_printf(err, ": %s is %s, which other machines may reach, ", settings_table[row].name,
               log_quote(str_of(address)));
    buf_puts(err, s->auth ? "and keys would go there unencrypted: put tls:// before it, keep to "
                            "loopback and Unix sockets, or set plaintext_auth = yes"
                          : "and auth is off: set auth = on, keep to loopback and Unix sockets, or "
                            "set auth_off_on_network = yes to serve everybody who gets there");
    return false;
}

static bool is_tls(const char *text)
{
    struct address address;

    return text && address_parse(str_of(text), &address) == NULL && address.tls;
}

bool settings_want_tls(const struct settings *s)
{
    bool found = is_tls(s->http);

    for (size_t i = 0; i < s->listen.n; i++)
        found = found || is_tls(s->listen.items[i]);
    return found;
}

static bool check_tls(const struct settings *s, struct buf *err)
{
    if (settings_want_tls(s) && (!s->tls_cert || !s->tls_key))
        buf_puts(err, "an address with tls:// needs a certificate and its key: set tls_cert and "
                      "tls_key");
    else if (s->tls_client_cert == SETTINGS_TLS_CLIENT_REQUIRED && !s->tls_client_ca)
        buf_puts(err, "tls_client_cert = required needs the CAs of the clients: set tls_client_ca");
    return err->len == 0;
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
                           (int64_t)s->max_input, err) &&
           check_exposure(s, err) && check_tls(s, err);
}

/* Which database: the strongest source that names one decides, and it must name one only. */
static bool choose_database(struct settings *s, struct buf *err)
{
    static const int rows[] = {SETTING_INDEX_dsn, SETTING_INDEX_dsn_file, SETTING_INDEX_embedded};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    enum settings_level top = LEVEL_DEFAULT;
    int chosen = -1;

    for (int k = 0; k < ROWS; k++) {
        if (setting_level(s, rows[k]) > top)
            top = setting_level(s, rows[k]);
    }
    for (int k = 0; k < ROWS; k++) {
        int i = rows[k];

        if (setting_level(s, i) < top) {
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
    if (setting_level(s, SETTING_INDEX_migrate) == LEVEL_DEFAULT)
        s->migrate = s->embedded ? SETTINGS_MIGRATE_AUTO : SETTINGS_MIGRATE_CHECK;
}

/* Fills *s from all sources, except where *action says that it will not be needed. */
static bool load_all(struct settings *s, int argc, char **argv, enum action *action,
                     struct buf *err)
{
    *s = (struct settings){.origin = xcalloc(1, sizeof(struct settings_origin))};
    s->origin->argc = argc;
    s->origin->argv = argv;
    sources_defaults(s);
    if (!sources_config_path(s, action, err))
        return false;
    if (*action >= ACTION_HELP)
        return true;
    if (!sources_file(s, err) || !sources_environment(s, err) || !sources_options(s, action, err) ||
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

/* Exchanges the settings that are not reloadable, with their sources. */
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

const char *settings_exposed(const struct settings *s)
{
    const char *address;

    return exposed_row(s, &address) < 0 ? NULL : address;
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
