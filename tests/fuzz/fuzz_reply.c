#include "client/reply.h"
#include "fuzz.h"

static void look_at(pglockd_reply *r)
{
    FUZZ_PROMISE(pglockd_reply_json(r) != NULL);
    FUZZ_PROMISE(pglockd_status_name(pglockd_reply_status(r)) != NULL);
    pglockd_reply_string(r, "message", "");
    pglockd_reply_string(r, "code", "");
    int64_t token = pglockd_reply_int(r, "token", -1);
    FUZZ_PROMISE(token >= -(INT64_C(1) << 53) && token <= INT64_C(1) << 53);
}

int fuzz_reply(const uint8_t *data, size_t size)
{
    int nomem;
    char *line = malloc(size + 1);
    FUZZ_PROMISE(line != NULL);
    if (size > 0)
        memcpy(line, data, size);
    line[size] = '\0';
    const char *end = line + strlen(line);
    struct line_parts p = line_parse(line);
    if (p.kind != LINE_BAD) {
        FUZZ_PROMISE(p.json >= line && p.json <= end);
        FUZZ_PROMISE(p.tag == NULL || p.tag + p.tag_len <= end);
        pglockd_reply *r = reply_new(p.status, p.json, &nomem);
        FUZZ_PROMISE(r != NULL || !nomem);
        if (r != NULL)
            look_at(r);
        pglockd_reply_free(r);
    }
    free(line);
    return 0;
}
