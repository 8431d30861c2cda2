#include "config.h"

#include "client/handle.h"
#include "client/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char default_address[] = "127.0.0.1:7432";

enum {
    CONNECT_MS_DEFAULT = 3000,
    REQUEST_MS_DEFAULT = 5000,
    /* A request that waits for long is accompanied by a PING after so much silence. */
    PROBE_AFTER_MS = 5000,
};

int64_t pglockd_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

const char *pglockd_version(void)
{
    return PACKAGE_VERSION;
}

/* ---- errors ---- */

pglockd_status handle_fail(struct pglockd *c, pglockd_status status, const char *code,
                           const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->error, sizeof(c->error), fmt, ap);
    va_end(ap);
    snprintf(c->code, sizeof(c->code), "%s", code);
    return status;
}

static pglockd_status fail_memory(struct pglockd *c)
{
    return handle_fail(c, PGLOCKD_NOMEM, "", "no memory is left");
}

const char *pglockd_error(const pglockd *c)
{
    return c->error;
}

const char *pglockd_error_code(const pglockd *c)
{
    return c->code;
}

bool handle_enter(struct pglockd *c)
{
    c->code[0] = c->error[0] = '\0';
    if (c->owner == getpid())
        return true;
    handle_fail(c, PGLOCKD_INVALID, "", "the handle belongs to process %ld: make one after fork()",
                (long)c->owner);
    return false;
}

/* ---- making and freeing ---- */

pglockd *pglockd_new(const char *addresses)
{
    pglockd *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->owner = getpid();
    c->conn = CONN_INIT;
    c->connect_ms = CONNECT_MS_DEFAULT;
    c->request_ms = REQUEST_MS_DEFAULT;
    c->addresses = strdup(addresses && *addresses ? addresses : default_address);
    if (c->addresses)
        return c;
    free(c);
    return NULL;
}

static void forget_key(struct pglockd *c)
{
    if (c->key)
        explicit_bzero(c->key, strlen(c->key));
    free(c->key);
    c->key = NULL;
}

void pglockd_free(pglockd *c)
{
    if (!c)
        return;
    keeper_free(c->keeper, c->owner != getpid());
    watch_free_all(c->watches);
    conn_close(&c->conn);
    address_list_free(&c->list);
    forget_key(c);
    tls_choice_free(&c->tls);
    free(c->addresses);
    free(c->name);
    free(c);
}

pglockd_status pglockd_set_name(pglockd *c, const char *name)
{
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    char *copy = strdup(name);
    if (!copy)
        return fail_memory(c);
    free(c->name);
    c->name = copy;
    return PGLOCKD_OK;
}

pglockd_status pglockd_set_key(pglockd *c, const char *key)
{
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    forget_key(c);
    if (key && !(c->key = strdup(key)))
        return fail_memory(c);
    return PGLOCKD_OK;
}

static char *text_of(const char *s)
{
    return (char *)(uintptr_t)(s && *s ? s : NULL); /* only to be copied */
}

pglockd_status pglockd_set_tls(pglockd *c, const pglockd_tls_options *o)
{
    struct tls_choice given = {0}, copy;

    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    if (o && o->size < sizeof(*o))
        return handle_fail(c, PGLOCKD_INVALID, "",
                           "the size of the TLS options is not set: use PGLOCKD_TLS_OPTIONS_INIT");
    if (o)
        given = (struct tls_choice){text_of(o->ca_file), text_of(o->cert_file),
                                    text_of(o->key_file), text_of(o->server_name)};
    if (!tls_choice_copy(&copy, &given))
        return fail_memory(c);
    tls_choice_free(&c->tls);
    c->tls = copy;
    return PGLOCKD_OK;
}

void pglockd_set_timeouts(pglockd *c, int connect_ms, int request_ms)
{
    if (connect_ms > 0)
        c->connect_ms = connect_ms;
    if (request_ms > 0)
        c->request_ms = request_ms;
}

void pglockd_on_event(pglockd *c, pglockd_event_fn *fn, void *arg)
{
    c->event_fn = fn;
    c->event_arg = arg;
}

/* ---- connection ---- */

void pglockd_disconnect(pglockd *c)
{
    conn_close(&c->conn);
    c->connected = false;
}

void handle_skip_address(struct pglockd *c)
{
    pglockd_disconnect(c);
    if (c->list.count > 0)
        c->next = (c->next + 1) % c->list.count;
}

const char *pglockd_address(const pglockd *c)
{
    return c->connected ? c->list.items[c->next].text : "";
}

int pglockd_fd(const pglockd *c)
{
    return c->connected ? c->conn.fd : -1;
}

