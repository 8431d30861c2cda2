#include "wire/line.h"

#include "base/buf.h"
#include "base/json.h"
#include "unit.h"

/* A parsed line and the bytes it points into. */
struct parsed {
    char *line;
    size_t len;
    struct wire_request r;
    const char *error;
};

static struct parsed *parse(struct str s)
{
    static struct parsed p;

    free(p.line);
    p.line = unit_exact(s);
    p.len = s.n;
    p.error = wire_parse(p.line, s.n, &p.r);
    return &p;
}

/* "@tag|verb|argument|key=value", which the rows below compare with. */
static const char *render(const struct wire_request *r)
{
    static struct buf b;

    buf_clear(&b);
    if (r->tag.n > 0)
        buf_printf(&b, "@%.*s|", (int)r->tag.n, r->tag.p);
    buf_put(&b, r->verb.p, r->verb.n);
    for (size_t i = 0; i < r->nargs; i++)
        buf_printf(&b, "|%.*s", (int)r->args[i].n, r->args[i].p);
    for (size_t i = 0; i < r->npairs; i++)
        buf_printf(&b, "|%.*s=%.*s", (int)r->pairs[i].key.n, r->pairs[i].key.p,
                   (int)r->pairs[i].value.n, r->pairs[i].value.p);
    return buf_cstr(&b);
}

