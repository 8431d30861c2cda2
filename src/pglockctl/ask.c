/* Talking to the daemon, and saying how it went. */

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pglockctl/ctl.h"
#include "pglockctl/text.h"
#include "wire/duration.h"

static void put_error(const char *fmt, va_list ap)
{
    struct buf raw = {0}, safe = {0};

    buf_vprintf(&raw, fmt, ap);
    text_put_safe(&safe, buf_cstr(&raw));
    fprintf(stderr, "pglockctl: %s\n", buf_cstr(&safe));
    buf_free(&raw);
    buf_free(&safe);
}

void ctl_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_error(fmt, ap);
    va_end(ap);
}

int ctl_usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_error(fmt, ap);
    va_end(ap);
    return CTL_BAD_REQUEST;
}

/* The first row that fits decides. code NULL: any. */
static const struct {
    pglockd_status status;
    const char *code;
    int exit_status;
} exit_table[] = {
    {PGLOCKD_OK, NULL, CTL_OK},
    {PGLOCKD_BUSY, NULL, CTL_BUSY},
    {PGLOCKD_TIMEOUT, NULL, CTL_BUSY},
    {PGLOCKD_LIMITED, NULL, CTL_BUSY},
    {PGLOCKD_DEADLOCK, NULL, CTL_BUSY},
    {PGLOCKD_LOST, NULL, CTL_LOST},
    {PGLOCKD_DENIED, NULL, CTL_DENIED},
    {PGLOCKD_ERR, "unavailable", CTL_UNREACHABLE},
    {PGLOCKD_ERR, "outcome_unknown", CTL_UNREACHABLE},
    {PGLOCKD_ERR, "too_many_connections", CTL_UNREACHABLE},
    {PGLOCKD_ERR, "too_many_waiters", CTL_BUSY},
    {PGLOCKD_ERR, "too_many_leases", CTL_BUSY},
    {PGLOCKD_ERR, "too_many_sessions", CTL_BUSY},
    {PGLOCKD_ERR, "internal", CTL_UNREACHABLE},
    {PGLOCKD_ERR, "cancelled", CTL_BUSY},
    {PGLOCKD_ERR, "fenced", CTL_BUSY},
    {PGLOCKD_ERR, NULL, CTL_BAD_REQUEST},
    {PGLOCKD_INVALID, NULL, CTL_BAD_REQUEST},
};

int ctl_exit_status(const struct ctl *ctl, pglockd_status status, const char *code)
{
    for (size_t i = 0; i < sizeof(exit_table) / sizeof(exit_table[0]); i++) {
        if (exit_table[i].status != status)
            continue;
        if (exit_table[i].code && strcmp(exit_table[i].code, code) != 0)
            continue;
        int found = exit_table[i].exit_status;
        return found == CTL_BUSY ? (int)ctl->busy_status : found;
    }
    return CTL_UNREACHABLE;
}

void ctl_put_name(const struct ctl *ctl, struct buf *out)
{
    char host[256] = "";
    const struct passwd *pw = getpwuid(geteuid());

    if (ctl->name) {
        buf_puts(out, ctl->name);
        return;
    }
    (void)gethostname(host, sizeof(host) - 1);
    if (pw)
        buf_puts(out, pw->pw_name);
    else
        buf_printf(out, "uid%lu", (unsigned long)geteuid());
    buf_printf(out, "@%s", host);
}

static char *read_key(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;

    if (!file) {
        ctl_error("cannot open the key file %s: %s", path, strerror(errno));
        exit(CTL_CONFIG);
    }
    ssize_t n = getline(&line, &size, file);
    fclose(file);
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        line[--n] = '\0';
    if (n > 0)
        return line;
    ctl_error("the key file %s is empty: its first line is the key", path);
    exit(CTL_CONFIG);
}

const char *ctl_key(const struct ctl *ctl)
{
    static char *key;

    if (!key && ctl->key_file)
        key = read_key(ctl->key_file);
    return key;
}

pglockd *ctl_client(const struct ctl *ctl)
{
    struct buf name = {0};
    pglockd *c = pglockd_new(ctl->connect);

    ctl_put_name(ctl, &name);
    if (!c || pglockd_set_name(c, buf_cstr(&name)) != PGLOCKD_OK ||
        pglockd_set_key(c, ctl_key(ctl)) != PGLOCKD_OK ||
        pglockd_set_tls(c, &ctl->tls) != PGLOCKD_OK) {
        ctl_error("no memory is left");
        exit(CTL_UNREACHABLE);
    }
    buf_free(&name);
    return c;
}

int ctl_fail(const struct ctl *ctl, pglockd *c, pglockd_status status)
{
    ctl_error("%s", pglockd_error(c));
    if (status == PGLOCKD_INVALID && ctl->connect_from_env)
        return CTL_CONFIG;
    return ctl_exit_status(ctl, status, pglockd_error_code(c));
}

/* How long the request itself may take; a wait= that is no duration is for the daemon to refuse. */
static int64_t wait_of(const struct opt_words *words)
{
    const char *wait = ctl_word_value(words, "wait");
    int64_t ms;

    if (!wait || duration_parse(str_of(wait), 1, &ms) != NULL)
        return 0;
    return ms == DURATION_INF ? PGLOCKD_FOREVER : ms;
}

pglockd_status ctl_call(pglockd *c, const char *verb, const struct opt_words *words,
                        pglockd_reply **reply)
{
    struct buf line = {0};

    ctl_put_line(&line, verb, words);
    pglockd_status status = pglockd_call(c, buf_cstr(&line), wait_of(words), reply);
    buf_free(&line);
    return status;
}

int ctl_finish(const struct ctl *ctl, pglockd *c, pglockd_status status, pglockd_reply **reply)
{
    if (ctl->json && *reply)
        puts(pglockd_reply_json(*reply));
    if (status == PGLOCKD_OK)
        return CTL_OK;
    int exit_status = ctl_fail(ctl, c, status);
    pglockd_reply_free(*reply);
    *reply = NULL;
    return exit_status;
}

int ctl_ask(const struct ctl *ctl, const char *verb, const struct opt_words *words,
            pglockd_reply **reply)
{
    pglockd *c = ctl_client(ctl);
    int exit_status = ctl_finish(ctl, c, ctl_call(c, verb, words, reply), reply);

    pglockd_free(c);
    return exit_status;
}

int ctl_ask_quietly(const struct ctl *ctl, const char *verb, const struct opt_words *words)
{
    pglockd_reply *reply;
    int exit_status = ctl_ask(ctl, verb, words, &reply);
    pglockd_reply_free(reply);
    return exit_status;
}