static void remember_bye(struct pglockd *c, const char *json)
{
    int nomem;
    pglockd_reply *r = reply_new(PGLOCKD_OK, json, &nomem);
    if (!r)
        return;
    snprintf(c->bye, sizeof(c->bye), "%s", pglockd_reply_string(r, "message", "it says goodbye"));
    pglockd_reply_free(r);
}

/* The connection failed: closes it. What was in flight has the given status. */
static pglockd_status fail_connection(struct pglockd *c, enum conn_result why,
                                      pglockd_status status)
{
    const char *address = c->list.items[c->next].text;

    if (why == CONN_NOMEM)
        fail_memory(c);
    else if (why == CONN_TOO_LONG)
        handle_fail(c, status, "", "%s sent a line of more than 64 MiB", address);
    else if (why == CONN_LATE)
        handle_fail(c, status, "", "%s did not answer in time", address);
    else if (c->bye[0])
        handle_fail(c, status, "", "%s closed the connection: %s", address, c->bye);
    else if (c->conn.tls && tls_alert(c->conn.tls))
        handle_fail(c, status, "", "%s ended TLS: %s", address, tls_alert(c->conn.tls));
    else
        handle_fail(c, status, "", "%s closed the connection", address);
    handle_skip_address(c);
    return why == CONN_NOMEM ? PGLOCKD_NOMEM : status;
}

/* A reply line into *reply (which may be NULL), and its status; the error text when not OK. */
static pglockd_status take_reply(struct pglockd *c, const struct line_parts *p, int64_t sent_us,
                                 pglockd_reply **reply)
{
    int nomem;
    pglockd_reply *r = reply_new(p->status, p->json, &nomem);
    if (!r && nomem)
        return fail_memory(c);
    if (!r) {
        handle_fail(c, PGLOCKD_PROTOCOL, "", "%s sent a reply that is not JSON",
                    pglockd_address(c));
        handle_skip_address(c);
        return PGLOCKD_PROTOCOL;
    }
    r->sent_us = sent_us;
    if (p->status != PGLOCKD_OK)
        handle_fail(c, p->status, pglockd_reply_string(r, "code", ""), "%s",
                    pglockd_reply_string(r, "message", pglockd_status_name(p->status)));
    pglockd_status status = p->status;
    if (reply)
        *reply = r;
    else
        pglockd_reply_free(r);
    return status;
}

struct exchange {
    const char *tag;
    int64_t sent_us;
    int64_t until_us;
    int64_t heard_us;  /* when the last line came */
    int64_t probed_us; /* when a PING was sent that nothing came after, or 0 */
};

/* When to look up from reading: the end, or the next step of probing. */
static int64_t next_wakeup(const struct pglockd *c, const struct exchange *x)
{
    int64_t at = x->probed_us ? x->probed_us + c->request_ms * INT64_C(1000)
                              : x->heard_us + PROBE_AFTER_MS * INT64_C(1000);
    return at < x->until_us ? at : x->until_us;
}

/* Nothing came for a while: asks whether the daemon is alive, or concludes that it is not. */
static enum conn_result probe(struct pglockd *c, struct exchange *x)
{
    static const char ping[] = "@probe PING\n";
    size_t sent;

    if (x->probed_us || pglockd_now_us() >= x->until_us)
        return CONN_LATE;
    x->probed_us = pglockd_now_us();
    return conn_write(&c->conn, ping, sizeof(ping) - 1, next_wakeup(c, x), &sent);
}

static void take_event(struct pglockd *c, const char *json)
{
    if (c->event_fn)
        c->event_fn(c->event_arg, json);
    watch_take_event(c->watches, json);
}

static bool is_ours(const struct exchange *x, const struct line_parts *p)
{
    /* An untagged reply is an ERR about a line whose tag could not be read, or a farewell. */
    return p->kind == LINE_REPLY &&
           (!p->tag || (p->tag_len == strlen(x->tag) && memcmp(p->tag, x->tag, p->tag_len) == 0));
}

/* Reads until the reply of x; events and BYE are dealt with on the way. */
static pglockd_status await_reply(struct pglockd *c, struct exchange *x, pglockd_reply **reply)
{
    for (;;) {
        char *line;
        enum conn_result r = conn_read_line(&c->conn, next_wakeup(c, x), &line);

        if (r == CONN_LATE) {
            r = probe(c, x);
            if (r == CONN_OK)
                continue;
        }
        if (r != CONN_OK)
            return fail_connection(c, r, PGLOCKD_UNKNOWN);
        x->heard_us = pglockd_now_us();
        x->probed_us = 0;
        struct line_parts p = line_parse(line);
        if (is_ours(x, &p))
            return take_reply(c, &p, x->sent_us, reply);
        if (p.kind == LINE_EVENT)
            take_event(c, p.json);
        else if (p.kind == LINE_BYE)
            remember_bye(c, p.json);
        else if (p.kind == LINE_BAD) {
            handle_fail(c, PGLOCKD_PROTOCOL, "", "%s does not speak the protocol of pglockd",
                        pglockd_address(c));
            handle_skip_address(c);
            return PGLOCKD_PROTOCOL;
        }
    }
}

