#ifndef PGLOCKD_WIRE_LINE_H
#define PGLOCKD_WIRE_LINE_H

/*
 * One request line into its words:
 *     ["@" tag SP] verb *(SP argument) *(SP key "=" value)
 * Pure: no allocation, no I/O. The parser unescapes quoted words inside the line itself, so the
 * line is changed and every slice of the result points into it: the result lives as long as the
 * line does.
 */

#include <stddef.h>

#include "base/str.h"

enum {
    WIRE_ARGS_MAX = 128,  /* words without a key in one request */
    WIRE_PAIRS_MAX = 128, /* key=value words in one request */
    WIRE_TAG_MAX = 32,    /* bytes in a tag */
};

struct wire_pair {
    struct str key;
    struct str value;
};

struct wire_request {
    struct str tag;  /* empty: untagged */
    struct str verb; /* as sent, case not folded */
    size_t nargs;
    struct str args[WIRE_ARGS_MAX];
    size_t npairs;
    struct wire_pair pairs[WIRE_PAIRS_MAX];
};

/*
 * Parses line[0 .. len), which has no LF and no trailing CR. Returns NULL, or one sentence that
 * says what is wrong (a static string; the reply is ERR bad_request). After an error r->tag is
 * still set when the line began with a well-formed tag, so that the reply can carry it.
 * An empty line (or only spaces) is an error here; callers decide whether to ignore it.
 */
const char *wire_parse(char *line, size_t len, struct wire_request *r);

/* The value of key (compared without case), or NULL when it was not sent. */
const struct str *wire_value(const struct wire_request *r, const char *key);

#endif
