#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "pglockctl/ctl.h"
#include "pglockctl/fields.h"

static void print_opened(const pglockd_reply *reply)
{
    printf("%s %s\n", pglockd_reply_string(reply, "session", ""),
           pglockd_reply_string(reply, "secret", ""));
}

static void put_locks(struct buf *out, const cJSON *list, const struct field *fields, size_t n)
{
    if (cJSON_GetArraySize(list) > 0)
        fields_put_table(out, "", list, fields, n);
}

/* What it holds on standard output, what it has lost on standard error. */
static void print_resumed(const pglockd_reply *reply)
{
    static const struct field held[] = {{"RESOURCE", "resource", FIELD_TEXT},
                                        {"TOKEN", "token", FIELD_INT},
                                        {"MODE", "mode", FIELD_TEXT}};
    static const struct field lost[] = {{"LOST", "resource", FIELD_TEXT},
                                        {"TOKEN", "token", FIELD_INT},
                                        {"REASON", "reason", FIELD_TEXT}};
    struct buf out = {0}, err = {0};
    cJSON *body = cJSON_Parse(pglockd_reply_json(reply));

    put_locks(&out, cJSON_GetObjectItem(body, "locks"), held, FIELD_COUNT(held));
    put_locks(&err, cJSON_GetObjectItem(body, "lost"), lost, FIELD_COUNT(lost));
    fputs(buf_cstr(&out), stdout);
    fputs(buf_cstr(&err), stderr);
    cJSON_Delete(body);
    buf_free(&out);
    buf_free(&err);
}

static int session_main(struct ctl *ctl, const struct opt_words *words)
{
    static const struct {
        const char *name;
        void (*print)(const pglockd_reply *reply);
    } actions[] = {
        {"open", print_opened}, {"keepalive", NULL}, {"resume", print_resumed}, {"close", NULL}};
    pglockd_reply *reply;
    int status = ctl_ask(ctl, "SESSION", words, &reply);

    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (status == CTL_OK && !ctl->json && words->nwords > 0 && actions[i].print &&
            strcasecmp(words->words[0], actions[i].name) == 0)
            actions[i].print(reply);
    pglockd_reply_free(reply);
    return status;
}

const struct command command_session = {
    .name = "session",
    .synopsis = "open [ttl=30s] [owner=NAME] [note=TEXT] [id=KEY] | "
                "keepalive|resume|close ID secret=S",
    .summary = "One TTL for any number of locks",
    .details = "\nopen prints the session and its secret:\n"
               "    read session secret <<EOF\n"
               "    $(pglockctl session open ttl=2m)\n"
               "    EOF\n"
               "    pglockctl lock repo/a.ts session=$session secret=$secret\n"
               "    pglockctl session keepalive $session secret=$secret\n"
               "    pglockctl session close $session secret=$secret\n"
               "resume prints what it holds, and on standard error what it has lost.\n",
    .main = session_main,
};