START_TEST(good)
{
    static const struct {
        const char *line, *parsed;
    } rows[] = {
        {"PING", "PING"},
        {"  PING  ", "PING"},
        {"lock a", "lock|a"},
        {"LOCK a b c", "LOCK|a|b|c"},
        {"LOCK   a    ttl=5s  ", "LOCK|a|ttl=5s"},
        {"@1 PING", "@1|PING"},
        {" @1 PING", "@1|PING"},
        {"@aZ09_.-  PING", "@aZ09_.-|PING"},
        {"@12345678901234567890123456789012 PING", "@12345678901234567890123456789012|PING"},
        {"LOCK @x", "LOCK|@x"},
        {"@t @u", "@t|@u"},
        /* quoted words are arguments whatever is in them */
        {"LOCK \"a b\"", "LOCK|a b"},
        {"LOCK \"\"", "LOCK|"},
        {"LOCK \"a=b\" \"ttl=5s\"", "LOCK|a=b|ttl=5s"},
        {"LOCK \"a\" \"b\" ttl=\"5s\"", "LOCK|a|b|ttl=5s"},
        /* pairs */
        {"LOCK a note=\"x y\" ttl=1s", "LOCK|a|note=x y|ttl=1s"},
        {"LOCK a note=\"\" owner=", "LOCK|a|note=|owner="},
        {"LOCK a secret=abc== x=\"=\"", "LOCK|a|secret=abc==|x=="},
        {"LOCK a shared=b shared=c", "LOCK|a|shared=b|shared=c"},
        {"LOCK a shared-tree=b x_1=2", "LOCK|a|shared-tree=b|x_1=2"},
        {"LOCK a NoTe=B", "LOCK|a|NoTe=B"},
        /* escapes */
        {"X \"\\\"\\\\\\/\"", "X|\"\\/"},
        {"X \"\\b\\f\\n\\r\\t\"", "X|\b\f\n\r\t"},
        {"X \"\\u0041\\u00e4\\u20AC\"", "X|A\xc3\xa4\xe2\x82\xac"},
        {"X \"\\ud83d\\udd12\"", "X|\xf0\x9f\x94\x92"},
        {"X \"\\uD800\\uDC00\\udbff\\udfff\"", "X|\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
        {"X \"\\u0001\\u007f\"", "X|\x01\x7f"},
        {"X n=\"a\\u0020b\" m=2", "X|n=a b|m=2"},
        /* as JSON says, a quoted word may hold raw DEL; a backslash is nothing special outside */
        {"X \"\x7f\"", "X|\x7f"},
        {"X a\\nb n=C:\\dir", "X|a\\nb|n=C:\\dir"},
        {"X gr\xc3\xbc\xc3\x9f", "X|gr\xc3\xbc\xc3\x9f"},
        {"X it's", "X|it's"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct parsed *p = parse(str_of(rows[i].line));

        ck_assert_msg(!p->error, "%s: %s", rows[i].line, p->error);
        ck_assert_str_eq(render(&p->r), rows[i].parsed);
    }
}
END_TEST

START_TEST(bad)
{
    static const struct {
        struct str line;
        const char *says;
    } rows[] = {
        {STR_LIT(""), "no verb"},
        {STR_LIT("   "), "no verb"},
        {STR_LIT("@t"), "no verb"},
        {STR_LIT("@t  "), "no verb"},
        {STR_LIT("\"PING\""), "first word"},
        {STR_LIT("@t \"PING\""), "first word"},
        {STR_LIT("ttl=5s"), "first word"},
        {STR_LIT("=x"), "first word"},
        /* tags */
        {STR_LIT("@ PING"), "a tag is"},
        {STR_LIT("@"), "a tag is"},
        {STR_LIT("@a/b PING"), "a tag is"},
        {STR_LIT("@\xc3\xa4 PING"), "a tag is"},
        {STR_LIT("@a\tPING"), "a tag is"},
        {STR_LIT("@a\0 PING"), "a tag is"},
        {STR_LIT("@\"a\" PING"), "a tag is"},
        {STR_LIT("@123456789012345678901234567890123 PING"), "a tag is"},
        /* bytes */
        {STR_LIT("LOCK\ta"), "tab"},
        {STR_LIT("LOCK \"a\tb\""), "tab"},
        {STR_LIT("LOCK a\0"), "NUL"},
        {STR_LIT("\0"), "NUL"},
        {STR_LIT("LOCK a\rb"), "control character"},
        {STR_LIT("LOCK a\x1b[0m"), "control character"},
        {STR_LIT("LOCK \"a\x01\""), "control character"},
        {STR_LIT("LOCK a\x7f"), "control character"},
        {STR_LIT("LOCK a\xc2\x85"), "control character"},
        {STR_LIT("LOCK n=a\x7f"), "control character"},
        {STR_LIT("LO\x7f"), "control character"},
        {STR_LIT("LOCK \xff"), "UTF-8"},
        {STR_LIT("LOCK a\xc3"), "UTF-8"},
        {STR_LIT("LOCK \"\xed\xa0\x80\""), "UTF-8"},
        {STR_LIT("LOCK \xc0\x80"), "UTF-8"},
        /* quotes */
        {STR_LIT("LOCK \""), "not closed"},
        {STR_LIT("LOCK \"a b"), "not closed"},
        {STR_LIT("LOCK \"a\\\""), "not closed"},
        {STR_LIT("LOCK a n=\""), "not closed"},
        {STR_LIT("LOCK \"a\"b"), "after a closing quote"},
        {STR_LIT("LOCK \"a\"\"b\""), "after a closing quote"},
        {STR_LIT("LOCK \"a\"=b"), "after a closing quote"},
        {STR_LIT("LOCK a n=\"b\"c"), "after a closing quote"},
        {STR_LIT("LOCK a\"b"), "a quote stands only"},
        {STR_LIT("LOCK a n=b\"c"), "a quote stands only"},
        {STR_LIT("LO\"CK"), "a quote stands only"},
        /* escapes */
        {STR_LIT("LOCK \"\\"), "after \\ comes"},
        {STR_LIT("LOCK \"\\x41\""), "after \\ comes"},
        {STR_LIT("LOCK \"\\'\""), "after \\ comes"},
        {STR_LIT("LOCK \"\\U0041\""), "after \\ comes"},
        {STR_LIT("LOCK \"\\u\""), "four hexadecimal"},
        {STR_LIT("LOCK \"\\u004\""), "four hexadecimal"},
        {STR_LIT("LOCK \"\\u00g0\""), "four hexadecimal"},
        {STR_LIT("LOCK \"\\u+041\""), "four hexadecimal"},
        {STR_LIT("LOCK \"\\u0000\""), "NUL"},
        {STR_LIT("LOCK n=\"a\\u0000\""), "NUL"},
        {STR_LIT("LOCK \"\\ud83d\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d"), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\"), "surrogate"},
        {STR_LIT("LOCK \"\\ud83dx\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\n\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\u0041\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\ud83d\""), "surrogate"},
        {STR_LIT("LOCK \"\\udd12\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\ue000\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\udbff\""), "surrogate"},
        {STR_LIT("LOCK \"\\ud83d\\u00\""), "four hexadecimal"},
        /* pairs */
        {STR_LIT("LOCK =x"), "put the word into quotes"},
        {STR_LIT("LOCK a/b=c"), "put the word into quotes"},
        {STR_LIT("LOCK 1a=c"), "put the word into quotes"},
        {STR_LIT("LOCK _a=c"), "put the word into quotes"},
        {STR_LIT("LOCK a.b=c"), "put the word into quotes"},
        {STR_LIT("LOCK \xc3\xa4=c"), "put the word into quotes"},
        {STR_LIT("LOCK a ttl=5s b"), "before the first key=value"},
        {STR_LIT("LOCK a ttl=5s \"b\""), "before the first key=value"},
        {STR_LIT("LOCK a ttl= 5s"), "before the first key=value"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct parsed *p = parse(rows[i].line);

        ck_assert_msg(p->error && strstr(p->error, rows[i].says), "%s: got \"%s\", want \"%s\"",
                      rows[i].line.p, p->error ? p->error : "no error", rows[i].says);
    }
}
END_TEST

START_TEST(tag_survives_errors)
{
    static const struct str rows[] = {
        STR_LIT("@t1"),          STR_LIT("@t1 \xff"),    STR_LIT("@t1 X\0"),  STR_LIT("@t1 \"X\""),
        STR_LIT("@t1 X \"open"), STR_LIT("@t1 X a=1 b"), STR_LIT("@t1 X\ta"),
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct parsed *p = parse(rows[i]);

        ck_assert_ptr_nonnull(p->error);
        ck_assert_bytes(p->r.tag, STR_LIT("t1"), rows[i].p);
    }
    ck_assert_uint_eq(parse(STR_LIT("@t/ X"))->r.tag.n, 0);
}
END_TEST

/* Fills a buffer with count words. */
static struct str many(struct buf *b, const char *word, size_t count)
{
    buf_clear(b);
    buf_puts(b, "X");
    for (size_t i = 0; i < count; i++)
        buf_printf(b, " %s", word);
    return buf_str(b);
}

START_TEST(counts)
{
    struct buf b = {0};
    struct parsed *p = parse(many(&b, "a", WIRE_ARGS_MAX));

    ck_assert_ptr_null(p->error);
    ck_assert_uint_eq(p->r.nargs, WIRE_ARGS_MAX);
    p = parse(many(&b, "a", WIRE_ARGS_MAX + 1));
    ck_assert_ptr_nonnull(strstr(p->error, "at most 128 arguments"));
    p = parse(many(&b, "k=v", WIRE_PAIRS_MAX));
    ck_assert_ptr_null(p->error);
    ck_assert_uint_eq(p->r.npairs, WIRE_PAIRS_MAX);
    p = parse(many(&b, "k=v", WIRE_PAIRS_MAX + 1));
    ck_assert_ptr_nonnull(strstr(p->error, "at most 128 key=value"));
    buf_free(&b);
}
END_TEST

START_TEST(longest_line)
{
    enum { LONG = 65536 };
    char *line = malloc(LONG);
    struct parsed *p;

    memset(line, 'x', LONG);
    memcpy(line, "X \"", 3);
    line[LONG - 1] = '"';
    p = parse((struct str){line, LONG});
    ck_assert_ptr_null(p->error);
    ck_assert_uint_eq(p->r.args[0].n, LONG - 4);
    for (size_t i = 3; i + 1 < LONG - 1; i += 2) /* every second byte is an escape's */
        memcpy(line + i, "\\n", 2);
    p = parse((struct str){line, LONG});
    ck_assert_ptr_null(p->error);
    ck_assert_uint_eq(p->r.args[0].n, (LONG - 4) / 2);
    memset(line, ' ', LONG);
    ck_assert_ptr_nonnull(parse((struct str){line, LONG})->error);
    free(line);
}
END_TEST

START_TEST(value_by_key)
{
    struct parsed *p = parse(STR_LIT("LOCK a ttl=5s NOTE=\"x\" ttl=6s e="));

    ck_assert_bytes(*wire_value(&p->r, "ttl"), STR_LIT("5s"), "the first one");
    ck_assert_bytes(*wire_value(&p->r, "note"), STR_LIT("x"), "without case");
    ck_assert_uint_eq(wire_value(&p->r, "e")->n, 0);
    ck_assert_ptr_null(wire_value(&p->r, "tt"));
    ck_assert_ptr_null(wire_value(&p->r, "a"));
}
END_TEST

static size_t random_word(struct unit_random *r, char *out)
{
    static const char *const pieces[] = {
        " ",       "\"", "\\",   "=",    "@",        "a",        "ttl",          "/",
        "\n",      "\t", "\x01", "\x7f", "\xc2\x85", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x94\x92",
        "\\u0041", "{}"};
    size_t count = unit_below(r, 12), n = 0;

    for (size_t i = 0; i < count; i++) {
        const char *piece = pieces[unit_below(r, COUNT(pieces))];

        memcpy(out + n, piece, strlen(piece));
        n += strlen(piece);
    }
    return n;
}

enum { ROUNDS = 20000, WORDS = 6, WORD_BYTES = 100 };

/* What a client writes with a JSON writer comes back byte for byte. */
START_TEST(quote_then_parse)
{
    struct unit_random r = {4};
    static char words[WORDS][WORD_BYTES];
    size_t lengths[WORDS];

    for (int round = 0; round < ROUNDS; round++) {
        size_t nargs = unit_below(&r, WORDS + 1);
        struct buf b = {0};
        struct parsed *p;

        buf_puts(&b, "@tag VERB");
        for (size_t i = 0; i < WORDS; i++) {
            struct json j = json_to(&b);

            lengths[i] = random_word(&r, words[i]);
            buf_printf(&b, i < nargs ? " " : " k%zu=", i);
            json_string(&j, (struct str){words[i], lengths[i]});
        }
        p = parse(buf_str(&b));
        ck_assert_msg(!p->error, "%s: %s", buf_cstr(&b), p->error);
        ck_assert_uint_eq(p->r.nargs, nargs);
        ck_assert_uint_eq(p->r.npairs, WORDS - nargs);
        for (size_t i = 0; i < WORDS; i++)
            ck_assert_bytes(i < nargs ? p->r.args[i] : p->r.pairs[i - nargs].value,
                            ((struct str){words[i], lengths[i]}), "word");
        buf_free(&b);
    }
}
END_TEST

static void assert_inside(const struct parsed *p, struct str s)
{
    ck_assert(s.n == 0 || (s.p >= p->line && s.p + s.n <= p->line + p->len));
}

/* Any bytes: no read outside of the line (AddressSanitizer), slices inside of it. */
START_TEST(random_lines)
{
    static const char alphabet[] = "@ \"\\=u0d8c1/aK\t\n\xc3\xa4\xf0\x9f";
    struct unit_random r = {5};
    char bytes[40];

    for (int round = 0; round < 200000; round++) {
        size_t n = unit_below(&r, sizeof(bytes) + 1);
        struct parsed *p;

        for (size_t i = 0; i < n; i++)
            bytes[i] = alphabet[unit_below(&r, sizeof(alphabet))]; /* its NUL, too */
        p = parse((struct str){bytes, n});
        assert_inside(p, p->r.tag);
        assert_inside(p, p->r.verb);
        for (size_t i = 0; i < p->r.nargs; i++)
            assert_inside(p, p->r.args[i]);
        for (size_t i = 0; i < p->r.npairs; i++)
            assert_inside(p, p->r.pairs[i].value);
        ck_assert(p->error || p->r.verb.n > 0);
    }
}
END_TEST

UNIT_MAIN("line", good, bad, tag_survives_errors, counts, longest_line, value_by_key,
          quote_then_parse, random_lines)
