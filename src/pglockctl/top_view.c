#include "pglockctl/top_view.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pglockctl/fields.h"

enum {
    HEAD_LINES = 2,
    SECTION_EXTRA = 3,     /* lines of a section that are no rows: a gap, its title, the columns */
    CELL_COLUMNS_MIN = 16, /* what a text is never cut below */
};

/* --- reading the answer --- */

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static int64_t number(const cJSON *object, const char *name)
{
    const cJSON *item = member(object, name);
    return cJSON_IsNumber(item) ? (int64_t)item->valuedouble : 0;
}

static const char *text(const cJSON *object, const char *name)
{
    const char *s = cJSON_GetStringValue(member(object, name));
    return s ? s : "";
}

static void set_text(cJSON *object, const char *name, struct buf *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddStringToObject(object, name, buf_cstr(value));
    buf_free(value);
}

/* --- what is made of members for the tables --- */

/* Slots of a semaphore are counted, and do not have a mode worth a word. */
static void describe_mode(cJSON *row)
{
    struct buf b = {0};

    if (strcmp(text(row, "scope"), "tree") == 0)
        buf_puts(&b, "tree, ");
    if (cJSON_IsNumber(member(row, "limit")))
        buf_printf(&b, "%" PRId64 " of %" PRId64 " slots", number(row, "weight"),
                   number(row, "limit"));
    else
        buf_puts(&b, text(row, "mode"));
    set_text(row, "mode", &b);
}

static void describe_owner(cJSON *row)
{
    struct buf b = {0};

    if (*text(row, "owner") || !cJSON_IsNumber(member(row, "session")))
        return;
    buf_printf(&b, "session %" PRId64, number(row, "session"));
    set_text(row, "owner", &b);
}

static void put_party(struct buf *b, const cJSON *row, const cJSON *party)
{
    const char *owner = text(party, "owner"), *resource = text(party, "resource");
    bool holds = cJSON_IsTrue(member(party, "holds"));

    buf_puts(b, holds ? "" : "behind ");
    buf_puts(b, *owner ? owner : "unnamed");
    if (strcmp(resource, text(row, "resource")) != 0)
        buf_printf(b, " (%s)", resource);
}

static void describe_wait(cJSON *row)
{
    struct buf b = {0};
    const cJSON *party;

    cJSON_ArrayForEach(party, member(row, "behind"))
    {
        buf_puts(&b, b.len > 0 ? ", " : "");
        put_party(&b, row, party);
    }
    if (cJSON_IsTrue(member(row, "absent"))) {
        buf_clear(&b);
        buf_puts(&b, "its client is away");
    }
    set_text(row, "behind", &b);
}

static void describe_limit(cJSON *row)
{
    struct buf b = {0};

    if (!cJSON_IsString(member(row, "mode"))) {
        buf_puts(&b, "of the request");
        set_text(row, "policy", &b);
    }
    buf_printf(&b, "%" PRId64 " per ", number(row, "limit"));
    text_put_duration(&b, number(row, "per_ms"));
    set_text(row, "limit", &b);
    buf_printf(&b, "%" PRId64 " of %" PRId64, number(row, "remaining"), number(row, "burst"));
    set_text(row, "remaining", &b);
}

static void describe_lock(cJSON *row)
{
    describe_mode(row);
    describe_owner(row);
}

static void describe_waiter(cJSON *row)
{
    describe_lock(row);
    describe_wait(row);
}

static void describe_instance(cJSON *row)
{
    struct buf b = {0};
    buf_puts(&b, cJSON_IsTrue(member(row, "connected")) ? "connected" : "cut off");
    buf_puts(&b, cJSON_IsTrue(member(row, "janitor")) ? ", janitor" : "");
    set_text(row, "state", &b);
}

/* --- the sections --- */

