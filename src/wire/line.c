#include "wire/line.h"

#include <stdint.h>

#include "base/codepoint.h"

/* What is left of the line. Decoding a quoted word writes only to bytes already read. */
struct cursor {
    char *p;
    char *end;
};

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_tag_char(char c)
{
    return is_letter(c) || is_digit(c) || c == '_' || c == '.' || c == '-';
}

static void skip_spaces(struct cursor *c)
{
    while (c->p < c->end && *c->p == ' ')
        c->p++;
}

static bool at_word_end(const struct cursor *c)
{
    return c->p == c->end || *c->p == ' ';
}

/* Whatever else is wrong with a line, its tag comes first, so that the reply can carry it. */
static const char *read_tag(struct cursor *c, struct str *tag)
{
    char *start = ++c->p; /* past the "@" */

    while (c->p < c->end && is_tag_char(*c->p))
        c->p++;
    if (!at_word_end(c) || c->p == start || c->p - start > WIRE_TAG_MAX)
        return "a tag is \"@\" and 1 to 32 of A-Z a-z 0-9 _ . -";
    *tag = (struct str){start, (size_t)(c->p - start)};
    return NULL;
}

static const char *check_bytes(const struct cursor *c)
{
    uint32_t cp;

    for (const char *p = c->p; p < c->end;) {
        size_t len = codepoint_decode(p, (size_t)(c->end - p), &cp);

        if (len == 0)
            return "the line is not valid UTF-8";
        if (cp == 0)
            return "the line contains a NUL byte, which is not accepted in any form";
        if (cp == '\t')
            return "the line contains a tab: part words by spaces, and write \\t inside of quotes";
        if (cp < 0x20)
            return "the line contains a control character: write it as \\u00XX inside of quotes";
        p += len;
    }
    return NULL;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits of \uXXXX, or -1. */
static int32_t read_hex4(struct cursor *c)
{
    int32_t value = 0;

    if (c->end - c->p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(c->p[i]);

        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    c->p += 4;
    return value;
}

static const char *read_unicode_escape(struct cursor *c, uint32_t *cp)
{
    static const char lone[] = "a \\u escape names half of a surrogate pair: write both halves";
    static const char digits[] = "a \\u escape has four hexadecimal digits";
    int32_t high = read_hex4(c);
    int32_t low;

    if (high < 0)
        return digits;
    if (high == 0)
        return "\\u0000 is not accepted: no value contains a NUL";
    *cp = (uint32_t)high;
    if (high < 0xd800 || high > 0xdfff)
        return NULL;
    if (high > 0xdbff || c->end - c->p < 2 || c->p[0] != '\\' || c->p[1] != 'u')
        return lone;
    c->p += 2;
    low = read_hex4(c);
    if (low < 0)
        return digits;
    if (low < 0xdc00 || low > 0xdfff)
        return lone;
    *cp = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    return NULL;
}

/* c->p is after a backslash. No escape is shorter than the UTF-8 of what it stands for. */
static const char *read_escape(struct cursor *c, char **out)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *found = c->p < c->end ? strchr(letters, *c->p) : NULL;
    const char *error;
    char encoded[4];
    uint32_t cp;
    size_t len;

    if (found) {
        c->p++;
        *(*out)++ = meanings[found - letters];
        return NULL;
    }
    if (c->p == c->end || *c->p != 'u')
        return "after \\ comes one of \" \\ / b f n r t or uXXXX, as in JSON";
    c->p++;
    error = read_unicode_escape(c, &cp);
    if (error)
        return error;
    len = codepoint_encode(cp, encoded);
    memcpy(*out, encoded, len);
    *out += len;
    return NULL;
}

/* c->p is on the opening quote; afterwards it is behind the closing one. */
static const char *read_quoted(struct cursor *c, struct str *word)
{
    char *start = ++c->p;
    char *out = start;

    while (c->p < c->end && *c->p != '"') {
        if (*c->p != '\\') {
            *out++ = *c->p++;
            continue;
        }
        c->p++;
        const char *error = read_escape(c, &out);

        if (error)
            return error;
    }
    if (c->p == c->end)
        return "a quote is not closed: end the word with \" (inside of it write \\\")";
    c->p++;
    if (!at_word_end(c))
        return "after a closing quote comes a space or the end of the line";
    *word = (struct str){start, (size_t)(out - start)};
    return NULL;
}

/* Up to the next space, or to stop where it is not 0. */
static const char *read_bare(struct cursor *c, char stop, struct str *word)
{
    char *start = c->p;
    uint32_t cp = 0;

    while (!at_word_end(c) && (stop == 0 || *c->p != stop)) {
        c->p += codepoint_decode(c->p, (size_t)(c->end - c->p), &cp);
        if (cp == '"')
            return "a quote stands only at the start of a word or of a value: quote all of it, and "
                   "write \\\" for a quote inside";
        if (codepoint_is_control(cp))
            return "the line contains a control character: write it as \\u00XX inside of quotes";
    }
    *word = (struct str){start, (size_t)(c->p - start)};
    return NULL;
}

static bool is_key(struct str s)
{
    if (s.n == 0 || !is_letter(s.p[0]))
        return false;
    for (size_t i = 1; i < s.n; i++) {
        if (!is_letter(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '_' && s.p[i] != '-')
            return false;
    }
    return true;
}

/* c->p is on the "=". */
static const char *read_pair(struct cursor *c, struct str key, struct wire_request *r)
{
    struct wire_pair *pair = &r->pairs[r->npairs];
    const char *error;

    if (!is_key(key))
        return "a word with \"=\" is key=value, and a key is a letter and then letters, digits, _ "
               "or -: put the word into quotes if it is an argument";
    if (r->npairs == WIRE_PAIRS_MAX)
        return "a request has at most 128 key=value words";
    pair->key = key;
    c->p++;
    error = c->p < c->end && *c->p == '"' ? read_quoted(c, &pair->value)
                                          : read_bare(c, 0, &pair->value);
    if (!error)
        r->npairs++;
    return error;
}

static const char *add_argument(struct wire_request *r, struct str word)
{
    if (r->npairs > 0)
        return "arguments come before the first key=value word";
    if (r->nargs == WIRE_ARGS_MAX)
        return "a request has at most 128 arguments";
    r->args[r->nargs++] = word;
    return NULL;
}

static const char *read_word(struct cursor *c, struct wire_request *r)
{
    struct str word;
    const char *error;

    if (*c->p == '"') {
        error = read_quoted(c, &word);
        return error ? error : add_argument(r, word);
    }
    error = read_bare(c, '=', &word);
    if (error)
        return error;
    return at_word_end(c) ? add_argument(r, word) : read_pair(c, word, r);
}

static const char *read_verb(struct cursor *c, struct str *verb)
{
    const char *error;

    if (c->p == c->end)
        return "the line has no verb: send HELP for the list of verbs";
    if (*c->p == '"')
        return "the first word is the verb and is not quoted";
    error = read_bare(c, '=', verb);
    if (!error && !at_word_end(c))
        error = "the first word is the verb: key=value words come after it";
    if (error)
        *verb = (struct str){NULL, 0};
    return error;
}

const char *wire_parse(char *line, size_t len, struct wire_request *r)
{
    struct cursor c = {line, line + len};
    const char *error = NULL;

    r->tag = r->verb = (struct str){NULL, 0};
    r->nargs = r->npairs = 0;
    skip_spaces(&c);
    if (c.p < c.end && *c.p == '@')
        error = read_tag(&c, &r->tag);
    if (!error)
        error = check_bytes(&c);
    if (error)
        return error;
    skip_spaces(&c);
    error = read_verb(&c, &r->verb);
    for (skip_spaces(&c); !error && c.p < c.end; skip_spaces(&c))
        error = read_word(&c, r);
    return error;
}

const struct str *wire_value(const struct wire_request *r, const char *key)
{
    for (size_t i = 0; i < r->npairs; i++) {
        if (str_is_nocase(r->pairs[i].key, key))
            return &r->pairs[i].value;
    }
    return NULL;
}
