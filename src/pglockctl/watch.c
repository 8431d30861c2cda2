/* What happens to the leases of a prefix, a line an event, until it is interrupted. */

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "pglockctl/ctl.h"
#include "pglockctl/text.h"

enum {
    POLL_MS = 1000,
    RETRY_MS = 200, /* doubled up to RETRY_MAX_MS */
    RETRY_MAX_MS = 5000,
};

static int64_t count; /* --count; 0: no end */

struct watching {
    const struct ctl *ctl;
    int64_t told;
    bool broken; /* standard output is */
};

static void put_member(struct buf *out, const cJSON *event, const char *name, const char *fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, name);
    text_put_safe(out, cJSON_IsString(item) ? item->valuestring : fallback);
}

/* SEQ EVENT RESOURCE OWNER MODE REASON, and what else there is to say. */
static void put_event(struct buf *out, const char *json)
{
    static const char *const members[] = {"event", "resource", "owner", "mode", "reason"};
    cJSON *event = cJSON_Parse(json);
    const cJSON *seq = cJSON_GetObjectItemCaseSensitive(event, "seq");

    buf_put_int(out, cJSON_IsNumber(seq) ? (int64_t)seq->valuedouble : 0);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        buf_putc(out, ' ');
        put_member(out, event, members[i], "-");
    }
    for (size_t i = 0; i < 2; i++) {
        static const char *const more[] = {"detail", "code"};
        if (cJSON_GetObjectItemCaseSensitive(event, more[i])) {
            buf_putc(out, ' ');
            put_member(out, event, more[i], "");
        }
    }
    cJSON_Delete(event);
}

static void on_event(void *arg, const char *json)
{
    struct watching *w = arg;
    struct buf line = {0};

    if (count > 0 && w->told >= count)
        return;
    if (w->ctl->json)
        buf_puts(&line, json);
    else
        put_event(&line, json);
    w->told++;
    if (puts(buf_cstr(&line)) < 0 || fflush(stdout) != 0)
        w->broken = true;
    buf_free(&line);
}

static bool is_away(int exit_status)
{
    return exit_status == CTL_UNREACHABLE;
}

/* Polls until there is an end; a daemon that is away is waited for. */
static int follow(const struct ctl *ctl, pglockd *c, struct watching *w)
{
    int retry_ms = RETRY_MS;

    while (!w->broken && (count == 0 || w->told < count)) {
        pglockd_status status = pglockd_poll(c, POLL_MS);
        if (status == PGLOCKD_OK) {
            retry_ms = RETRY_MS;
            continue;
        }
        int exit_status = ctl_fail(ctl, c, status);
        if (!is_away(exit_status))
            return exit_status;
        struct timespec ts = {retry_ms / 1000, retry_ms % 1000 * 1000000L};
        nanosleep(&ts, NULL);
        retry_ms = 2 * retry_ms < RETRY_MAX_MS ? 2 * retry_ms : RETRY_MAX_MS;
    }
    return CTL_OK;
}

static bool after_of(const struct opt_words *words, int64_t *after)
{
    const char *value = ctl_word_value(words, "after");
    char *end;

    *after = PGLOCKD_NOW;
    if (value == NULL)
        return true;
    *after = strtoll(value, &end, 10);
    return *value >= '0' && *value <= '9' && *end == '\0';
}

static int watch_main(struct ctl *ctl, const struct opt_words *words)
{
    struct watching w = {.ctl = ctl};
    int64_t after;
    const char *prefix = ctl_only_argument(words);
    size_t nkeys = ctl_word_value(words, "after") ? 1 : 0;

    if (!prefix || words->nwords + words->nrest != 1 + nkeys || !after_of(words, &after))
        return ctl_usage_error("usage: pglockctl watch PREFIX [after=SEQ]");
    pglockd *c = ctl_client(ctl);
    pglockd_on_event(c, on_event, &w);
    pglockd_status status = pglockd_watch(c, prefix, after);
    int exit_status = status == PGLOCKD_OK ? follow(ctl, c, &w) : ctl_fail(ctl, c, status);
    pglockd_free(c);
    return exit_status;
}

static const struct opt watch_options[] = {
    {.letter = 'c',
     .name = "count",
     .kind = OPT_NUMBER,
     .into = &count,
     .value = "N",
     .min = 1,
     .max = INT64_MAX,
     .help = "end after so many events"},
};

const struct command command_watch = {
    .name = "watch",
    .synopsis = "PREFIX [after=SEQ]",
    .summary = "Show what happens to the leases of a resource and of all beneath it",
    .details =
        "\nA line an event: number, event, resource, owner, mode, reason, and what else is known.\n"
        "It goes on when the connection is lost, at another address where there are several,\n"
        "behind the last event that was shown; where some are missing it says: gap.\n"
        "after= goes on behind the number of an event shown before.\n",
    .options = watch_options,
    .noptions = 1,
    .main = watch_main,
};