static const struct field queue_fields[] = {
    {"RESOURCE", "resource", FIELD_TEXT}, {"WHO WAITS", "owner", FIELD_TEXT},
    {"MODE", "mode", FIELD_TEXT},         {"WAITING", "waiting_ms", FIELD_DURATION},
    {"PLACE", "place", FIELD_INT},        {"FOR WHOM", "behind", FIELD_TEXT},
};
static const struct field lock_fields_of_top[] = {
    {"RESOURCE", "resource", FIELD_TEXT}, {"HOLDER", "owner", FIELD_TEXT},
    {"MODE", "mode", FIELD_TEXT},         {"HELD", "held_ms", FIELD_DURATION},
    {"LEFT", "ttl_ms", FIELD_DURATION},   {"NOTE", "note", FIELD_TEXT},
};
static const struct field session_fields[] = {
    {"SESSION", "session", FIELD_INT},  {"OWNER", "owner", FIELD_TEXT},
    {"LOCKS", "locks", FIELD_INT},      {"OPEN", "open_ms", FIELD_DURATION},
    {"LEFT", "ttl_ms", FIELD_DURATION}, {"NOTE", "note", FIELD_TEXT},
};
static const struct field rate_fields[] = {
    {"KEY", "key", FIELD_TEXT},
    {"POLICY", "policy", FIELD_TEXT},
    {"LIMIT", "limit", FIELD_TEXT},
    {"REMAINING", "remaining", FIELD_TEXT},
    {"FULL IN", "reset_ms", FIELD_DURATION},
};
static const struct field instance_fields[] = {
    {"DAEMON", "name", FIELD_TEXT},      {"NUMBER", "instance", FIELD_INT},
    {"VERSION", "version", FIELD_TEXT},  {"STATE", "state", FIELD_TEXT},
    {"UP", "uptime_ms", FIELD_DURATION}, {"HEARTBEAT", "heartbeat_ms", FIELD_DURATION},
    {"WAITING", "waiting", FIELD_INT},
};

struct section {
    const char *title;
    const char *name; /* of the array in the answer; name_more: there is more */
    const struct field *fields;
    size_t nfields;
    void (*describe)(cJSON *row); /* may be NULL */
};

static const struct section sections[] = {
    {"QUEUE", "queue", queue_fields, FIELD_COUNT(queue_fields), describe_waiter},
    {"LOCKS", "locks", lock_fields_of_top, FIELD_COUNT(lock_fields_of_top), describe_lock},
    {"SESSIONS", "sessions", session_fields, FIELD_COUNT(session_fields), NULL},
    {"RATE LIMITS", "rate_limits", rate_fields, FIELD_COUNT(rate_fields), describe_limit},
    {"DAEMONS", "instances", instance_fields, FIELD_COUNT(instance_fields), describe_instance},
};
enum { SECTIONS = FIELD_COUNT(sections) };

static size_t count_rows(const cJSON *status, const struct section *s)
{
    int n = cJSON_GetArraySize(member(status, s->name));
    return n > 0 ? (size_t)n : 0;
}

/*
 * How many rows each section gets of those that there is room for: all get the same until they
 * have all their rows; what is left over goes to the others.
 */
static void share_rows(const cJSON *status, size_t room, size_t given[SECTIONS])
{
    bool more = true;

    memset(given, 0, SECTIONS * sizeof(*given));
    while (more && room > 0) {
        more = false;
        for (size_t i = 0; i < SECTIONS && room > 0; i++) {
            if (given[i] == count_rows(status, &sections[i]))
                continue;
            size_t cost = given[i] == 0 ? 1 + SECTION_EXTRA : 1;
            if (cost > room)
                continue;
            given[i]++;
            room -= cost;
            more = true;
        }
    }
}

/* Texts that would push the other columns out of sight are cut. */
static void cut_texts(cJSON *row, size_t columns)
{
    cJSON *item;
    size_t most = columns / 3 > CELL_COLUMNS_MIN ? columns / 3 : CELL_COLUMNS_MIN;

    for (item = row->child; item; item = item->next) {
        struct buf b = {0};
        if (!cJSON_IsString(item))
            continue;
        text_put_cut(&b, item->valuestring, most);
        cJSON_SetValuestring(item, buf_cstr(&b));
        buf_free(&b);
    }
}

