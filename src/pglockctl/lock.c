#include <inttypes.h>
#include <stdio.h>

#include "pglockctl/ctl.h"

static int lock_main(struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
    int status = ctl_ask(ctl, "LOCK", words, &reply);

    if (status == CTL_OK && !ctl->json)
        printf("%" PRId64 "\n", pglockd_reply_int(reply, "token", 0));
    pglockd_reply_free(reply);
    return status;
}

const struct command command_lock = {
    .name = "lock",
    .synopsis = "RESOURCE [mode=shared] [ttl=30s] [wait=5s] [id=KEY] [owner=NAME] [note=TEXT]",
    .summary = "Take a lock and print its token",
    .details = "\nThe lock stands until it is released with its token or its TTL has passed:\n"
               "    token=$(pglockctl lock repo/a.ts ttl=1m wait=10s) || exit\n"
               "    pglockctl unlock repo/a.ts token=$token\n"
               "To run one command under a lock, use pglockctl run.\n",
    .main = lock_main,
};