/* Writes line (with tag in front where it has none yet) and waits for the reply. */
static pglockd_status exchange(struct pglockd *c, const char *line, int64_t wait_ms,
                               pglockd_reply **reply)
{
    char tag[40];
    struct cbuf out = {0};
    int64_t now = pglockd_now_us();
    struct exchange x = {.tag = tag, .sent_us = now, .until_us = INT64_MAX, .heard_us = now};
    size_t sent;

    if (*line == '@') {
        snprintf(tag, sizeof(tag), "%.*s", (int)strcspn(line + 1, " "), line + 1);
        cbuf_printf(&out, "%s\n", line);
    } else {
        snprintf(tag, sizeof(tag), "c%llu", (unsigned long long)++c->last_tag);
        cbuf_printf(&out, "@%s %s\n", tag, line);
    }
    if (out.failed)
        return fail_memory(c);
    if (wait_ms != PGLOCKD_FOREVER)
        x.until_us = now + (wait_ms + c->request_ms) * 1000;
    c->bye[0] = '\0';
    enum conn_result r =
        conn_write(&c->conn, out.data, out.len, now + c->request_ms * INT64_C(1000), &sent);
    cbuf_free(&out);
    if (r != CONN_OK && sent == 0)
        return fail_connection(c, r, PGLOCKD_UNREACHABLE);
    /* A reply may have come although not all could be sent (the line was refused as too long). */
    return await_reply(c, &x, reply);
}

pglockd_status handle_exchange_until(struct pglockd *c, const char *line, int64_t until_us)
{
    int request_ms = c->request_ms;
    int64_t left_ms = (until_us - pglockd_now_us()) / 1000;
    c->request_ms = left_ms > 1 ? (int)left_ms : 1;
    pglockd_status status = exchange(c, line, 0, NULL);
    c->request_ms = request_ms;
    return status;
}

static pglockd_status hello(struct pglockd *c, int64_t until_us)
{
    pglockd_request *r = pglockd_request_new("HELLO");
    if (c->name)
        pglockd_request_value(r, "name", c->name);
    if (c->key)
        pglockd_request_value(r, "key", c->key);
    pglockd_request_int(r, "protocol", 1);
    if (c->event_fn)
        pglockd_request_value(r, "events", "on");
    const char *line = pglockd_request_line(r);
    pglockd_status status = line ? handle_exchange_until(c, line, until_us) : fail_memory(c);
    pglockd_request_free(r);
    return status;
}

/* Another daemon may do what this one refuses: it is overloaded, stopping or not there. */
static bool worth_trying_elsewhere(pglockd_status status, const char *code)
{
    return status == PGLOCKD_UNREACHABLE || status == PGLOCKD_UNKNOWN ||
           status == PGLOCKD_PROTOCOL ||
           (status == PGLOCKD_ERR &&
            (strcmp(code, "unavailable") == 0 || strcmp(code, "too_many_connections") == 0));
}

/* Tries the address c->next; afterwards c->next is behind it unless this worked. */
static pglockd_status connect_one(struct pglockd *c)
{
    int64_t until_us = pglockd_now_us() + c->connect_ms * INT64_C(1000);
    char error[512];

    if (conn_open(&c->conn, &c->list.items[c->next], &c->tls, until_us, error, sizeof(error)) < 0) {
        handle_skip_address(c);
        return handle_fail(c, PGLOCKD_UNREACHABLE, "", "%s", error);
    }
    c->connected = true;
    pglockd_status status = hello(c, until_us);
    if (status == PGLOCKD_OK)
        status = watch_resume(c, until_us);
    if (status != PGLOCKD_OK && c->connected)
        handle_skip_address(c);
    return status;
}

static pglockd_status parse_addresses(struct pglockd *c)
{
    char error[512];
    if (c->list.count > 0)
        return PGLOCKD_OK;
    if (address_list_parse(c->addresses, &c->list, error, sizeof(error)) == 0)
        return PGLOCKD_OK;
    return handle_fail(c, PGLOCKD_INVALID, "bad_address", "%s", error);
}

