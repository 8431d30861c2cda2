#include "client/reply.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    pglockd_status status;
    const char *name;
} statuses[] = {
    {PGLOCKD_OK, "OK"},
    {PGLOCKD_BUSY, "BUSY"},
    {PGLOCKD_TIMEOUT, "TIMEOUT"},
    {PGLOCKD_LIMITED, "LIMITED"},
    {PGLOCKD_LOST, "LOST"},
    {PGLOCKD_DEADLOCK, "DEADLOCK"},
    {PGLOCKD_DENIED, "DENIED"},
    {PGLOCKD_ERR, "ERR"},
    {PGLOCKD_UNREACHABLE, "UNREACHABLE"}, /* from here on not on the wire */
    {PGLOCKD_UNKNOWN, "UNKNOWN"},
    {PGLOCKD_PROTOCOL, "PROTOCOL"},
    {PGLOCKD_INVALID, "INVALID"},
    {PGLOCKD_NOMEM, "NOMEM"},
};

enum { STATUS_COUNT = sizeof(statuses) / sizeof(statuses[0]) };

const char *pglockd_status_name(pglockd_status status)
{
    for (size_t i = 0; i < STATUS_COUNT; i++)
        if (statuses[i].status == status)
            return statuses[i].name;
    return "?";
}

static int status_parse(const char *word, size_t len, pglockd_status *status)
{
    for (size_t i = 0; i < STATUS_COUNT && statuses[i].status <= PGLOCKD_ERR; i++)
        if (strlen(statuses[i].name) == len && memcmp(statuses[i].name, word, len) == 0) {
            *status = statuses[i].status;
            return 1;
        }
    return 0;
}

struct line_parts line_parse(const char *line)
{
    struct line_parts p = {.kind = LINE_BAD};
    static const char event[] = "* EVENT ", bye[] = "* BYE ";

    if (strncmp(line, event, sizeof(event) - 1) == 0) {
        p.kind = LINE_EVENT;
        p.json = line + sizeof(event) - 1;
        return p;
    }
    if (strncmp(line, bye, sizeof(bye) - 1) == 0) {
        p.kind = LINE_BYE;
        p.json = line + sizeof(bye) - 1;
        return p;
    }
    if (*line == '@') {
        p.tag = line + 1;
        p.tag_len = strcspn(p.tag, " ");
        line = p.tag + p.tag_len;
        line += *line == ' ';
    }
    size_t len = strcspn(line, " ");
    if (!status_parse(line, len, &p.status) || line[len] != ' ')
        return p;
    p.json = line + len + 1;
    p.kind = LINE_REPLY;
    return p;
}

pglockd_reply *reply_new(pglockd_status status, const char *json, int *nomem)
{
    *nomem = 0;
    /* cJSON stops at the end of the value; the rest of the line must be blank too. */
    cJSON *object = cJSON_ParseWithOpts(json, NULL, 1);
    if (!cJSON_IsObject(object)) {
        cJSON_Delete(object);
        return NULL;
    }
    pglockd_reply *r = calloc(1, sizeof(*r));
    char *copy = strdup(json);
    if (!r || !copy) {
        *nomem = 1;
        free(r);
        free(copy);
        cJSON_Delete(object);
        return NULL;
    }
    *r = (pglockd_reply){.status = status, .json = copy, .object = object};
    return r;
}

void pglockd_reply_free(pglockd_reply *r)
{
    if (!r)
        return;
    cJSON_Delete(r->object);
    free(r->json);
    free(r);
}

pglockd_status pglockd_reply_status(const pglockd_reply *r)
{
    return r->status;
}

const char *pglockd_reply_json(const pglockd_reply *r)
{
    return r->json;
}

int64_t pglockd_reply_sent_us(const pglockd_reply *r)
{
    return r->sent_us;
}

int64_t pglockd_reply_int(const pglockd_reply *r, const char *name, int64_t fallback)
{
    /* valueint stops at INT_MAX; the double is exact for every integer of the protocol (< 2^53). */
    const double limit = 9007199254740992.0;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->object, name);

    if (!cJSON_IsNumber(item) || !(item->valuedouble >= -limit && item->valuedouble <= limit))
        return fallback;
    return (int64_t)item->valuedouble;
}

const char *pglockd_reply_string(const pglockd_reply *r, const char *name, const char *fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->object, name);
    return cJSON_IsString(item) ? item->valuestring : fallback;
}
