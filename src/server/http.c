#include "server/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/metrics_text.h"
#include "base/xalloc.h"
#include "server/status_page.h"
#include "server/tls.h"

/* Every status that we answer with, once: its number and its name as a label. */
#define HTTP_CODES(X) X(200) X(400) X(401) X(403) X(404) X(405) X(421) X(429) X(503)

enum code {
#define CODE_INDEX(number) CODE_##number,
    HTTP_CODES(CODE_INDEX)
};

static const unsigned code_numbers[] = {
#define CODE_NUMBER(number) [CODE_##number] = (number),
    HTTP_CODES(CODE_NUMBER)};

static const char *const code_names[] = {
#define CODE_NAME(number) [CODE_##number] = #number,
    HTTP_CODES(CODE_NAME)};

enum { TEXT_MAX = NI_MAXHOST + 16, NONCE_BYTES = 16 };

/* A page as it was in one turn of the loop, for all who ask for it in that turn. */
struct rendering {
    const struct page *page;
    const struct identity *who; /* of struct visit */
    unsigned turn;
    enum code code;
    struct MHD_Response *response;
};

struct http {
    struct ev_loop *loop;
    struct MHD_Daemon *daemon;
    ev_io readable; /* MHD's epoll descriptor */
    ev_timer again; /* MHD has work left that no descriptor will tell of */
    struct http_ready (*ready)(void *arg);
    enum http_access (*authorize)(void *arg, struct str header, const char *address,
                                  struct identity **who);
    void (*status)(void *arg, struct str prefix, struct identity *who, struct http_later *later);
    void *arg;
    char **hosts;
    size_t nhosts;
    double request_timeout_s;
    struct list clients;
    struct list suspended;           /* struct http_later: requests that are not answered yet */
    char nonce[2 * NONCE_BYTES + 1]; /* of the status page that was rendered last */
    bool client_closed;              /* in this run */
    struct rendering last;
    uint16_t port;
    char address[TEXT_MAX];
};

struct client {
    struct list link; /* in http->clients */
    ev_timer deadline;
    int fd;
    bool end_told;
};

/* --- pages --- */

/* A request for a page, while it is answered. */
struct visit {
    struct http *http;
    struct identity *who; /* whose rights say what is shown; NULL: everything may be */
};

/* Of two pages with one path, the first is for whose Accept header asks for it. */
struct page {
    const char *path;
    bool open; /* to all; else it needs a key where auth is on */
    const char *type;
    enum code (*fill)(const struct visit *v, struct buf *body); /* NULL: it is answered later */
    bool (*accepted)(const char *accept);                       /* NULL: always */
    bool status;                                                /* only where there is one */
};

static enum code fill_metrics(const struct visit *v, struct buf *body)
{
    (void)v;
    metrics_put_text(body, METRICS_PROMETHEUS);
    return CODE_200;
}

static enum code fill_openmetrics(const struct visit *v, struct buf *body)
{
    (void)v;
    metrics_put_text(body, METRICS_OPENMETRICS);
    return CODE_200;
}

static bool accepts_openmetrics(const char *accept)
{
    return metrics_accepted(accept) == METRICS_OPENMETRICS;
}

static enum code fill_healthz(const struct visit *v, struct buf *body)
{
    (void)v;
    buf_puts(body, "alive\n");
    return CODE_200;
}

static enum code fill_readyz(const struct visit *v, struct buf *body)
{
    struct http_ready state = v->http->ready(v->http->arg);
    const char *reason = state.reason ? state.reason : "no reason known";

    if (!state.ready)
        buf_printf(body, "not ready: %s\n", reason);
    else if (!state.granting)
        buf_printf(body, "ready, not granting: %s\n", reason);
    else
        buf_puts(body, "ready, granting\n");
    return state.ready ? CODE_200 : CODE_503;
}

/* Who opens the page gets a nonce that nobody could know before. */
static enum code fill_status_page(const struct visit *v, struct buf *body)
{
    char *nonce = v->http->nonce;
    unsigned char bytes[NONCE_BYTES];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        buf_puts(body, "No random numbers can be had.\n");
        return CODE_503;
    }
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(nonce + 2 * i, 3, "%02x", bytes[i]);
    status_page_put(body, nonce);
    return CODE_200;
}

