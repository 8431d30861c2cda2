#include "config/internal.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "wire/address.h"
#include "wire/conninfo.h"
#include "wire/duration.h"
#include "wire/prefix.h"
#include "wire/right.h"

/* The field of a row: one of these by its kind. */
union field {
    char *string;
    struct setting_list list;
    int64_t duration_ms;
    size_t size;
    int choice;
};

static void *field_of(const struct settings *s, int i)
{
    return (char *)(uintptr_t)s + settings_table[i].offset;
}

static bool is_string(enum setting_kind kind)
{
    return kind == SETTING_STRING || kind == SETTING_CONNINFO || kind == SETTING_HTTP;
}

static bool is_list(enum setting_kind kind)
{
    return kind == SETTING_LISTEN || kind == SETTING_NAMES || kind == SETTING_PREFIXES ||
           kind == SETTING_PEERS;
}

static size_t field_size(enum setting_kind kind)
{
    if (is_string(kind))
        return sizeof(char *);
    if (is_list(kind))
        return sizeof(struct setting_list);
    if (kind == SETTING_DURATION)
        return sizeof(int64_t);
    return kind == SETTING_SIZE ? sizeof(size_t) : sizeof(int);
}

void setting_swap(struct settings *a, struct settings *b, int i)
{
    size_t size = field_size(settings_table[i].kind);
    union field tmp;

    memcpy(&tmp, field_of(a, i), size);
    memcpy(field_of(a, i), field_of(b, i), size);
    memcpy(field_of(b, i), &tmp, size);
}

static void clear_list(struct setting_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct setting_list){0};
}

void setting_clear(struct settings *s, int i)
{
    enum setting_kind kind = settings_table[i].kind;

    if (is_list(kind))
        clear_list(field_of(s, i));
    else if (is_string(kind))
        free(*(char **)field_of(s, i));
    memset(field_of(s, i), 0, field_size(kind));
}

/* From text: each of these says in why what is wrong, or returns true. */

static bool has_control(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    }
    return false;
}

static bool in_bounds(const struct setting *row, int64_t value, const char *what, struct buf *why)
{
    if (value >= row->min && value <= row->max)
        return true;
    buf_printf(why, "%s must be ", what);
    settings_put_range(row, why);
    return false;
}

static bool parse_duration(const struct setting *row, const char *text, int64_t *out,
                           struct buf *why)
{
    const char *error = duration_parse(str_of(text), 0, out);

    if (error)
        buf_puts(why, error);
    return !error && in_bounds(row, *out, "it", why);
}

static bool parse_size(const struct setting *row, const char *text, size_t *out, struct buf *why)
{
    int64_t value = 0;

    for (const char *p = text; *p || p == text; p++) {
        if (*p < '0' || *p > '9') {
            buf_puts(why, "it must be a whole number ");
            settings_put_range(row, why);
            return false;
        }
        if (value <= row->max) /* past it the exact value does not matter */
            value = value * 10 + (*p - '0');
    }
    *out = (size_t)value;
    return in_bounds(row, value, "it", why);
}

static bool parse_choice(const struct setting *row, const char *text, int *out, struct buf *why)
{
    const char *words = row->value;
    size_t n = strlen(text);

    *out = 0;
    for (const char *word = words;; (*out)++) {
        size_t len = strcspn(word, "|");

        if (len == n && memcmp(word, text, n) == 0)
            return true;
        if (word[len] == '\0')
            break;
        word += len + 1;
    }
    buf_printf(why, "it must be one of %s", words);
    return false;
}

static bool check_address(const char *text, bool may_be_unix, struct buf *why)
{
    struct address address;
    const char *error = address_parse(str_of(text), &address);

    if (!error && address.is_unix && !may_be_unix)
        error = "HTTP is served on HOST:PORT only";
    if (error)
        buf_puts(why, error);
    return !error;
}

static bool parse_string(const struct setting *row, const char *text, char **out, struct buf *why)
{
    if (!in_bounds(row, (int64_t)strlen(text), "its length in bytes", why))
        return false;
    if (row->kind == SETTING_HTTP && strcmp(text, "off") == 0)
        return true;
    if (row->kind == SETTING_HTTP && !check_address(text, false, why))
        return false;
    *out = xstrdup(text);
    return true;
}

static bool check_name(const char *text, struct buf *why)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    if (text[strspn(text, allowed)] == '\0')
        return true;
    buf_puts(why, "a host name has only letters, digits, \".\", \"-\" and \"_\", and no port");
    return false;
}

static bool check_prefix(const char *text, struct buf *why)
{
    struct str prefix;
    int64_t ms;
    const char *error = prefix_duration_parse(str_of(text), &prefix, &ms);

    if (!error && ms > SETTINGS_HOUR)
        error = "it is more than 1h";
    if (error)
        buf_puts(why, error);
    return !error;
}

