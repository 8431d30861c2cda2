/*
 * The HTTP side on a real socket: an event loop with http.c and raw client sockets in one process.
 * The clients never block: whoever waits turns the loop, so what is seen does not depend on timing.
 */

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/metrics_process.h"
#include "server/http.h"
#include "server/loop_lag.h"

enum { PATIENCE_MS = 5000 };

static struct ev_loop *loop;
static struct http *http;
static struct http_ready readiness;
static char *const hosts[] = {"good.example", "prom"};

static struct http_later *asked; /* for /api/status, not answered yet */
static char asked_prefix[64];

static void answer_with(struct http_later *later, enum http_end how, const char *text)
{
    struct buf body = {0};

    buf_puts(&body, text);
    http_answer(later, how, &body);
    ck_assert_uint_eq(body.len, 0);
}

/* The prefix "now" is answered at once. */
static void on_status(void *arg, struct str prefix, struct identity *who, struct http_later *later)
{
    (void)arg;
    ck_assert_ptr_null(who);
    snprintf(asked_prefix, sizeof(asked_prefix), "%.*s", (int)prefix.n, prefix.p ? prefix.p : "");
    if (str_is(prefix, "now"))
        answer_with(later, HTTP_END_BAD_REQUEST, "{\"now\":1}\n");
    else
        asked = later;
}

static struct http_ready tell_readiness(void *arg)
{
    return *(struct http_ready *)arg;
}

static struct http_options options_for(const char *host, int request_timeout_ms)
{
    return (struct http_options){
        .host = host,
        .hosts = hosts,
        .nhosts = 2,
        .ready = tell_readiness,
        .arg = &readiness,
        .request_timeout_ms = request_timeout_ms,
    };
}

static void start_with_timeout(int request_timeout_ms)
{
    struct http_options options = options_for("127.0.0.1", request_timeout_ms);
    struct buf err = {0};

    readiness = (struct http_ready){.ready = true, .granting = true};
    loop = ev_loop_new(EVFLAG_AUTO);
    http = http_start(loop, &options, &err);
    ck_assert_msg(http, "%s", buf_cstr(&err));
    buf_free(&err);
}

static void start(void)
{
    start_with_timeout(0);
}

static void start_impatient(void)
{
    start_with_timeout(200);
}

static void start_with_status(void)
{
    struct http_options options = options_for("127.0.0.1", 0);
    struct buf err = {0};

    readiness = (struct http_ready){.ready = true, .granting = true};
    options.status = on_status;
    asked = NULL;
    loop = ev_loop_new(EVFLAG_AUTO);
    http = http_start(loop, &options, &err);
    ck_assert_msg(http, "%s", buf_cstr(&err));
}

static void stop(void)
{
    http_stop(http);
    ev_loop_destroy(loop);
}

/* --- clients --- */

static void turn(void)
{
    ev_run(loop, EVRUN_NOWAIT);
    usleep(200);
}