#define TEXT_PLAIN "text/plain; charset=utf-8"

static const struct page pages[] = {
    {"/metrics", true, "application/openmetrics-text; version=1.0.0; charset=utf-8",
     fill_openmetrics, accepts_openmetrics, false},
    {"/metrics", true, "text/plain; version=0.0.4; charset=utf-8", fill_metrics, NULL, false},
    {"/healthz", true, TEXT_PLAIN, fill_healthz, NULL, false},
    {"/readyz", true, TEXT_PLAIN, fill_readyz, NULL, false},
    {"/", false, "text/html; charset=utf-8", fill_status_page, NULL, true},
    {"/api/status", false, "application/json", NULL, NULL, true},
};

static const struct page *page_find(const struct http *http, struct MHD_Connection *c,
                                    const char *path)
{
    const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);

    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        if (strcmp(pages[i].path, path) == 0 && (!pages[i].accepted || pages[i].accepted(accept)) &&
            (!pages[i].status || http->status))
            return &pages[i];
    }
    return NULL;
}

/* --- replies --- */

/* Takes the contents of body, which is empty afterwards. */
static struct MHD_Response *response_of(struct buf *body, const char *type)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_FREE);

    if (!r) {
        buf_free(body);
        return NULL;
    }
    *body = (struct buf){0};
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(r, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    return r;
}

/* MHD_NO makes libmicrohttpd close the connection: all that is left when memory has run out. */
static enum MHD_Result queue(struct MHD_Connection *c, enum code code, struct MHD_Response *r)
{
    if (!r)
        return MHD_NO;
    metric_add1(M_HTTP_REQUESTS, code, 1);
    return MHD_queue_response(c, code_numbers[code], r);
}

static enum MHD_Result reply_text(struct MHD_Connection *c, enum code code, struct buf *text)
{
    struct MHD_Response *r = response_of(text, TEXT_PLAIN);
    enum MHD_Result result;

    if (r && code == CODE_405)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (r && code == CODE_401) {
        MHD_add_response_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"pglockd\"");
        MHD_add_response_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                                "Basic realm=\"pglockd\", charset=\"UTF-8\"");
    }
    if (r && code == CODE_429)
        MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "60");
    result = queue(c, code, r);
    if (r)
        MHD_destroy_response(r);
    return result;
}

static void add_policy(const struct http *http, struct MHD_Response *r)
{
    struct buf policy = {0};

    status_page_put_policy(&policy, http->nonce);
    MHD_add_response_header(r, "Content-Security-Policy", buf_cstr(&policy));
    MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    buf_free(&policy);
}

/* Rendered once a turn however often it is asked for, so that pipelining cannot stall the loop. */
static enum MHD_Result reply_page(const struct visit *v, struct MHD_Connection *c,
                                  const struct page *page)
{
    struct rendering *last = &v->http->last;
    unsigned turn = ev_iteration(v->http->loop);

    if (!last->response || last->page != page || last->who != v->who || last->turn != turn) {
        struct buf body = {0};

        if (last->response)
            MHD_destroy_response(last->response);
        last->page = page;
        last->who = v->who;
        last->turn = turn;
        last->code = page->fill(v, &body);
        last->response = response_of(&body, page->type);
        if (last->response && page->fill == fill_status_page)
            add_policy(v->http, last->response);
    }
    return queue(c, last->code, last->response);
}

/* --- Host --- */

/* The name or address in a Host header: without the port, and without the brackets of IPv6. */
static struct str host_part(struct str s)
{
    const char *end;

    if (s.n > 0 && *s.p == '[') {
        end = memchr(s.p, ']', s.n);
        return end ? (struct str){s.p + 1, (size_t)(end - s.p) - 1} : s;
    }
    end = s.n > 0 ? memchr(s.p, ':', s.n) : NULL;
    return end ? (struct str){s.p, (size_t)(end - s.p)} : s;
}

