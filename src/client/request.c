#include "client/pglockd.h"

#include <inttypes.h>
#include <stdlib.h>

#include "client/cbuf.h"

struct pglockd_request {
    struct cbuf line;
};

/* Keeps the NUL in place after every word, so that reading the line needs no change. */
static void finish_word(pglockd_request *r)
{
    if (r)
        (void)cbuf_cstr(&r->line);
}

pglockd_request *pglockd_request_new(const char *verb)
{
    pglockd_request *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    cbuf_puts(&r->line, verb);
    finish_word(r);
    return r;
}

void pglockd_request_free(pglockd_request *r)
{
    if (!r)
        return;
    cbuf_free(&r->line);
    free(r);
}

void pglockd_request_arg(pglockd_request *r, const char *word)
{
    if (!r)
        return;
    cbuf_puts(&r->line, " ");
    cbuf_quote(&r->line, word);
    finish_word(r);
}

void pglockd_request_value(pglockd_request *r, const char *key, const char *value)
{
    if (!r)
        return;
    cbuf_printf(&r->line, " %s=", key);
    cbuf_quote(&r->line, value);
    finish_word(r);
}

void pglockd_request_int(pglockd_request *r, const char *key, int64_t value)
{
    if (!r)
        return;
    cbuf_printf(&r->line, " %s=%" PRId64, key, value);
    finish_word(r);
}

void pglockd_request_ms(pglockd_request *r, const char *key, int64_t ms)
{
    if (!r)
        return;
    if (ms == PGLOCKD_FOREVER)
        cbuf_printf(&r->line, " %s=inf", key);
    else
        cbuf_printf(&r->line, " %s=%" PRId64 "ms", key, ms);
    finish_word(r);
}

const char *pglockd_request_line(const pglockd_request *r)
{
    return r && !r->line.failed ? r->line.data : NULL;
}

char *pglockd_quote(const char *word)
{
    struct cbuf b = {0};
    cbuf_quote(&b, word);
    if (cbuf_cstr(&b))
        return b.data;
    cbuf_free(&b);
    return NULL;
}
