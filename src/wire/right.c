#include "wire/right.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "wire/resource.h"
#include "wire/utf8.h"

static const char *const names[RIGHT_COUNT] = {
#define X(id, name) [RIGHT_##id] = name,
    RIGHTS(X)
#undef X
};

const char *right_name(enum right right)
{
    return names[right];
}

/* --- the grammar --- */

/* Whatever the locale says. */
static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

const char *identity_name_check(struct str s)
{
    static const char wrong[] = "a name is 1 to 128 of A-Z a-z 0-9 _ . @ : / + -";
    if (s.n == 0 || s.n > IDENTITY_NAME_MAX)
        return wrong;
    for (size_t i = 0; i < s.n; i++)
        if (!is_letter_or_digit(s.p[i]) && !memchr("_.@:/+-", s.p[i], 7))
            return wrong;
    return NULL;
}

static bool find_right(struct str name, enum right *right)
{
    for (int i = 0; i < RIGHT_COUNT; i++)
        if (str_is(name, names[i])) {
            *right = (enum right)i;
            return true;
        }
    return false;
}

static bool is_mark(char c)
{
    return c >= ' ' && c < 0x7f && !is_letter_or_digit(c);
}

static bool is_everything(struct str pattern)
{
    return str_is(pattern, "*");
}

static bool is_prefix(struct str pattern)
{
    return pattern.n > 0 && pattern.p[pattern.n - 1] == '*';
}

/* What comes before the star. */
static struct str stem_of(struct str pattern)
{
    return (struct str){pattern.p, pattern.n - 1};
}

static const char *check_key_pattern(struct str pattern)
{
    struct str stem = is_prefix(pattern) ? stem_of(pattern) : pattern;
    if (!utf8_valid(stem))
        return "a pattern is UTF-8";
    for (size_t i = 0; i < stem.n; i++)
        if ((unsigned char)stem.p[i] < 0x20 || stem.p[i] == 0x7f)
            return "a pattern has no control character";
    if (is_prefix(pattern) && !is_mark(stem.p[stem.n - 1]))
        return "before the * of a rate pattern stands a / or another punctuation mark: rate:api/*, "
               "rate:user:*";
    return NULL;
}

static const char *check_resource_pattern(struct str pattern)
{
    if (!is_prefix(pattern))
        return resource_check(pattern);
    struct str stem = stem_of(pattern);
    if (stem.p[stem.n - 1] != '/')
        return "before the * of a pattern stands a /: lock:repo/*, never lock:repo*";
    return resource_check((struct str){stem.p, stem.n - 1});
}

const char *right_parse(struct str text, enum right *right, struct str *pattern)
{
    const char *colon = text.n > 0 ? memchr(text.p, ':', text.n) : NULL;
    struct str name = {text.p, colon ? (size_t)(colon - text.p) : text.n};
    if (!find_right(name, right))
        return "a right is VERB:PATTERN, such as lock:repo/*, and VERB is one of lock, rate, read, "
               "watch, force and admin";
    *pattern = colon ? (struct str){colon + 1, text.n - name.n - 1} : (struct str){0};
    if (pattern->n == 0 || pattern->n > PATTERN_BYTES_MAX)
        return "a pattern follows the verb, of at most 514 bytes: lock:repo/*, or lock:* for "
               "everything";
    if (is_everything(*pattern))
        return NULL;
    const char *star = memchr(pattern->p, '*', pattern->n);
    if (star && star != pattern->p + pattern->n - 1)
        return "a * stands at the end of a pattern only";
    return *right == RIGHT_RATE ? check_key_pattern(*pattern) : check_resource_pattern(*pattern);
}

/* --- what a pattern covers --- */

static bool starts_with(struct str s, struct str stem)
{
    return s.n >= stem.n && (stem.n == 0 || memcmp(s.p, stem.p, stem.n) == 0);
}

static bool covers_name(struct str pattern, struct str name)
{
    if (!is_prefix(pattern))
        return str_eq(pattern, name);
    return is_everything(pattern) || (name.n >= pattern.n && starts_with(name, stem_of(pattern)));
}

/* All beneath name: its names begin with the name and a slash. */
static bool covers_beneath(struct str pattern, struct str name)
{
    if (!is_prefix(pattern) || is_everything(pattern))
        return is_everything(pattern);
    struct str stem = stem_of(pattern);
    bool itself = stem.n == name.n + 1 && stem.p[name.n] == '/';
    return starts_with(itself ? stem : name, itself ? name : stem);
}