/* Only the forms that a browser writes; others such as 0x7f.1 never reach a Host header. */
static bool is_ip_literal(struct str host)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];

    if (host.n == 0 || host.n >= sizeof(text))
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static bool host_allowed(const struct http *http, struct str header)
{
    struct str host = host_part(header);

    if (is_ip_literal(host))
        return true;
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    if (str_is_nocase(host, "localhost"))
        return true;
    for (size_t i = 0; i < http->nhosts; i++) {
        if (str_is_nocase(host, http->hosts[i]))
            return true;
    }
    return false;
}

struct header {
    const char *name;
    const char *value;
    int count;
};

static enum MHD_Result collect_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                      const char *value)
{
    struct header *found = cls;

    (void)kind;
    if (strcasecmp(key, found->name) == 0) {
        found->value = value;
        found->count++;
    }
    return MHD_YES;
}

static struct header find_header(struct MHD_Connection *c, const char *name)
{
    struct header found = {.name = name};

    MHD_get_connection_values(c, MHD_HEADER_KIND, collect_header, &found);
    return found;
}

/*
 * CODE_200, or the status to refuse with and one sentence in why. No Host at all is for HTTP/1.0
 * only: load balancers' checks send none, browsers always do.
 */
static enum code check_host(const struct http *http, struct MHD_Connection *c, const char *version,
                            struct buf *why)
{
    struct header host = find_header(c, MHD_HTTP_HEADER_HOST);

    if (host.count > 1) {
        buf_puts(why, "The request has more than one Host header.\n");
        return CODE_400;
    }
    if (host.count == 0 && strcmp(version, MHD_HTTP_VERSION_1_0) != 0) {
        buf_puts(why, "The request has no Host header.\n");
        return CODE_400;
    }
    if (host.count == 0 || host_allowed(http, str_of(host.value)))
        return CODE_200;
    buf_printf(why,
               "Host %s is not served here: use an IP address or localhost, or add the name to "
               "the setting http_hosts.\n",
               log_quote(str_of(host.value)));
    return CODE_421;
}

/* --- keys --- */

static void put_client_address(struct MHD_Connection *c, char out[static NI_MAXHOST])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *sa = info ? info->client_addr : NULL;
    socklen_t len =
        sa && sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    if (!sa || getnameinfo(sa, len, out, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(out, NI_MAXHOST, "unknown");
}

/* CODE_200, and v->who is known; or the status to refuse with and one sentence in why. */
static enum code check_key(struct visit *v, struct MHD_Connection *c, struct buf *why)
{
    const struct http *http = v->http;
    struct header key = find_header(c, MHD_HTTP_HEADER_AUTHORIZATION);
    char address[NI_MAXHOST];

    if (key.count > 1) {
        buf_puts(why, "The request has more than one Authorization header.\n");
        return CODE_400;
    }
    put_client_address(c, address);
    switch (http->authorize(http->arg, str_of(key.value), address, &v->who)) {
    case HTTP_ALLOWED:
        return CODE_200;
    case HTTP_FORBIDDEN:
        buf_puts(why, "The name of this key has no right to read anything.\n");
        return CODE_403;
    case HTTP_SLOW_DOWN:
        buf_puts(why, "Too many wrong keys came from this address: wait a minute.\n");
        return CODE_429;
    case HTTP_UNCONFIRMED:
        buf_puts(why, "Keys cannot be checked now: the database does not answer.\n");
        return CODE_503;
    default:
        buf_puts(why, "This needs a key: as a Bearer token, or as the password of any user.\n");
        return CODE_401;
    }
}

/* --- answers that come later --- */

/*
 * From the request to the end of its answer. Unless that is there at once, libmicrohttpd suspends
 * the connection, and then asks again for the same request: that is when the answer is queued.
 */
struct http_later {
    struct list link; /* in http->suspended */
    struct http *http;
    struct MHD_Connection *connection; /* NULL: it is closed */
    enum code code;
    struct MHD_Response *response;
    bool answered;
    bool suspended;
};

static void later_free(struct http_later *later)
{
    if (later->response)
        MHD_destroy_response(later->response);
    free(later);
}

static enum MHD_Result reply_later(const struct visit *v, struct MHD_Connection *c, void **request)
{
    struct http *http = v->http;
    struct http_later *later = xcalloc(1, sizeof(*later));

    later->http = http;
    later->connection = c;
    list_init(&later->link);
    *request = later;
    http->status(http->arg, str_of(MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "prefix")),
                 v->who, later);
    if (later->answered)
        return queue(c, later->code, later->response);
    list_append(&http->suspended, &later->link);
    later->suspended = true;
    MHD_suspend_connection(c);
    return MHD_YES;
}

