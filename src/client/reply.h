#ifndef PGLOCKD_CLIENT_REPLY_H
#define PGLOCKD_CLIENT_REPLY_H

/* One line from the daemon, taken apart. */

#include <cjson/cJSON.h>

#include "client/pglockd.h"

enum line_kind {
    LINE_REPLY,
    LINE_EVENT,
    LINE_BYE,
    LINE_BAD, /* not a line of the protocol */
};

/* Slices of the line that was parsed. */
struct line_parts {
    enum line_kind kind;
    pglockd_status status; /* of a reply */
    const char *tag;       /* of a reply; NULL: untagged */
    size_t tag_len;
    const char *json; /* to the end of the line */
};

/* line is NUL-terminated, without LF and CR. The JSON is not looked into. */
struct line_parts line_parse(const char *line);

struct pglockd_reply {
    pglockd_status status;
    int64_t sent_us;
    char *json;
    cJSON *object;
};

/* NULL when json is not a JSON object, or memory ran out (then *nomem is set). */
pglockd_reply *reply_new(pglockd_status status, const char *json, int *nomem);

#endif