static bool covers_pattern(struct str a, struct str b)
{
    if (!is_prefix(b))
        return covers_name(a, b);
    return is_everything(a) || (is_prefix(a) && starts_with(stem_of(b), stem_of(a)));
}

/* --- sets --- */

static void add(struct right_patterns *list, struct str pattern)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->n; i++)
        if (covers_pattern(list->items[i], pattern))
            return;
    for (size_t i = 0; i < list->n; i++) {
        if (covers_pattern(pattern, list->items[i]))
            free((char *)list->items[i].p);
        else
            list->items[kept++] = list->items[i];
    }
    list->items = xrealloc(list->items, (kept + 1) * sizeof(*list->items));
    list->items[kept] = (struct str){xstrndup(pattern.p, pattern.n), pattern.n};
    list->n = kept + 1;
}

void right_set_add(struct right_set *set, enum right right, struct str pattern)
{
    for (int i = 0; i < RIGHT_COUNT; i++)
        if (right == RIGHT_ADMIN || i == (int)right)
            add(&set->of[i], pattern);
}

void right_set_free(struct right_set *set)
{
    for (int i = 0; i < RIGHT_COUNT; i++) {
        for (size_t k = 0; k < set->of[i].n; k++)
            free((char *)set->of[i].items[k].p);
        free(set->of[i].items);
    }
    *set = (struct right_set){0};
}

bool right_set_has(const struct right_set *set, enum right right)
{
    return set->of[right].n > 0;
}

bool right_set_covers(const struct right_set *set, enum right right, struct str name, bool tree)
{
    const struct right_patterns *list = &set->of[right];
    bool node = false, beneath = !tree;
    for (size_t i = 0; i < list->n && !(node && beneath); i++) {
        node = node || covers_name(list->items[i], name);
        beneath = beneath || covers_beneath(list->items[i], name);
    }
    return node && beneath;
}

/* --- ranges --- */

struct ranges {
    right_range_fn *fn;
    void *arg;
};

/* No name has a control character, so \x01 ends a range of one. */
static void range_of_name(const struct ranges *r, struct str name)
{
    char high[PATTERN_BYTES_MAX + 1];
    memcpy(high, name.p, name.n);
    high[name.n] = '\x01';
    r->fn(r->arg, name, (struct str){high, name.n + 1});
}

/* '0' is the byte after '/', by which a stem of a resource ends. */
static void range_of_stem(const struct ranges *r, struct str stem)
{
    char high[PATTERN_BYTES_MAX + 1];
    memcpy(high, stem.p, stem.n);
    high[stem.n - 1]++;
    r->fn(r->arg, stem, (struct str){high, stem.n});
}

static void range_of_tree(const struct ranges *r, struct str name)
{
    char stem[PATTERN_BYTES_MAX + 1];
    range_of_name(r, name);
    memcpy(stem, name.p, name.n);
    stem[name.n] = '/';
    range_of_stem(r, (struct str){stem, name.n + 1});
}

/* What the pattern covers at and beneath prefix. */
static void narrow(const struct ranges *r, struct str pattern, struct str prefix)
{
    if (covers_name(pattern, prefix) && covers_beneath(pattern, prefix))
        range_of_tree(r, prefix);
    else if (!is_prefix(pattern) && resource_covers(prefix, pattern))
        range_of_name(r, pattern);
    else if (is_prefix(pattern) && resource_covers(prefix, (struct str){pattern.p, pattern.n - 2}))
        range_of_stem(r, stem_of(pattern));
}

void right_all_ranges(struct str prefix, right_range_fn *fn, void *arg)
{
    const struct ranges r = {fn, arg};
    if (prefix.p)
        range_of_tree(&r, prefix);
    else
        fn(arg, STR_LIT(""), (struct str){0});
}

void right_set_ranges(const struct right_set *set, enum right right, struct str prefix,
                      right_range_fn *fn, void *arg)
{
    const struct ranges r = {fn, arg};
    for (size_t i = 0; i < set->of[right].n; i++) {
        struct str pattern = set->of[right].items[i];
        if (is_everything(pattern))
            right_all_ranges(prefix, fn, arg);
        else if (prefix.p)
            narrow(&r, pattern, prefix);
        else if (is_prefix(pattern))
            range_of_stem(&r, stem_of(pattern));
        else
            range_of_name(&r, pattern);
    }
}
