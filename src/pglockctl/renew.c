#include "pglockctl/ctl.h"

static int renew_main(struct ctl *ctl, const struct opt_words *words)
{
    return ctl_ask_quietly(ctl, "RENEW", words);
}

const struct command command_renew = {
    .name = "renew",
    .synopsis = "RESOURCE token=T [ttl=30s]",
    .summary = "Set the remaining time of a lock",
    .files = FILES_AS_WORDS,
    .main = renew_main,
};
