#include "pglockctl/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "wire/duration.h"

struct parser {
    char **argv;
    int argc;
    int at; /* the next element to look at */
    const struct opt *const *tables;
    const size_t *sizes;
    size_t ntables;
    struct buf *err;
};

static const struct opt *find(const struct parser *p, char letter, const char *name, size_t len)
{
    for (size_t t = 0; t < p->ntables; t++)
        for (size_t i = 0; i < p->sizes[t]; i++) {
            const struct opt *o = &p->tables[t][i];
            if (name ? strlen(o->name) == len && memcmp(o->name, name, len) == 0
                     : o->letter == letter)
                return o;
        }
    return NULL;
}

static bool store_number(const struct opt *o, const char *value, struct buf *err)
{
    char *end;
    errno = 0;
    int64_t n = strtoll(value, &end, 10);
    if (end == value || *end || errno || n < o->min || n > o->max) {
        buf_printf(err, "--%s takes a number from %" PRId64 " to %" PRId64 ", not \"%s\"", o->name,
                   o->min, o->max, value);
        return false;
    }
    *(int64_t *)o->into = n;
    return true;
}

static bool store_duration(const struct opt *o, const char *value, struct buf *err)
{
    char low[24], high[24];
    int64_t ms;
    const char *problem = duration_parse(str_of(value), o->max == DURATION_INF, &ms);
    if (problem) {
        buf_printf(err, "--%s %s: %s", o->name, value, problem);
        return false;
    }
    if (ms < o->min || ms > o->max) {
        buf_printf(err, "--%s is from %s to %s, not %s", o->name, duration_format(o->min, low),
                   duration_format(o->max, high), value);
        return false;
    }
    *(int64_t *)o->into = ms;
    return true;
}

static bool store_item(const struct opt *o, const char *value, struct buf *err)
{
    if (*o->count >= (size_t)o->max) {
        buf_printf(err, "--%s is given more than %" PRId64 " times", o->name, o->max);
        return false;
    }
    ((const char **)o->into)[(*o->count)++] = value;
    return true;
}

static bool store(const struct opt *o, const char *value, struct buf *err)
{
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->into = true;
        return true;
    case OPT_STRING:
        *(const char **)o->into = value;
        return true;
    case OPT_LIST:
        return store_item(o, value, err);
    case OPT_NUMBER:
        return store_number(o, value, err);
    case OPT_DURATION:
        return store_duration(o, value, err);
    }
    return false;
}

/* The value behind the option in its own word, or else the next word. */
static bool take_value(struct parser *p, const struct opt *o, const char *attached)
{
    if (!attached && p->at < p->argc)
        attached = p->argv[p->at++];
    if (attached)
        return store(o, attached, p->err);
    buf_printf(p->err, "--%s needs a value: %s", o->name, o->value);
    return false;
}

static bool parse_long(struct parser *p, const char *name)
{
    size_t len = strcspn(name, "=");
    const char *attached = name[len] ? name + len + 1 : NULL;
    const struct opt *o = find(p, 0, name, len);

    if (!o) {
        buf_printf(p->err, "there is no option --%.*s", (int)len, name);
        return false;
    }
    if (o->kind != OPT_FLAG)
        return take_value(p, o, attached);
    if (attached) {
        buf_printf(p->err, "--%s takes no value", o->name);
        return false;
    }
    return store(o, NULL, p->err);
}

static bool parse_letters(struct parser *p, const char *letters)
{
    for (; *letters; letters++) {
        const struct opt *o = find(p, *letters, NULL, 0);
        if (!o) {
            buf_printf(p->err, "there is no option -%c", *letters);
            return false;
        }
        if (o->kind != OPT_FLAG)
            return take_value(p, o, letters[1] ? letters + 1 : NULL);
        store(o, NULL, p->err);
    }
    return true;
}

bool opt_parse(int argc, char **argv, bool stop_at_word, const struct opt *const *tables,
               const size_t *sizes, size_t ntables, struct opt_words *words, struct buf *err)
{
    struct parser p = {argv, argc, 0, tables, sizes, ntables, err};

    *words = (struct opt_words){.words = argv};
    while (p.at < argc) {
        char *word = argv[p.at];
        if (word[0] != '-' || word[1] == '\0') {
            if (stop_at_word)
                break;
            argv[words->nwords++] = word;
            p.at++;
            continue;
        }
        p.at++;
        if (strcmp(word, "--") == 0) {
            words->dashes = true;
            words->rest = argv + p.at;
            words->nrest = (size_t)(argc - p.at);
            return true;
        }
        if (word[1] == '-' ? !parse_long(&p, word + 2) : !parse_letters(&p, word + 1))
            return false;
    }
    if (stop_at_word) {
        words->words = argv + p.at;
        words->nwords = (size_t)(argc - p.at);
    }
    return true;
}

void opt_put_help(struct buf *out, const struct opt *table, size_t n)
{
    enum { HELP_COLUMN = 26 };
    for (size_t i = 0; i < n; i++) {
        const struct opt *o = &table[i];
        size_t start = out->len;

        if (o->letter)
            buf_printf(out, "  -%c, ", o->letter);
        else
            buf_puts(out, "      ");
        buf_printf(out, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        do
            buf_putc(out, ' ');
        while (out->len - start < HELP_COLUMN);
        buf_printf(out, "%s\n", o->help);
    }
}
