#include "pglockctl/ctl.h"
static int run_main(struct ctl *ctl, const struct opt_words *words)
{
    (void)ctl;
    (void)words;
    return 64;
}
const struct command command_run = {.name = "run", .synopsis = "", .summary = "", .main = run_main};
