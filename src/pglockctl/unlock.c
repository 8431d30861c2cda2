#include "pglockctl/ctl.h"

static int unlock_main(struct ctl *ctl, const struct opt_words *words)
{
    return ctl_ask_quietly(ctl, "UNLOCK", words);
}

const struct command command_unlock = {
    .name = "unlock",
    .synopsis = "RESOURCE token=T",
    .summary = "Release a lock",
    .files = FILES_AS_WORDS,
    .main = unlock_main,
};
