/* The locks that are held, page by page. */

#include <stdio.h>

#include "pglockctl/pages.h"
#include "pglockctl/text.h"

static int ls_main(struct ctl *ctl, const struct opt_words *words)
{
    struct buf out = {0};
    cJSON *locks;
    int status = pages_ask(ctl, words, &locks);

    if (!ctl->json && cJSON_GetArraySize(locks) > 0)
        fields_put_table(&out, "", locks, lock_fields, LOCK_FIELDS);
    fputs(buf_cstr(&out), stdout);
    cJSON_Delete(locks);
    buf_free(&out);
    return status;
}

const struct command command_ls = {
    .name = "ls",
    .synopsis = "[prefix=P] [owner=N] [limit=N] [after=CURSOR]",
    .summary = "List the locks that are held",
    .details = "\nWithout limit= all pages are shown, with --json one line for each.\n",
    .main = ls_main,
};