static bool check_peer(const char *text, struct buf *why)
{
    const char *colon = strchr(text, ':');
    const char *wrong = colon && colon > text ? identity_name_check(str_of(colon + 1))
                                              : "an item is USER:NAME, such as build:ci or 1000:ci";

    if (wrong)
        buf_puts(why, wrong);
    return wrong == NULL;
}

static bool check_item(enum setting_kind kind, const char *item, struct buf *why)
{
    if (kind == SETTING_LISTEN)
        return check_address(item, true, why);
    if (kind == SETTING_PREFIXES)
        return check_prefix(item, why);
    return kind == SETTING_NAMES ? check_name(item, why) : check_peer(item, why);
}

static bool add_item(const struct setting *row, struct str word, struct setting_list *list,
                     struct buf *why)
{
    char *item = xstrndup(word.p, word.n);

    if (!check_item(row->kind, item, why)) {
        free(item);
        return false;
    }
    list->items = xrealloc(list->items, (list->n + 1) * sizeof(char *));
    list->items[list->n++] = item;
    return true;
}

/* Items are parted by commas; spaces around them do not count. An empty text is an empty list. */
static bool parse_list(const struct setting *row, const char *text, struct setting_list *list,
                       struct buf *why)
{
    for (const char *p = text; *text;) {
        size_t end = strcspn(p, ",");
        size_t start = strspn(p, " ");
        size_t n = end;

        while (n > start && p[n - 1] == ' ')
            n--;
        if (start >= n) {
            buf_puts(why, "an item of the list is empty");
            return false;
        }
        if (!add_item(row, (struct str){p + start, n - start}, list, why))
            return false;
        if (p[end] == '\0')
            break;
        p += end + 1;
    }
    return in_bounds(row, (int64_t)list->n, "the number of its items", why);
}

bool setting_parse(struct settings *s, int i, const char *text, bool append, struct buf *why)
{
    const struct setting *row = &settings_table[i];
    void *field = field_of(s, i);

    if (!append)
        setting_clear(s, i);
    if (has_control(text)) {
        buf_puts(why, "it contains a control character");
        return false;
    }
    switch (row->kind) {
    case SETTING_STRING:
    case SETTING_CONNINFO:
    case SETTING_HTTP:
        return parse_string(row, text, field, why);
    case SETTING_LISTEN:
    case SETTING_NAMES:
    case SETTING_PREFIXES:
    case SETTING_PEERS:
        return parse_list(row, text, field, why);
    case SETTING_DURATION:
        return parse_duration(row, text, field, why);
    case SETTING_SIZE:
        return parse_size(row, text, field, why);
    case SETTING_CHOICE:
        return parse_choice(row, text, field, why);
    }
    return false;
}

static void format_list(const struct setting_list *list, struct buf *out)
{
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            buf_putc(out, ',');
        buf_puts(out, list->items[i]);
    }
}

static void format_choice(const char *words, int choice, struct buf *out)
{
    for (; choice > 0; choice--)
        words += strcspn(words, "|") + 1;
    buf_put(out, words, strcspn(words, "|"));
}

static void format_string(enum setting_kind kind, const char *text, struct buf *out)
{
    if (!text && kind == SETTING_HTTP)
        buf_puts(out, "off");
    else if (text && kind == SETTING_CONNINFO)
        conninfo_redact(str_of(text), out);
    else if (text)
        buf_puts(out, text);
}

void setting_format(const struct settings *s, int i, struct buf *out)
{
    const struct setting *row = &settings_table[i];
    const void *field = field_of(s, i);
    char duration[24];

    switch (row->kind) {
    case SETTING_STRING:
    case SETTING_CONNINFO:
    case SETTING_HTTP:
        format_string(row->kind, *(char *const *)field, out);
        break;
    case SETTING_LISTEN:
    case SETTING_NAMES:
    case SETTING_PREFIXES:
    case SETTING_PEERS:
        format_list(field, out);
        break;
    case SETTING_DURATION:
        buf_puts(out, duration_format(*(const int64_t *)field, duration));
        break;
    case SETTING_SIZE:
        buf_put_int(out, (int64_t) * (const size_t *)field);
        break;
    case SETTING_CHOICE:
        format_choice(row->value, *(const int *)field, out);
        break;
    }
}

static bool same_string(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool setting_same(const struct settings *a, const struct settings *b, int i)
{
    enum setting_kind kind = settings_table[i].kind;
    const struct setting_list *la = field_of(a, i), *lb = field_of(b, i);

    if (is_string(kind))
        return same_string(*(char **)field_of(a, i), *(char **)field_of(b, i));
    if (!is_list(kind))
        return memcmp(field_of(a, i), field_of(b, i), field_size(kind)) == 0;
    for (size_t k = 0; k < la->n && la->n == lb->n; k++) {
        if (strcmp(la->items[k], lb->items[k]) != 0)
            return false;
    }
    return la->n == lb->n;
}