static void later_resume(struct http_later *later)
{
    struct http *http = later->http;

    list_remove(&later->link);
    later->suspended = false;
    MHD_resume_connection(later->connection);
    ev_timer_stop(http->loop, &http->again);
    ev_timer_set(&http->again, 0, 0);
    ev_timer_start(http->loop, &http->again);
}

void http_answer(struct http_later *later, enum http_end how, struct buf *body)
{
    static const enum code codes[] = {
        [HTTP_END_OK] = CODE_200,
        [HTTP_END_BAD_REQUEST] = CODE_400,
        [HTTP_END_FORBIDDEN] = CODE_403,
        [HTTP_END_UNAVAILABLE] = CODE_503,
    };

    if (!later->connection) {
        buf_free(body);
        free(later);
        return;
    }
    later->code = codes[how];
    later->response = response_of(body, "application/json");
    later->answered = true;
    if (later->suspended)
        later_resume(later);
}

/* libmicrohttpd must not be stopped while it has suspended connections. */
static void abandon_suspended(struct http *http)
{
    while (!list_empty(&http->suspended))
        later_resume(list_first(&http->suspended, struct http_later, link));
}

/* The request is over. Who is to answer it may not know yet. */
static void later_closed(struct http_later *later)
{
    if (later->answered)
        later_free(later);
    else
        later->connection = NULL;
}

/* --- requests --- */

static enum MHD_Result answer(struct http *http, struct MHD_Connection *c, const char *path,
                              const char *method, const char *version, void **request)
{
    const struct page *page = page_find(http, c, path);
    struct visit visit = {.http = http};
    struct buf text = {0};
    enum code code = check_host(http, c, version, &text);

    if (code == CODE_200 && http->authorize && !(page && page->open))
        code = check_key(&visit, c, &text);
    if (code != CODE_200)
        return reply_text(c, code, &text);
    if (!page) {
        buf_printf(&text, "Not found: there are %s/metrics, /healthz and /readyz.\n",
                   http->status ? "/, /api/status, " : "");
        return reply_text(c, CODE_404, &text);
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        buf_puts(&text, "Only GET and HEAD are allowed here.\n");
        return reply_text(c, CODE_405, &text);
    }
    return page->fill ? reply_page(&visit, c, page) : reply_later(&visit, c, request);
}

/*
 * Where a body ends, two programs may see differently, and what one takes for a body the other
 * takes for the next request. No page wants a body: who sends one in more than one way is refused,
 * and since its body was not read the connection ends with that.
 */
static enum MHD_Result count_framing(void *cls, enum MHD_ValueKind kind, const char *key,
                                     const char *value)
{
    int *doubts = cls;

    (void)kind;
    if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0)
        *doubts += value[strspn(value, "0123456789")] == '\0' ? 1 : 2;
    else if (strncasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING,
                         strlen(MHD_HTTP_HEADER_TRANSFER_ENCODING)) == 0)
        *doubts += 2;
    return MHD_YES;
}

static bool has_doubtful_end(struct MHD_Connection *c)
{
    int doubts = 0;

    MHD_get_connection_values(c, MHD_HEADER_KIND, count_framing, &doubts);
    return doubts > 1;
}

static enum MHD_Result refuse_doubtful(struct MHD_Connection *c)
{
    struct buf text = {0};

    buf_puts(&text, "Send no body, or one with a single Content-Length.\n");
    return reply_text(c, CODE_400, &text);
}