static void put_section(struct buf *out, const cJSON *status, const struct section *s, size_t rows,
                        size_t columns)
{
    struct table t = {.ncols = s->nfields};
    struct buf more = {0};
    cJSON *row;
    size_t left = rows, all = count_rows(status, s);

    buf_printf(&more, "%s_more", s->name);
    bool unknown = cJSON_IsTrue(member(status, buf_cstr(&more)));
    buf_free(&more);
    if (rows < all || unknown)
        buf_printf(out, "\n%s  %zu of %zu%s\n", s->title, rows, all, unknown ? " and more" : "");
    else
        buf_printf(out, "\n%s  %zu\n", s->title, all);
    fields_add_titles(&t, s->fields, s->nfields);
    cJSON_ArrayForEach(row, member(status, s->name))
    {
        if (left-- == 0)
            break;
        if (s->describe)
            s->describe(row);
        if (columns > 0)
            cut_texts(row, columns);
        fields_add_row(&t, row, s->fields, s->nfields);
    }
    table_put(&t, "  ", out);
    table_free(&t);
}

/* --- the head --- */

static void put_rate(struct buf *out, const cJSON *trend, const char *name)
{
    const cJSON *list = member(trend, name);
    const cJSON *last = cJSON_GetArrayItem(list, cJSON_GetArraySize(list) - 1);
    int64_t step_ms = number(trend, "step_ms");

    if (cJSON_IsNumber(last) && step_ms > 0)
        buf_printf(out, "  %s/s %.1f", name, last->valuedouble * 1000 / (double)step_ms);
}

static void put_head(struct buf *out, const cJSON *status, const char *note)
{
    const cJSON *daemon = member(status, "daemon"), *totals = member(status, "totals");

    buf_puts(out, "pglockd ");
    text_put_safe(out, text(daemon, "version"));
    buf_printf(out, "  instance %" PRId64 "  up ", number(daemon, "instance"));
    text_put_duration(out, number(daemon, "uptime_ms"));
    if (*text(status, "prefix")) {
        buf_puts(out, "  beneath ");
        text_put_safe(out, text(status, "prefix"));
    }
    if (note) {
        buf_puts(out, "  ");
        text_put_safe(out, note);
    }
    buf_printf(out, "\nheld %" PRId64 "  waiting %" PRId64, number(totals, "locks"),
               number(totals, "waiting"));
    buf_puts(out, "  longest wait ");
    text_put_duration(out, number(totals, "oldest_wait_ms"));
    buf_printf(out, "  sessions %" PRId64, number(totals, "sessions"));
    put_rate(out, member(status, "trend"), "requests");
    put_rate(out, member(status, "trend"), "grants");
    if (number(totals, "quiet_ms") > 0)
        buf_puts(out, "  quiet: nothing is granted");
    buf_putc(out, '\n');
}

/* --- all of it --- */

static void put_lines_cut(struct buf *out, struct buf *lines, size_t rows, size_t columns)
{
    char *rest, *line;

    buf_cstr(lines);
    for (rest = lines->data; rows > 0 && rest && *rest; rows--) {
        line = strsep(&rest, "\n");
        text_put_cut(out, line, columns);
        buf_putc(out, '\n');
    }
}

void top_view_put(struct buf *out, cJSON *status, const char *note, size_t rows, size_t columns)
{
    struct buf lines = {0};
    size_t given[SECTIONS];

    put_head(&lines, status, note);
    for (size_t i = 0; i < SECTIONS; i++)
        given[i] = count_rows(status, &sections[i]);
    if (rows > 0)
        share_rows(status, rows > HEAD_LINES ? rows - HEAD_LINES : 0, given);
    for (size_t i = 0; i < SECTIONS; i++) {
        if (given[i] > 0)
            put_section(&lines, status, &sections[i], given[i], rows > 0 ? columns : 0);
    }
    if (rows > 0)
        put_lines_cut(out, &lines, rows, columns);
    else
        buf_put(out, lines.data, lines.len);
    buf_free(&lines);
}
