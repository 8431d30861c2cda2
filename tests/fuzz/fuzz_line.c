#include "base/buf.h"
#include "base/json.h"
#include "fuzz.h"
#include "wire/line.h"

static void check_inside(const char *line, size_t size, struct str s)
{
    FUZZ_PROMISE(s.n == 0 || (s.p >= line && s.p + s.n <= line + size));
}

static void check_slices(const char *line, size_t size, const struct wire_request *r)
{
    FUZZ_PROMISE(r->nargs <= WIRE_ARGS_MAX && r->npairs <= WIRE_PAIRS_MAX);
    check_inside(line, size, r->verb);
    for (size_t i = 0; i < r->nargs; i++)
        check_inside(line, size, r->args[i]);
    for (size_t i = 0; i < r->npairs; i++) {
        check_inside(line, size, r->pairs[i].key);
        check_inside(line, size, r->pairs[i].value);
    }
}

/* The same request with all that may be quoted in quotes. */
static void put_quoted(const struct wire_request *r, struct buf *out)
{
    struct json j = json_to(out);
    if (r->tag.n > 0)
        buf_printf(out, "@%.*s ", (int)r->tag.n, r->tag.p);
    buf_put(out, r->verb.p, r->verb.n);
    for (size_t i = 0; i < r->nargs; i++) {
        buf_putc(out, ' ');
        j.comma = false;
        json_string(&j, r->args[i]);
    }
    for (size_t i = 0; i < r->npairs; i++) {
        buf_printf(out, " %.*s=", (int)r->pairs[i].key.n, r->pairs[i].key.p);
        j.comma = false;
        json_string(&j, r->pairs[i].value);
    }
}

static void check_same(const struct wire_request *a, const struct wire_request *b)
{
    FUZZ_PROMISE(str_eq(a->tag, b->tag) && str_eq(a->verb, b->verb));
    FUZZ_PROMISE(a->nargs == b->nargs && a->npairs == b->npairs);
    for (size_t i = 0; i < a->nargs; i++)
        FUZZ_PROMISE(str_eq(a->args[i], b->args[i]));
    for (size_t i = 0; i < a->npairs; i++)
        FUZZ_PROMISE(str_eq(a->pairs[i].key, b->pairs[i].key) &&
                     str_eq(a->pairs[i].value, b->pairs[i].value));
}

int fuzz_line(const uint8_t *data, size_t size)
{
    char *line = fuzz_copy(data, size);
    struct wire_request r, again;
    const char *wrong = wire_parse(line, size, &r);
    FUZZ_PROMISE(r.tag.n <= WIRE_TAG_MAX);
    check_inside(line, size, r.tag);
    if (wrong == NULL && memchr(data, '\n', size) == NULL) {
        struct buf quoted = {0};
        check_slices(line, size, &r);
        put_quoted(&r, &quoted);
        FUZZ_PROMISE(wire_parse(quoted.data, quoted.len, &again) == NULL);
        check_same(&r, &again);
        wire_value(&r, "token");
        buf_free(&quoted);
    }
    free(line);
    return 0;
}
