#include <inttypes.h>
#include <stdio.h>

#include "pglockctl/ctl.h"
#include "pglockctl/database.h"
#include "pglockctl/force_many.h"
#include "pglockctl/text.h"

static int force_main(struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;

    if (force_many_is_meant(words))
        return force_many(ctl, words);
    int status = ctl_ask(ctl, "FORCE", words, &reply);

    if (status == CTL_OK && !ctl->json) {
        struct buf out = {0};

        buf_puts(&out, "it was held by ");
        text_put_safe(&out, pglockd_reply_string(reply, "owner", ""));
        buf_puts(&out, " for ");
        text_put_duration(&out, pglockd_reply_int(reply, "held_ms", 0));
        puts(buf_cstr(&out));
        buf_free(&out);
    }
    pglockd_reply_free(reply);
    return status;
}

const struct command command_force = {
    .name = "force",
    .synopsis = "RESOURCE token=T | owner=NAME | session=ID | prefix=RESOURCE [reason=TEXT]",
    .summary = "End locks against their holders' will",
    .details =
        "\nThe holders are told. RESOURCE token=T needs the right force; while the daemon has\n"
        "auth off, a Unix socket. Who has it sees the tokens of others with info --json and\n"
        "ls --json.\n"
        "\nAll that an owner holds, a session with its locks, a resource and all beneath it:\n"
        "these work on the database, as a member of pglockd_admin; no daemon is needed. Exits\n"
        "76 where there is nothing to end, and 75 where a transaction keeps some of it locked.\n",
    .options = database_options,
    .noptions = DATABASE_OPTIONS,
    .main = force_main,
};
