#include <stdio.h>

#include "pglockctl/ctl.h"
#include "pglockctl/text.h"

static int check_main(struct ctl *ctl, const struct opt_words *words)
{
    pglockd_reply *reply;
    struct buf out = {0};
    int status = ctl_ask(ctl, "CHECK", words, &reply);

    if (status == CTL_OK && !ctl->json) {
        int64_t left_ms = pglockd_reply_int(reply, "ttl_ms", -1);
        buf_puts(&out, "held, ");
        if (left_ms < 0) { /* by an SQL session */
            buf_puts(&out, "without a TTL");
        } else {
            buf_puts(&out, "expires in ");
            text_put_duration(&out, left_ms);
        }
        puts(buf_cstr(&out));
    }
    buf_free(&out);
    pglockd_reply_free(reply);
    return status;
}

const struct command command_check = {
    .name = "check",
    .synopsis = "RESOURCE token=T",
    .summary = "Ask whether a token still holds its lock",
    .files = FILES_AS_WORDS,
    .main = check_main,
};