static int connect_client(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(http_port(http))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* The kernel completes it from the backlog, without the server. */
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

/* Sends as much as the server takes in the given time; returns how much that was. */
static size_t send_some(int fd, const char *data, size_t n, int ms)
{
    int64_t until_us = clock_mono_us() + (int64_t)ms * 1000;
    size_t sent = 0;

    while (sent < n && clock_mono_us() < until_us) {
        ssize_t m = send(fd, data + sent, n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (m < 0 && errno != EAGAIN)
            break;
        if (m > 0)
            sent += (size_t)m;
        turn();
    }
    return sent;
}

/* Appends what comes until the server closes (true) or patience ends (false). */
static bool read_to_end(int fd, struct buf *reply, int ms)
{
    int64_t until_us = clock_mono_us() + (int64_t)ms * 1000;

    while (clock_mono_us() < until_us) {
        char *room = buf_reserve(reply, 4096);
        ssize_t m = recv(fd, room, 4096, MSG_DONTWAIT);
        if (m == 0 || (m < 0 && errno != EAGAIN))
            return true;
        if (m > 0)
            reply->len += (size_t)m;
        else
            turn();
    }
    return false;
}

/* Sends bytes on a connection of its own and returns all that came until the server closed. */
static char *exchange_bytes(const char *request, size_t n)
{
    struct buf reply = {0};
    int fd = connect_client();
    char *text;

    ck_assert_uint_eq(send_some(fd, request, n, PATIENCE_MS), n);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    close(fd);
    text = strdup(buf_cstr(&reply));
    buf_free(&reply);
    return text;
}

static char *exchange(const char *request)
{
    return exchange_bytes(request, strlen(request));
}

#define CLOSE "Host: 127.0.0.1\r\nConnection: close\r\n\r\n"

static char *get(const char *path)
{
    char request[256];

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" CLOSE, path);
    return exchange(request);
}

static int status_of(const char *reply)
{
    const char *prefix = "HTTP/1.1 ";

    ck_assert_msg(strncmp(reply, prefix, strlen(prefix)) == 0, "no HTTP reply: \"%s\"", reply);
    return (int)strtol(reply + strlen(prefix), NULL, 10);
}

static const char *body_of(const char *reply)
{
    const char *end = strstr(reply, "\r\n\r\n");

    ck_assert_msg(end, "no end of headers: \"%s\"", reply);
    return end + 4;
}

static void expect_reply(char *reply, int status, const char *body)
{
    ck_assert_msg(status_of(reply) == status, "not %d: %s", status, reply);
    if (body)
        ck_assert_str_eq(body_of(reply), body);
    free(reply);
}

static void expect_alive(void)
{
    expect_reply(get("/healthz"), 200, "alive\n");
}

/* --- pages --- */

START_TEST(healthz)
{
    char *reply = get("/healthz");

    ck_assert_ptr_nonnull(strstr(reply, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    ck_assert_ptr_nonnull(strstr(reply, "\r\nX-Content-Type-Options: nosniff\r\n"));
    ck_assert_ptr_nonnull(strstr(reply, "\r\nCache-Control: no-store\r\n"));
    expect_reply(reply, 200, "alive\n");
}
END_TEST

START_TEST(metrics)
{
    char *reply;
    const char *body;

    metric_add(M_RECEIVED, 42);
    expect_alive();
    reply = get("/metrics?name%5B%5D=x");
    body = body_of(reply);
    ck_assert_int_eq(status_of(reply), 200);
    ck_assert_ptr_nonnull(
        strstr(reply, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    ck_assert_ptr_nonnull(strstr(body, "\npglockd_received_bytes_total 42\n"));
    ck_assert_ptr_nonnull(strstr(body, "\npglockd_http_requests_total{code=\"200\"} 1\n"));
    ck_assert_int_eq(body[strlen(body) - 1], '\n');
    free(reply);
}
END_TEST

START_TEST(metrics_as_accept_asks)
{
    static const char end[] = "\n# EOF\n";
    char *reply =
        exchange("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n" CLOSE);
    const char *body = body_of(reply);

    ck_assert_int_eq(status_of(reply), 200);
    ck_assert_ptr_nonnull(strstr(reply, "\r\nContent-Type: application/openmetrics-text; "
                                        "version=1.0.0; charset=utf-8\r\n"));
    ck_assert_ptr_nonnull(strstr(reply, "\r\nVary: Accept\r\n"));
    ck_assert_ptr_nonnull(strstr(body, "\n# TYPE pglockd_received_bytes counter\n"));
    ck_assert_str_eq(body + strlen(body) - strlen(end), end);
    free(reply);
    /* In one turn of the loop, too, each gets its own. */
    reply = exchange("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
                     "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
                     "Accept: application/openmetrics-text\r\n\r\n"
                     "GET /metrics HTTP/1.1\r\n" CLOSE);
    body = strstr(reply, "version=0.0.4");
    ck_assert_ptr_nonnull(body);
    body = strstr(body, "version=1.0.0");
    ck_assert_ptr_nonnull(body);
    ck_assert_ptr_nonnull(strstr(body, "version=0.0.4"));
    free(reply);
}
END_TEST

START_TEST(connections_are_counted)
{
    int fd = connect_client();

    expect_alive();
    ck_assert_int_eq(metric_total(M_HTTP_CONNECTIONS), 1);
    close(fd);
    expect_alive();
    for (int i = 0; i < 1000 && metric_total(M_HTTP_CONNECTIONS) > 0; i++)
        turn();
    ck_assert_int_eq(metric_total(M_HTTP_CONNECTIONS), 0);
}
END_TEST

START_TEST(readyz)
{
    expect_reply(get("/readyz"), 200, "ready, granting\n");
    readiness = (struct http_ready){.ready = true, .reason = "quiet period after a failover"};
    expect_reply(get("/readyz"), 200, "ready, not granting: quiet period after a failover\n");
    readiness = (struct http_ready){.reason = "no connection to PostgreSQL"};
    expect_reply(get("/readyz"), 503, "not ready: no connection to PostgreSQL\n");
    readiness = (struct http_ready){.granting = true};
    expect_reply(get("/readyz"), 503, "not ready: no reason known\n");
    expect_alive();
}
END_TEST

static const char *const unknown_paths[] = {
    "/", "/metrics/", "/Metrics", "//metrics", "/metricsx", "/../metrics", "http://x/metrics", "*",
};

START_TEST(unknown_path)
{
    expect_reply(get(unknown_paths[_i]), 404,
                 "Not found: there are /metrics, /healthz and /readyz.\n");
}
END_TEST

static const char *const other_methods[] = {
    "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n" CLOSE,
    "POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n" CLOSE "hello",
    "DELETE /readyz HTTP/1.1\r\n" CLOSE,
    "OPTIONS /metrics HTTP/1.1\r\n" CLOSE,
    "TRACE /metrics HTTP/1.1\r\n" CLOSE,
    "get /metrics HTTP/1.1\r\n" CLOSE,
};

START_TEST(other_method)
{
    char *reply = exchange(other_methods[_i]);

    ck_assert_ptr_nonnull(strstr(reply, "\r\nAllow: GET, HEAD\r\n"));
    expect_reply(reply, 405, "Only GET and HEAD are allowed here.\n");
}
END_TEST

START_TEST(head)
{
    char *reply = exchange("HEAD /healthz HTTP/1.1\r\n" CLOSE);

    ck_assert_ptr_nonnull(strstr(reply, "\r\nContent-Length: 6\r\n"));
    expect_reply(reply, 200, "");
}
END_TEST

START_TEST(a_body_is_ignored)
{
    expect_reply(exchange("GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n" CLOSE "hello"), 200,
                 "alive\n");
}
END_TEST

/* What the next program may take for the end of the body, another may not. */
static const char *const doubtful_ends[] = {
    "PUT /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE "3\r\nabc\r\n0\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" CLOSE,
    "GET /healthz HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n" CLOSE,
    "GET /healthz HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n" CLOSE,
};

START_TEST(doubtful_end)
{
    expect_reply(exchange(doubtful_ends[_i]), 400,
                 "Send no body, or one with a single Content-Length.\n");
}
END_TEST

/* --- Host --- */

static const struct {
    const char *host;
    int status;
} host_cases[] = {
    {"127.0.0.1", 200},
    {"127.0.0.1:7433", 200},
    {"10.1.2.3:80", 200},
    {"[::1]", 200},
    {"[::1]:7433", 200},
    {"[fe80::1234]:1", 200},
    {"localhost", 200},
    {"LocalHost:7433", 200},
    {"localhost.", 200},
    {"good.example", 200},
    {"GOOD.example:7433", 200},
    {"good.example.:1", 200},
    {"prom", 200},
    {"evil.example", 421},
    {"good.example.evil.example", 421},
    {"notgood.example", 421},
    {"localhost.evil.example", 421},
    {"127.0.0.1.evil.example", 421},
    {"127.0.0.1@evil.example", 421},
    {"1.2.3", 421},
    {"0x7f.1", 421},
    {"[::1", 421},
    {"[good.example]", 200}, /* harmless: the name is among hosts */
    {"[evil.example]:1", 421},
    {"[]", 421},
    {".", 421},
    {":7433", 421},
    {"", 421},
};

START_TEST(host)
{
    char request[256];
    char *reply;

    snprintf(request, sizeof(request),
             "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host_cases[_i].host);
    reply = exchange(request);
    ck_assert_msg(status_of(reply) == host_cases[_i].status, "Host: %s\n%s", host_cases[_i].host,
                  reply);
    if (host_cases[_i].status == 421)
        ck_assert_ptr_nonnull(strstr(body_of(reply), "http_hosts"));
    free(reply);
}
END_TEST

START_TEST(host_is_checked_on_every_path)
{
    expect_reply(exchange("GET /no HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n"), 421,
                 "Host \"evil\" is not served here: use an IP address or localhost, or add the "
                 "name to the setting http_hosts.\n");
}
END_TEST

START_TEST(host_missing_or_doubled)
{
    expect_reply(exchange("GET /healthz HTTP/1.0\r\n\r\n"), 200, "alive\n");
    expect_reply(exchange("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), 400, NULL);
    expect_reply(exchange("GET /healthz HTTP/1.1\r\nHost: evil\r\n" CLOSE), 400, NULL);
    expect_reply(exchange("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nhost: evil\r\n"
                          "Connection: close\r\n\r\n"),
                 400, NULL);
}
END_TEST

START_TEST(hosts_can_be_replaced)
{
    static char *const others[] = {"other.example"};
    const char *good = "GET /healthz HTTP/1.0\r\nHost: good.example\r\n\r\n";
    const char *other = "GET /healthz HTTP/1.0\r\nHost: other.example\r\n\r\n";

    expect_reply(exchange(good), 200, NULL);
    expect_reply(exchange(other), 421, NULL);
    http_set_hosts(http, others, 1);
    expect_reply(exchange(good), 421, NULL);
    expect_reply(exchange(other), 200, NULL);
    http_set_hosts(http, NULL, 0);
    expect_reply(exchange(other), 421, NULL);
    expect_alive();
}
END_TEST

/* --- clients that behave oddly --- */

START_TEST(pipelining)
{
    char *reply = exchange("GET /healthz HTTP/1.1\r\nHost: [::1]\r\n\r\n"
                           "GET /nowhere HTTP/1.1\r\nHost: [::1]\r\n\r\n"
                           "GET /readyz HTTP/1.1\r\n" CLOSE);
    const char *first = strstr(reply, "alive\n");
    const char *second = first ? strstr(first, "Not found") : NULL;

    ck_assert_msg(second && strstr(second, "ready, granting\n"), "%s", reply);
    free(reply);
}
END_TEST

START_TEST(keep_alive)
{
    struct buf reply = {0};
    const char *request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = connect_client();

    for (int i = 0; i < 3; i++) {
        buf_clear(&reply);
        ck_assert_uint_eq(send_some(fd, request, strlen(request), PATIENCE_MS), strlen(request));
        ck_assert(!read_to_end(fd, &reply, 50));
        ck_assert_str_eq(body_of(buf_cstr(&reply)), "alive\n");
    }
    close(fd);
    buf_free(&reply);
    expect_alive();
}
END_TEST

START_TEST(half_close)
{
    struct buf reply = {0};
    const char *request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = connect_client();

    ck_assert_int_eq(send(fd, request, strlen(request), 0), (ssize_t)strlen(request));
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    ck_assert_str_eq(body_of(buf_cstr(&reply)), "alive\n");
    close(fd);
    buf_free(&reply);
}
END_TEST

START_TEST(half_a_request_then_closed)
{
    struct buf reply = {0};
    int fd = connect_client();

    ck_assert_uint_eq(send_some(fd, "GET /met", 8, PATIENCE_MS), 8);
    shutdown(fd, SHUT_WR);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    close(fd);
    buf_free(&reply);
    expect_alive();
}
END_TEST

static void flood_head(const char *before, const char *piece)
{
    struct buf request = {0};
    struct buf reply = {0};
    int fd = connect_client();

    buf_puts(&request, before);
    while (request.len < (size_t)16 * HTTP_HEAD_MAX)
        buf_puts(&request, piece);
    send_some(fd, request.data, request.len, 300);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    /* What it said may be lost with unread input in the socket; if it came, it refused. */
    if (reply.len > 0)
        ck_assert_int_ge(status_of(buf_cstr(&reply)), 400);
    close(fd);
    buf_free(&request);
    buf_free(&reply);
    expect_alive();
}

START_TEST(huge_heads)
{
    flood_head("GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "X-Filler: abcdefghijklmnop\r\n");
    flood_head("GET /healthz HTTP/1.1\r\nX-Long: ", "abcdefghijklmnop");
    flood_head("GET /", "abcdefghijklmnop");
    flood_head("", "abcdefghijklmnop");
    flood_head("\r\n", "\r\n\r\n\r\n\r\n");
}
END_TEST

static const struct {
    const char *bytes;
    size_t n;
} garbage[] = {
#define BYTES(s)                                                                                   \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }
    BYTES("\0\0\0\0\r\n\r\n"),
    BYTES("GET /healthz\0evil HTTP/1.1\r\n" CLOSE),
    BYTES("LOCK a ttl=30s\r\n\r\n"),
    BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    BYTES("GET /healthz HTTP/9.9\r\n" CLOSE),
    BYTES("GET /%00%ff%zz HTTP/1.1\r\n" CLOSE),
    BYTES("GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n" CLOSE),
    BYTES("GET /healthz HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" CLOSE),
    BYTES("GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE "zz\r\n"),
    BYTES("GET /healthz HTTP/1.1\r\n: x\r\n" CLOSE),
    BYTES("GET\r\n\r\n"),
    BYTES(" \r\n\r\n"),
};

START_TEST(garbage_is_survived)
{
    struct buf reply = {0};
    int fd = connect_client();

    send_some(fd, garbage[_i].bytes, garbage[_i].n, PATIENCE_MS);
    shutdown(fd, SHUT_WR);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    close(fd);
    buf_free(&reply);
    expect_alive();
}
END_TEST

/* A byte now and then keeps a connection busy, but not alive. */
START_TEST(slow_client)
{
    const char *request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ";
    struct buf reply = {0};
    int64_t began_us = clock_mono_us();
    int fd = connect_client();

    send_some(fd, request, strlen(request), PATIENCE_MS);
    while (!read_to_end(fd, &reply, 20))
        send_some(fd, "x", 1, 1);
    ck_assert_int_ge(clock_mono_us() - began_us, 190000);
    ck_assert_int_lt(clock_mono_us() - began_us, 3000000);
    ck_assert_uint_eq(reply.len, 0);
    close(fd);
    buf_free(&reply);
    expect_alive();
}
END_TEST

START_TEST(idle_client)
{
    const char *request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct buf reply = {0};
    int silent = connect_client();
    int idle = connect_client();

    send_some(idle, request, strlen(request), PATIENCE_MS);
    ck_assert(read_to_end(idle, &reply, PATIENCE_MS));
    ck_assert_str_eq(body_of(buf_cstr(&reply)), "alive\n");
    ck_assert(read_to_end(silent, &reply, PATIENCE_MS));
    close(silent);
    close(idle);
    buf_free(&reply);
}
END_TEST

/* Each request in time: a connection may live for much longer than one request may take. */
START_TEST(each_request_has_its_own_time)
{
    const char *request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct buf reply = {0};
    int fd = connect_client();

    for (int i = 0; i < 5; i++) {
        send_some(fd, request, strlen(request), PATIENCE_MS);
        ck_assert_msg(!read_to_end(fd, &reply, 100), "closed after %d requests", i);
    }
    close(fd);
    buf_free(&reply);
}
END_TEST

/* Turns the loop until no request was answered for so long. */
static void turn_until_quiet(int ms)
{
    int64_t answered = metric_total(M_HTTP_REQUESTS);
    int64_t until_us = clock_mono_us() + (int64_t)ms * 1000;

    while (clock_mono_us() < until_us) {
        turn();
        if (metric_total(M_HTTP_REQUESTS) != answered) {
            answered = metric_total(M_HTTP_REQUESTS);
            until_us = clock_mono_us() + (int64_t)ms * 1000;
        }
    }
}

/* Asks for a great deal and reads nothing: others are served, and it is closed in time. */
START_TEST(client_that_never_reads)
{
    const char *request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct buf requests = {0};
    struct buf reply = {0};
    int fd = connect_client();

    for (int i = 0; i < 20000; i++)
        buf_puts(&requests, request);
    send_some(fd, requests.data, requests.len, 100);
    expect_alive();
    turn_until_quiet(400);
    /* What is answered is what the sockets' buffers hold, not what was asked. */
    ck_assert_int_lt(metric_total(M_HTTP_REQUESTS), 2000);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    close(fd);
    buf_free(&requests);
    buf_free(&reply);
}
END_TEST

START_TEST(connections_are_limited)
{
    int fds[HTTP_CONNECTIONS_MAX];
    const char *request = "GET /healthz HTTP/1.1\r\n" CLOSE;
    struct buf reply = {0};
    int late;

    for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        fds[i] = connect_client();
        turn();
    }
    for (int i = 0; i < 20; i++)
        turn();
    late = connect_client();
    send_some(late, request, strlen(request), PATIENCE_MS);
    ck_assert(!read_to_end(late, &reply, 100));
    ck_assert_uint_eq(reply.len, 0);
    close(fds[7]);
    ck_assert(read_to_end(late, &reply, PATIENCE_MS));
    ck_assert_str_eq(body_of(buf_cstr(&reply)), "alive\n");
    for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        if (i != 7)
            close(fds[i]);
    }
    close(late);
    buf_free(&reply);
    expect_alive();
}
END_TEST

/* stop() closes what is open in every state; the sanitizer looks for what it leaves behind. */
START_TEST(stop_with_open_connections)
{
    const char *partial = "GET /metrics HTTP/1.1\r\nHo";
    const char *unread = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct buf reply = {0};
    int a = connect_client();
    int b = connect_client();
    int c = connect_client();

    send_some(b, partial, strlen(partial), PATIENCE_MS);
    send_some(c, unread, strlen(unread), PATIENCE_MS);
    stop();
    start();
    ck_assert(read_to_end(a, &reply, PATIENCE_MS));
    ck_assert(read_to_end(b, &reply, PATIENCE_MS));
    ck_assert(read_to_end(c, &reply, PATIENCE_MS));
    close(a);
    close(b);
    close(c);
    buf_free(&reply);
    expect_alive();
}
END_TEST

/* --- the listener --- */

START_TEST(address_is_told)
{
    char expected[64];

    ck_assert_uint_ne(http_port(http), 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", http_port(http));
    ck_assert_str_eq(http_address(http), expected);
}
END_TEST

/* What is set aside for HTTP from the limit of open files is enough. */
START_TEST(descriptors_are_accounted_for)
{
    int fds[HTTP_CONNECTIONS_MAX];
    struct http_options options = options_for("127.0.0.1", 0);
    struct buf err = {0};
    int64_t without;

    http_stop(http);
    without = metrics_process_fds_by_poll();
    http = http_start(loop, &options, &err);
    ck_assert_ptr_nonnull(http);
    for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        fds[i] = connect_client();
        turn();
    }
    for (int i = 0; i < 20; i++)
        turn();
    ck_assert_int_eq(metrics_process_fds_by_poll() - without - HTTP_CONNECTIONS_MAX, HTTP_FDS_MAX);
    for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++)
        close(fds[i]);
}
END_TEST

START_TEST(port_taken)
{
    struct http_options options = options_for("127.0.0.1", 0);
    struct buf err = {0};
    char expected[256];

    options.port = http_port(http);
    ck_assert_ptr_null(http_start(loop, &options, &err));
    snprintf(expected, sizeof(expected),
             "cannot listen for HTTP on 127.0.0.1:%u: Address already in use; choose another "
             "address with the setting http, or turn it off with \"off\"",
             options.port);
    ck_assert_str_eq(buf_cstr(&err), expected);
    buf_free(&err);
    expect_alive();
}
END_TEST

START_TEST(address_of_another_machine)
{
    struct http_options options = options_for("192.0.2.1", 0);
    struct buf err = {0};

    ck_assert_ptr_null(http_start(loop, &options, &err));
    ck_assert_str_eq(buf_cstr(&err), "cannot listen for HTTP on 192.0.2.1:0: Cannot assign "
                                     "requested address");
    buf_free(&err);
}
END_TEST

static const char *const wildcard_hosts[] = {"", "*", "0.0.0.0", "localhost"};

START_TEST(wildcards)
{
    struct http_options options = options_for(wildcard_hosts[_i], 0);
    struct buf err = {0};

    http_stop(http);
    http = http_start(loop, &options, &err);
    ck_assert_msg(http, "%s", buf_cstr(&err));
    buf_free(&err);
    if (strcmp(options.host, "localhost") != 0)
        expect_alive();
}
END_TEST

START_TEST(ipv6_address)
{
    struct http_options options = options_for("::1", 0);
    struct buf err = {0};
    char expected[64];
    struct http *six = http_start(loop, &options, &err);

    if (six) {
        snprintf(expected, sizeof(expected), "[::1]:%u", http_port(six));
        ck_assert_str_eq(http_address(six), expected);
    } else {
        /* A machine without IPv6 says so. */
        ck_assert_ptr_nonnull(strstr(buf_cstr(&err), "cannot listen for HTTP on [::1]:0: "));
    }
    http_stop(six);
    buf_free(&err);
}
END_TEST

static void wake_up(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)w;
    (void)revents;
    ev_break(l, EVBREAK_ALL);
}

/* Neither the listener nor an idle connection may wake the loop. */
START_TEST(an_idle_loop_sleeps)
{
    ev_timer timer;
    int fd = connect_client();
    unsigned before;

    for (int i = 0; i < 20; i++)
        turn();
    ev_timer_init(&timer, wake_up, 0.3, 0);
    ev_timer_start(loop, &timer);
    before = ev_iteration(loop);
    ev_run(loop, 0);
    ck_assert_uint_le(ev_iteration(loop) - before, 3);
    close(fd);
}
END_TEST

/* A scrape shows the turns that were long. */
static void be_slow(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l;
    (void)w;
    (void)revents;
    usleep(30000);
}

START_TEST(loop_lag)
{
    ev_timer timer;
    int64_t sum_us;

    loop_lag_start(loop);
    ev_timer_init(&timer, be_slow, 0, 0);
    ev_timer_start(loop, &timer);
    expect_alive();
    loop_lag_stop(loop);
    ck_assert_int_ge(metric_observations(M_LOOP_LAG, 0, &sum_us), 1);
    ck_assert_int_ge(sum_us, 30000);
    ck_assert_int_lt(sum_us, 3000000);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* --- answers that come later --- */

/* Sends GET /api/status and turns the loop until it is asked for. */
static int ask_for_status(const char *query)
{
    char request[256];
    int fd = connect_client();

    snprintf(request, sizeof(request), "GET /api/status%s HTTP/1.1\r\n" CLOSE, query);
    asked = NULL;
    send_some(fd, request, strlen(request), PATIENCE_MS);
    for (int64_t until_us = clock_mono_us() + PATIENCE_MS * 1000; !asked;) {
        ck_assert_int_lt(clock_mono_us(), until_us);
        turn();
    }
    return fd;
}

START_TEST(answered_at_once)
{
    char *reply = get("/api/status?prefix=now&other=x");

    ck_assert_int_eq(status_of(reply), 400);
    ck_assert_str_eq(body_of(reply), "{\"now\":1}\n");
    free(reply);
    expect_alive();
}
END_TEST

START_TEST(answered_later)
{
    struct buf reply = {0};
    int fd = ask_for_status("?prefix=a%2Fb%20c");

    ck_assert_str_eq(asked_prefix, "a/b c");
    expect_alive(); /* others are answered meanwhile */
    answer_with(asked, HTTP_END_UNAVAILABLE, "{}\n");
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    ck_assert_int_eq(status_of(buf_cstr(&reply)), 503);
    ck_assert_str_eq(body_of(buf_cstr(&reply)), "{}\n");
    ck_assert_ptr_nonnull(strstr(buf_cstr(&reply), "Content-Type: application/json\r\n"));
    close(fd);
    buf_free(&reply);
}
END_TEST

START_TEST(answered_when_the_client_is_gone)
{
    int fd = ask_for_status("");

    close(fd);
    expect_alive();
    answer_with(asked, HTTP_END_OK, "{}\n");
    expect_alive();
}
END_TEST

START_TEST(answered_when_http_is_stopped)
{
    struct buf reply = {0};
    int fd = ask_for_status("");
    struct http_later *later = asked;

    http_stop(http);
    ck_assert(read_to_end(fd, &reply, PATIENCE_MS));
    answer_with(later, HTTP_END_OK, "{}\n");
    ev_loop_destroy(loop);
    start_with_status();
    expect_alive();
    close(fd);
    buf_free(&reply);
}
END_TEST

static Suite *http_suite(void)
{
    Suite *suite = suite_create("http");
    TCase *tc = tcase_create("http");
    TCase *impatient = tcase_create("impatient");
    TCase *later = tcase_create("later");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, healthz);
    tcase_add_test(tc, metrics);
    tcase_add_test(tc, metrics_as_accept_asks);
    tcase_add_test(tc, connections_are_counted);
    tcase_add_test(tc, readyz);
    tcase_add_loop_test(tc, unknown_path, 0, COUNT(unknown_paths));
    tcase_add_loop_test(tc, other_method, 0, COUNT(other_methods));
    tcase_add_loop_test(tc, doubtful_end, 0, COUNT(doubtful_ends));
    tcase_add_test(tc, head);
    tcase_add_test(tc, a_body_is_ignored);
    tcase_add_loop_test(tc, host, 0, COUNT(host_cases));
    tcase_add_test(tc, host_is_checked_on_every_path);
    tcase_add_test(tc, host_missing_or_doubled);
    tcase_add_test(tc, hosts_can_be_replaced);
    tcase_add_test(tc, pipelining);
    tcase_add_test(tc, keep_alive);
    tcase_add_test(tc, half_close);
    tcase_add_test(tc, half_a_request_then_closed);
    tcase_add_test(tc, huge_heads);
    tcase_add_loop_test(tc, garbage_is_survived, 0, COUNT(garbage));
    tcase_add_test(tc, connections_are_limited);
    tcase_add_test(tc, stop_with_open_connections);
    tcase_add_test(tc, address_is_told);
    tcase_add_test(tc, descriptors_are_accounted_for);
    tcase_add_test(tc, port_taken);
    tcase_add_test(tc, address_of_another_machine);
    tcase_add_loop_test(tc, wildcards, 0, COUNT(wildcard_hosts));
    tcase_add_test(tc, ipv6_address);
    tcase_add_test(tc, an_idle_loop_sleeps);
    tcase_add_test(tc, loop_lag);
    suite_add_tcase(suite, tc);

    tcase_set_timeout(impatient, 30);
    tcase_add_checked_fixture(impatient, start_impatient, stop);
    tcase_add_test(impatient, slow_client);
    tcase_add_test(impatient, idle_client);
    tcase_add_test(impatient, each_request_has_its_own_time);
    tcase_add_test(impatient, client_that_never_reads);
    suite_add_tcase(suite, impatient);

    tcase_set_timeout(later, 30);
    tcase_add_checked_fixture(later, start_with_status, stop);
    tcase_add_test(later, answered_at_once);
    tcase_add_test(later, answered_later);
    tcase_add_test(later, answered_when_the_client_is_gone);
    tcase_add_test(later, answered_when_http_is_stopped);
    tcase_add_test(later, descriptors_are_accounted_for);
    suite_add_tcase(suite, later);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(http_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