/*
 * libmicrohttpd calls this after the headers, then for each piece of the body, then at its end.
 * A body means nothing to us and is thrown away; *request tells the first call from the others, and
 * is the http_later of a request that was suspended.
 */
static char headers_seen;

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_len, void **request)
{
    (void)body;
    if (!*request) {
        *request = &headers_seen;
        return has_doubtful_end(c) ? refuse_doubtful(c) : MHD_YES;
    }
    if (*body_len > 0) {
        *body_len = 0;
        return MHD_YES;
    }
    if (*request != &headers_seen) {
        struct http_later *later = *request;
        return queue(c, later->code, later->response);
    }
    return answer(cls, c, path, method, version, request);
}

/* --- connections --- */

/* libmicrohttpd notices the shutdown as an event of the socket and closes the connection. */
static void on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct client *client = w->data;

    (void)revents;
    ev_timer_stop(loop, w);
    shutdown(client->fd, SHUT_RDWR);
    log_debug("http_timeout", "fd=%d", client->fd);
}

static void client_open(struct http *http, struct MHD_Connection *c, void **context)
{
    struct client *client = xcalloc(1, sizeof(*client));

    client->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    ev_init(&client->deadline, on_deadline);
    client->deadline.repeat = http->request_timeout_s;
    client->deadline.data = client;
    ev_timer_again(http->loop, &client->deadline);
    list_append(&http->clients, &client->link);
    metric_add(M_HTTP_CONNECTIONS, 1);
    *context = client;
}

static void client_close(struct http *http, struct client *client)
{
    list_remove(&client->link);
    metric_add(M_HTTP_CONNECTIONS, -1);
    ev_timer_stop(http->loop, &client->deadline);
    free(client);
    http->client_closed = true;
}

static void on_connection(void *cls, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http *http = cls;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        client_open(http, c, context);
        return;
    }
    client_close(http, *context);
    *context = NULL;
}

/* The next request on the same connection has its own time. */
static void on_completed(void *cls, struct MHD_Connection *c, void **request,
                         enum MHD_RequestTerminationCode how)
{
    struct http *http = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct client *client = info->socket_context;

    if (*request && *request != &headers_seen)
        later_closed(*request);
    *request = NULL;
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        ev_timer_again(http->loop, &client->deadline);
}

/* --- the loop --- */

/*
 * libmicrohttpd waits for edges, and does not look for the end of input when it came together with
 * the last of the data: such a client would keep its place until its time is up. Shutting down the
 * reading side, which has ended anyway, makes another edge.
 */
static void tell_end_of_input(struct http *http)
{
    char byte;

    list_for_each(link, &http->clients)
    {
        struct client *client = container_of(link, struct client, link);

        if (client->end_told || recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
            continue;
        client->end_told = true;
        shutdown(client->fd, SHUT_RD);
    }
}

/*
 * After a run in which a connection was closed it wants another one, though it does not say so: at
 * the limit of connections, only the next run listens again.
 */
static void run(struct http *http)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    http->client_closed = false;
    MHD_run(http->daemon);
    tell_end_of_input(http);
    ev_timer_stop(http->loop, &http->again);
    if (MHD_get_timeout(http->daemon, &ms) == MHD_YES || http->client_closed) {
        ev_timer_set(&http->again, http->client_closed ? 0 : (double)ms / 1000, 0);
        ev_timer_start(http->loop, &http->again);
    }
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    (void)revents;
    run(w->data);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    run(w->data);
}

/* What the library says is about single clients: for debugging only. */
__attribute__((format(printf, 2, 0))) static void on_library_log(void *cls, const char *fmt,
                                                                 va_list ap)
{
    char text[256];

    (void)cls;
    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_debug("http_library", "text=%s", log_quote(str_of(text)));
}

/* --- start and stop --- */

