#include <inttypes.h>
#include <stdio.h>

#include "pglockctl/ctl.h"
#include "pglockctl/text.h"

static int force_main(struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
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
    .synopsis = "RESOURCE token=T [reason=TEXT]",
    .summary = "End a lock against its holder's will",
    .details =
        "\nNeeds the right force; while the daemon has auth off, a Unix socket. Who has it sees\n"
        "the tokens of others with info --json and ls --json. The holder is told.\n",
    .main = force_main,
};
