/* The whole service at a glance, again and again. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "pglockctl/ctl.h"
#include "pglockctl/top_screen.h"
#include "pglockctl/top_view.h"

static int64_t every_ms = 2000;
static int64_t rounds; /* 0: without end on a terminal, one elsewhere */

static const struct opt options[] = {
    {.name = "every",
     .kind = OPT_DURATION,
     .into = &every_ms,
     .min = 100,
     .max = 86400000,
     .value = "TIME",
     .help = "between two looks (default 2s)"},
    {.letter = 'n',
     .name = "count",
     .kind = OPT_NUMBER,
     .into = &rounds,
     .min = 1,
     .max = INT32_MAX,
     .value = "N",
     .help = "looks, then it ends (default: 1 where the output is no terminal)"},
};

struct top {
    struct ctl *ctl;
    pglockd *client;
    struct opt_words words; /* of STATUS */
    cJSON *status;          /* of the last good answer */
    struct buf note;        /* why there is no newer one */
};

static void take_answer(struct top *t, pglockd_reply *reply)
{
    cJSON_Delete(t->status);
    t->status = cJSON_Parse(pglockd_reply_json(reply));
    buf_clear(&t->note);
}

/* --- plain lines --- */

static int print_once(struct top *t)
{
    struct buf out = {0};
    pglockd_reply *reply = NULL;
    pglockd_status got = ctl_call(t->client, "STATUS", &t->words, &reply);
    int status = ctl_finish(t->ctl, t->client, got, &reply);

    if (status == CTL_OK && !t->ctl->json) {
        take_answer(t, reply);
        top_view_put(&out, t->status, NULL, 0, 0);
        fputs(buf_cstr(&out), stdout);
    }
    pglockd_reply_free(reply);
    buf_free(&out);
    return status;
}

static int print(struct top *t)
{
    int status = print_once(t);

    for (int64_t i = 1; i < rounds && status == CTL_OK; i++) {
        if (fflush(stdout) != 0)
            return CTL_OK; /* main says why */
        nanosleep(&(struct timespec){every_ms / 1000, every_ms % 1000 * 1000000}, NULL);
        if (!t->ctl->json)
            putchar('\n');
        status = print_once(t);
    }
    return status;
}

/* --- a terminal --- */

static bool draw(struct top *t)
{
    struct buf out = {0};
    size_t rows, columns;
    cJSON *copy = cJSON_Duplicate(t->status, true);

    screen_size(&rows, &columns);
    top_view_put(&out, copy, t->note.len > 0 ? buf_cstr(&t->note) : "q quits", rows, columns);
    bool drawn = screen_draw(buf_str(&out));
    cJSON_Delete(copy);
    buf_free(&out);
    return drawn;
}

/* While the daemon cannot answer, what it said last stays on the screen. */
static void look_again(struct top *t)
{
    pglockd_reply *reply = NULL;

    if (ctl_call(t->client, "STATUS", &t->words, &reply) == PGLOCKD_OK) {
        take_answer(t, reply);
    } else {
        buf_clear(&t->note);
        buf_printf(&t->note, "NOT UP TO DATE: %s", pglockd_error(t->client));
    }
    pglockd_reply_free(reply);
}

static void watch(struct top *t)
{
    int64_t looked = 1, next_us = clock_mono_us() + every_ms * 1000;

    while (draw(t)) {
        int64_t left_us = next_us - clock_mono_us();
        enum screen_event event = screen_wait(left_us > 0 ? left_us / 1000 + 1 : 0);
        if (event == SCREEN_QUIT || (event == SCREEN_TIME && looked == rounds))
            break;
        if (event == SCREEN_RESIZED)
            continue;
        look_again(t);
        looked++;
        next_us = clock_mono_us() + every_ms * 1000;
    }
}

/* The first answer comes before the screen is taken: what is wrong then is said and ends it. */
static int show(struct top *t)
{
    pglockd_reply *reply = NULL;
    pglockd_status got = ctl_call(t->client, "STATUS", &t->words, &reply);
    int status = ctl_finish(t->ctl, t->client, got, &reply);

    if (status == CTL_OK) {
        take_answer(t, reply);
        screen_enter();
        watch(t);
        screen_leave();
    }
    pglockd_reply_free(reply);
    return status;
}

static int top_main(struct ctl *ctl, const struct opt_words *words)
{
    struct top t = {.ctl = ctl};
    struct buf prefix = {0};
    char *word = NULL;

    if (words->nwords + words->nrest > 1)
        return ctl_usage_error("top takes one PREFIX at most (see pglockctl top --help)");
    if (words->nwords + words->nrest == 1) {
        char *quoted = pglockd_quote(words->nwords ? words->words[0] : words->rest[0]);
        buf_printf(&prefix, "prefix=%s", quoted ? quoted : "");
        free(quoted);
        word = xstrdup(buf_cstr(&prefix));
        t.words = (struct opt_words){.words = &word, .nwords = 1};
    }
    t.client = ctl_client(ctl);
    int status = ctl->json || !screen_is_possible() ? print(&t) : show(&t);
    pglockd_free(t.client);
    cJSON_Delete(t.status);
    buf_free(&t.note);
    buf_free(&prefix);
    free(word);
    return status;
}

const struct command command_top = {
    .name = "top",
    .synopsis = "[PREFIX]",
    .summary = "Watch what is locked, and who waits for whom",
    .details =
        "\nWith PREFIX only locks and limits at and beneath it. On a terminal the screen is drawn\n"
        "anew; q ends it, any other key looks at once. Elsewhere plain lines are printed, once.\n"
        "--json prints the answers of STATUS.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .main = top_main,
};
