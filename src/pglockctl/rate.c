#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pglockctl/ctl.h"
#include "pglockctl/database.h"
#include "pglockctl/rate_policy.h"
#include "pglockctl/text.h"

static void print_permit(const pglockd_reply *reply)
{
    struct buf out = {0};

    buf_printf(&out, "%" PRId64 " left, all again in ", pglockd_reply_int(reply, "remaining", 0));
    text_put_duration(&out, pglockd_reply_int(reply, "reset_ms", 0));
    puts(buf_cstr(&out));
    buf_free(&out);
}

static int ask(const struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
    int status = ctl_ask(ctl, "RATE", words, &reply);

    if (status == CTL_OK && !ctl->json)
        print_permit(reply);
    pglockd_reply_free(reply);
    return status;
}

static int rate_main(struct ctl *ctl, const struct opt_words *words)
{
    if (words->nwords > 1 && strcmp(words->words[0], "policy") == 0)
        return rate_policy_main(ctl, words);
    if (words->nwords > 1 && strcmp(words->words[0], "reset") == 0)
        return rate_reset_main(words);
    return ask(ctl, words);
}

const struct command command_rate = {
    .name = "rate",
    .synopsis = "KEY [cost=N] [policy=NAME | limit=N per=1m [burst=N]] [peek=true] [id=KEY]",
    .summary = "Ask for permits of a rate limit, or edit its policies",
    .details =
        "\nExits 75 where the limit is reached:\n"
        "    pglockctl rate api/search limit=100 per=1m && curl https://api.example/search\n"
        "\nThese work on the database, no daemon is needed; daemons follow within a second:\n"
        "    pglockctl rate policy set NAME prefix=P|key=K limit=N per=1m [burst=N]\n"
        "        [mode=enforce|shadow] [away=deny|allow|local] [away-percent=10]\n"
        "        [applies-to=rate|lock] [counter=key|pattern|owner] [charge=attempt|grant]\n"
        "        [borrow=true|false] [note=TEXT]\n"
        "    pglockctl rate policy ls\n"
        "    pglockctl rate policy rm NAME\n"
        "    pglockctl rate reset KEY [policy=NAME]\n"
        "Words that are not given to set stay as they are.\n",
    .options = database_options,
    .noptions = DATABASE_OPTIONS,
    .main = rate_main,
};