static int listen_socket(const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    int saved;

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, HTTP_CONNECTIONS_MAX) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void put_host_port(char out[static TEXT_MAX], const char *host, unsigned port)
{
    snprintf(out, TEXT_MAX, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

/* A listening socket, or -1 and one sentence in err. */
static int listen_on(const char *host, uint16_t port, struct buf *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    char where[TEXT_MAX];
    int fd = -1;
    int gai;

    put_host_port(where, *host ? host : "*", port);
    snprintf(service, sizeof(service), "%u", port);
    gai =
        getaddrinfo(*host == '\0' || strcmp(host, "*") == 0 ? NULL : host, service, &hints, &found);
    if (gai != 0) {
        buf_printf(err, "cannot listen for HTTP on %s: %s", where, gai_strerror(gai));
        return -1;
    }
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = listen_socket(a);
    if (fd < 0)
        buf_printf(
            err, "cannot listen for HTTP on %s: %s%s", where, strerror(errno),
            errno == EADDRINUSE
                ? "; choose another address with the setting http, or turn it off with \"off\""
                : "");
    freeaddrinfo(found);
    return fd;
}

/* Finds out which address and port the socket really has. */
static bool learn_address(struct http *http, int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    char host[NI_MAXHOST];
    char service[8];

    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0 ||
        getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    http->port = (uint16_t)strtoul(service, NULL, 10);
    put_host_port(http->address, host, http->port);
    return true;
}

/* On success libmicrohttpd owns fd. */
static bool start_daemon(struct http *http, int fd, bool tls)
{
    const struct MHD_OptionItem https[] = {
        {MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, tls_http_callback()},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)tls_http_priorities()},
        {MHD_OPTION_END, 0, NULL},
    };
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};

    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME | (tls ? MHD_USE_TLS : 0), 0,
        NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEAD_MAX, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_ARRAY,
        tls ? https : none, MHD_OPTION_END);
    return http->daemon != NULL;
}

static void watch(struct http *http)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    ev_io_init(&http->readable, on_readable, info->epoll_fd, EV_READ);
    http->readable.data = http;
    ev_io_start(http->loop, &http->readable);
    ev_init(&http->again, on_again);
    http->again.data = http;
}

static void free_hosts(struct http *http)
{
    for (size_t i = 0; i < http->nhosts; i++)
        free(http->hosts[i]);
    free(http->hosts);
}

void http_set_hosts(struct http *http, char *const *hosts, size_t nhosts)
{
    free_hosts(http);
    http->hosts = xcalloc(nhosts + 1, sizeof(*http->hosts));
    http->nhosts = nhosts;
    for (size_t i = 0; i < nhosts; i++)
        http->hosts[i] = xstrdup(hosts[i]);
}

static void http_free(struct http *http)
{
    free_hosts(http);
    free(http);
}

struct http *http_start(struct ev_loop *loop, const struct http_options *options, struct buf *err)
{
    struct http *http;
    int fd = listen_on(options->host, options->port, err);

    if (fd < 0)
        return NULL;
    http = xcalloc(1, sizeof(*http));
    http->loop = loop;
    list_init(&http->clients);
    list_init(&http->suspended);
    http->ready = options->ready;
    http->authorize = options->authorize;
    http->status = options->status;
    http->arg = options->arg;
    http->request_timeout_s =
        (options->request_timeout_ms ? options->request_timeout_ms : HTTP_REQUEST_TIMEOUT_MS) /
        1000.0;
    http_set_hosts(http, options->hosts, options->nhosts);
    if (!learn_address(http, fd) || !start_daemon(http, fd, options->tls)) {
        buf_printf(err, "cannot start HTTP on port %u: %s", options->port, strerror(errno));
        close(fd);
        http_free(http);
        return NULL;
    }
    metrics_label_names(LABEL_HTTP_CODE, code_names, sizeof(code_names) / sizeof(*code_names));
    watch(http);
    return http;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    ev_io_stop(http->loop, &http->readable);
    abandon_suspended(http);
    ev_timer_stop(http->loop, &http->again);
    MHD_stop_daemon(http->daemon);
    if (http->last.response)
        MHD_destroy_response(http->last.response);
    http_free(http);
}

const char *http_address(const struct http *http)
{
    return http->address;
}

uint16_t http_port(const struct http *http)
{
    return http->port;
}