/* Tries each address once; what was wrong with each is in the error when none works. */
static pglockd_status connect_any(struct pglockd *c)
{
    struct cbuf errors = {0};
    pglockd_status status = PGLOCKD_UNREACHABLE;

    for (size_t i = 0; i < c->list.count && worth_trying_elsewhere(status, c->code); i++) {
        status = connect_one(c);
        cbuf_printf(&errors, "%s%s", i > 0 ? "; " : "", c->error);
    }
    if (status == PGLOCKD_OK)
        c->code[0] = c->error[0] = '\0';
    else if (worth_trying_elsewhere(status, c->code) && cbuf_cstr(&errors))
        status = handle_fail(c, PGLOCKD_UNREACHABLE, "unreachable", "%s", errors.data);
    cbuf_free(&errors);
    return status;
}

static pglockd_status ensure_connected(struct pglockd *c)
{
    pglockd_status status = parse_addresses(c);
    return c->connected || status != PGLOCKD_OK ? status : connect_any(c);
}

pglockd_status pglockd_connect(pglockd *c)
{
    return handle_enter(c) ? ensure_connected(c) : PGLOCKD_INVALID;
}

/* Takes lines that come within until_us. CONN_LATE: the connection stands. */
static enum conn_result take_events(struct pglockd *c, int64_t until_us, bool first_only)
{
    for (;;) {
        char *line;
        enum conn_result r = conn_read_line(&c->conn, until_us, &line);
        if (r != CONN_OK)
            return r;
        struct line_parts p = line_parse(line);
        if (p.kind == LINE_BYE)
            remember_bye(c, p.json);
        if (p.kind != LINE_EVENT)
            continue;
        take_event(c, p.json);
        if (first_only)
            until_us = 0;
    }
}

pglockd_status pglockd_poll(pglockd *c, int timeout_ms)
{
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    pglockd_status status = ensure_connected(c);
    if (status != PGLOCKD_OK)
        return status;
    c->bye[0] = '\0';
    enum conn_result r = take_events(c, pglockd_now_us() + timeout_ms * INT64_C(1000), true);
    return r == CONN_LATE ? PGLOCKD_OK : fail_connection(c, r, PGLOCKD_UNREACHABLE);
}

/* ---- requests ---- */

/*
 * A connection that the daemon closed since the last call is replaced before anything is sent on
 * it: afterwards nobody could tell whether the request was done.
 */
static void drop_stale(struct pglockd *c)
{
    if (c->connected && take_events(c, 0, false) != CONN_LATE)
        handle_skip_address(c);
}

pglockd_status pglockd_call(pglockd *c, const char *line, int64_t wait_ms, pglockd_reply **reply)
{
    if (reply)
        *reply = NULL;
    if (!handle_enter(c))
        return PGLOCKD_INVALID;
    if (strpbrk(line, "\r\n"))
        return handle_fail(c, PGLOCKD_INVALID, "",
                           "a request is one line: it has a line end in it");
    if (wait_ms < 0 && wait_ms != PGLOCKD_FOREVER)
        return handle_fail(c, PGLOCKD_INVALID, "", "a wait is not negative");
    drop_stale(c);
    pglockd_status status = ensure_connected(c);
    return status == PGLOCKD_OK ? exchange(c, line, wait_ms, reply) : status;
}

pglockd_status pglockd_send(pglockd *c, const pglockd_request *r, int64_t wait_ms,
                            pglockd_reply **reply)
{
    const char *line = pglockd_request_line(r);
    if (line)
        return pglockd_call(c, line, wait_ms, reply);
    if (reply)
        *reply = NULL;
    return handle_enter(c) ? fail_memory(c) : PGLOCKD_INVALID;
}

pglockd_status handle_ask(struct pglockd *c, const pglockd_request *r, int64_t wait_ms,
                          bool repeatable, bool *repeated, pglockd_reply **reply)
{
    *repeated = false;
    for (size_t attempt = 1;; attempt++) {
        pglockd_status status = pglockd_send(c, r, wait_ms, reply);
        bool unsure = status == PGLOCKD_UNKNOWN ||
                      (status == PGLOCKD_ERR && strcmp(c->code, "outcome_unknown") == 0);
        bool not_done = status == PGLOCKD_ERR && worth_trying_elsewhere(status, c->code);

        /* A single address gets a second chance: the daemon may just have been restarted. */
        if (attempt >= 2 && attempt >= c->list.count)
            return status;
        if (!not_done && !(unsure && repeatable))
            return status;
        *repeated |= unsure;
        if (c->connected)
            handle_skip_address(c);
        pglockd_reply_free(*reply);
        *reply = NULL;
    }
}
