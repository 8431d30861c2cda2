#include "config/internal.h"

#include <inttypes.h>

#include "wire/duration.h"

void setting_put_source(const struct settings *s, int i, struct buf *out)
{
    const struct settings_source *source = &s->origin->source[i];
    const char *name = settings_table[i].name;

    switch (source->level) {
    case LEVEL_DEFAULT:
        buf_puts(out, "default");
        break;
    case LEVEL_FILE:
        buf_printf(out, "%s:%zu", s->config, source->line);
        break;
    case LEVEL_ENVIRONMENT:
        buf_puts(out, "environment PGLOCKD_");
        for (; *name; name++)
            buf_putc(out, (char)(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name));
        break;
    case LEVEL_OPTION:
        buf_printf(out, "option --%s", name);
        break;
    }
}

void settings_put_range(const struct setting *row, struct buf *out)
{
    char min[24], max[24];

    if (row->kind == SETTING_DURATION)
        buf_printf(out, "from %s to %s", duration_format(row->min, min),
                   duration_format(row->max, max));
    else
        buf_printf(out, "from %" PRId64 " to %" PRId64, row->min, row->max);
}

/* Words of text in lines of at most 80 columns, each indented. */
static void put_wrapped(const char *text, struct buf *out)
{
    static const char indent[] = "        ";
    size_t column = 0;

    while (*text) {
        size_t n = strcspn(text, " ");

        if (column > 0 && column + 1 + n > 80) {
            buf_putc(out, '\n');
            column = 0;
        }
        buf_puts(out, column == 0 ? indent : " ");
        column += (column == 0 ? sizeof(indent) - 1 : 1) + n;
        buf_put(out, text, n);
        text += n + (text[n] == ' ');
    }
    buf_putc(out, '\n');
}

static void put_help_row(const struct setting *row, struct buf *out)
{
    struct buf text = {0};

    buf_printf(out, "\n  --%s %s\n", row->name, row->value);
    buf_puts(&text, row->help);
    if (row->default_text && *row->default_text)
        buf_printf(&text, " Default: %s.", row->default_text);
    if (row->kind == SETTING_DURATION || row->kind == SETTING_SIZE) {
        buf_puts(&text, " Accepted: ");
        settings_put_range(row, &text);
        buf_putc(&text, '.');
    }
    if (row->reloadable)
        buf_puts(&text, " Reloadable.");
    put_wrapped(buf_cstr(&text), out);
    buf_free(&text);
}

void settings_put_help(struct buf *out)
{
    buf_puts(out, "Usage: pglockd --embedded DIR [--SETTING VALUE]...\n"
                  "       pglockd --dsn CONNINFO | --dsn_file PATH [--SETTING VALUE]...\n"
                  "       pglockd --help | --version | --check-config | --show-config\n"
                  "\n"
                  "Serves locks with leases and fencing tokens, kept in PostgreSQL.\n"
                  "\n"
                  "  --help          print this\n"
                  "  --version       print the version\n"
                  "  --check-config  exit 0 where the configuration is valid, else 78\n"
                  "  --show-config   print each setting's value, source and default\n"
                  "\n"
                  "Settings. Each may also stand in the configuration file (name = value under\n"
                  "[pglockd]) and in the environment (PGLOCKD_NAME). The command line wins over\n"
                  "the environment, the environment over the file. A list is parted by commas or\n"
                  "given several times. Reloadable settings are read again on SIGHUP.\n");
    for (int i = 0; i < SETTINGS_COUNT; i++)
        put_help_row(&settings_table[i], out);
}

static void put_value_row(const struct settings *s, int i, struct buf *out)
{
    const char *default_text = settings_table[i].default_text;
    size_t start = out->len;

    buf_printf(out, "%s = ", settings_table[i].name);
    setting_format(s, i, out);
    do
        buf_putc(out, ' ');
    while (out->len - start < 40);
    buf_puts(out, "# ");
    setting_put_source(s, i, out);
    if (s->origin->source[i].level != LEVEL_DEFAULT && default_text)
        buf_printf(out, ", default %s", *default_text ? default_text : "is empty");
    buf_putc(out, '\n');
}

void settings_put_values(const struct settings *s, struct buf *out)
{
    for (int i = 0; i < SETTINGS_COUNT; i++)
        put_value_row(s, i, out);
}
