/*
 * The client library against a server in a thread, whose answers each test writes itself: time
 * limits, events, farewells, other addresses, renewal, fork.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/pglockd.h"
#include "unit.h"

/* No machine is so slow that patience ends, or that what ends in time takes as long as ages. */
enum {
    CLIENTS_MAX = 16,
    SECOND_US = 1000000,
    AGES_US = 40 * SECOND_US,
    PATIENCE_MS = 60000,
    IMPATIENCE_MS = 300,
};

/*
 * Leases that live for long and are due soon: with a TTL of a minute, those that have 41 s left are
 * renewed in a second. So no machine is too slow to keep them, and none has to be waited for long.
 */
enum { LONG_TTL_MS = 60000, DUE_SOON_MS = 41000, KEPT_LEASES = 200 };

static void pause_ms(int ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

/* ---- the server ---- */

struct server;

/* Writes what line is answered with into out (without the tag, which comes by itself). */
typedef void answer_fn(struct server *s, const char *line, char *out, size_t size);

struct server {
    int listener;
    char address[64];
    answer_fn *answer;
    pthread_t thread;
    int stop[2];
    int clients[CLIENTS_MAX];
    _Atomic int accepted, renewals;
    _Atomic bool silent;
    _Atomic int64_t ttl_ms;
};

static void usual(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "LOCK", 4) == 0)
        snprintf(out, size,
                 "OK {\"token\":9007199254740991,\"ttl_ms\":%" PRId64 ",\"waited_ms\":40}",
                 s->ttl_ms);
    else if (strncmp(line, "RENEW", 5) == 0)
        snprintf(out, size, "OK {\"ttl_ms\":%" PRId64 "}", s->ttl_ms);
    else
        snprintf(out, size, "OK {}");
}

static void answer_line(struct server *s, int fd, char *line)
{
    char body[512] = "", reply[640], *verb = line;
    int tag = 0;

    if (*line == '@') {
        tag = (int)strcspn(line, " ") + 1;
        verb = line + tag;
    }
    if (strncmp(verb, "RENEW", 5) == 0)
        s->renewals++;
    if (s->silent)
        return;
    s->answer(s, verb, body, sizeof(body));
    if (!*body)
        return;
    /* A body that begins with "!" goes out as it stands, and ends the connection with "!!". */
    if (*body == '!')
        snprintf(reply, sizeof(reply), "%s", body + strspn(body, "!"));
    else
        snprintf(reply, sizeof(reply), "%.*s%s\n", tag, line, body);
    ck_assert_int_ge(send(fd, reply, strlen(reply), MSG_NOSIGNAL), 0);
    if (strncmp(body, "!!", 2) == 0)
        shutdown(fd, SHUT_RDWR);
}

/* Requests come whole: the library writes each with one call. */
static bool serve_client(struct server *s, int fd)
{
    char data[4096];
    ssize_t n = recv(fd, data, sizeof(data) - 1, 0);

    if (n <= 0)
        return false;
    data[n] = '\0';
    for (char *rest = data, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (*line)
            answer_line(s, fd, line);
    return true;
}

static void accept_client(struct server *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    for (int i = 0; i < CLIENTS_MAX; i++)
        if (s->clients[i] < 0) {
            s->clients[i] = fd;
            s->accepted++;
            return;
        }
    close(fd);
}

static void *server_main(void *arg)
{
    struct server *s = arg;
    struct pollfd p[CLIENTS_MAX + 2];

    for (;;) {
        for (int i = 0; i < CLIENTS_MAX; i++)
            p[i] = (struct pollfd){.fd = s->clients[i], .events = POLLIN};
        p[CLIENTS_MAX] = (struct pollfd){.fd = s->listener, .events = POLLIN};
        p[CLIENTS_MAX + 1] = (struct pollfd){.fd = s->stop[0], .events = POLLIN};
        poll(p, CLIENTS_MAX + 2, -1);
        if (p[CLIENTS_MAX + 1].revents)
            return NULL;
        if (p[CLIENTS_MAX].revents)
            accept_client(s);
        for (int i = 0; i < CLIENTS_MAX; i++)
            if (p[i].fd >= 0 && p[i].revents && !serve_client(s, p[i].fd)) {
                close(s->clients[i]);
                s->clients[i] = -1;
            }
    }
}

static void start(struct server *s, answer_fn *answer)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);

    *s = (struct server){.answer = answer, .ttl_ms = LONG_TTL_MS};
    for (int i = 0; i < CLIENTS_MAX; i++)
        s->clients[i] = -1;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
    ck_assert_int_eq(listen(s->listener, 8), 0);
    getsockname(s->listener, (struct sockaddr *)&sin, &len);
    snprintf(s->address, sizeof(s->address), "127.0.0.1:%d", ntohs(sin.sin_port));
    ck_assert_int_eq(pipe(s->stop), 0);
    ck_assert_int_eq(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void stop(struct server *s)
{
    ck_assert_int_eq(write(s->stop[1], "x", 1), 1);
    pthread_join(s->thread, NULL);
    for (int i = 0; i < CLIENTS_MAX; i++)
        if (s->clients[i] >= 0)
            close(s->clients[i]);
    close(s->listener);
    close(s->stop[0]);
    close(s->stop[1]);
}

static pglockd *client_of(const char *addresses)
{
    pglockd *c = pglockd_new(addresses);
    ck_assert_ptr_nonnull(c);
    pglockd_set_timeouts(c, PATIENCE_MS, PATIENCE_MS);
    return c;
}

static pglockd_lease *lease_due_soon(const char *name)
{
    return pglockd_lease_adopt(name, 1, LONG_TTL_MS,
                               pglockd_now_us() + DUE_SOON_MS * INT64_C(1000));
}

/* ---- requests ---- */

START_TEST(silence_ends_in_time)
{
    struct server s;
    start(&s, usual);
    pglockd *c = client_of(s.address);

    s.silent = true;
    pglockd_set_timeouts(c, IMPATIENCE_MS, IMPATIENCE_MS);
    int64_t began = pglockd_now_us();
    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_UNREACHABLE);
    ck_assert_int_lt(pglockd_now_us() - began, AGES_US);
    s.silent = false;
    pglockd_set_timeouts(c, PATIENCE_MS, PATIENCE_MS);
    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_OK);
    ck_assert_str_eq(pglockd_error(c), "");
    ck_assert_str_eq(pglockd_address(c), s.address);
    s.silent = true;
    pglockd_set_timeouts(c, IMPATIENCE_MS, IMPATIENCE_MS);
    began = pglockd_now_us();
    /* It was sent: whether it was done, nobody knows. */
    ck_assert_int_eq(pglockd_call(c, "PING", 0, NULL), PGLOCKD_UNKNOWN);
    ck_assert_int_lt(pglockd_now_us() - began, AGES_US);
    ck_assert_int_eq(pglockd_fd(c), -1);
    pglockd_free(c);
    stop(&s);
}
END_TEST

START_TEST(a_wait_is_bounded_by_this_clock)
{
    struct server s;
    start(&s, usual);
    pglockd *c = client_of(s.address);

    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_OK);
    s.silent = true;
    pglockd_set_timeouts(c, IMPATIENCE_MS, IMPATIENCE_MS);
    int64_t began = pglockd_now_us();
    ck_assert_int_eq(pglockd_call(c, "LOCK x wait=400ms", 400, NULL), PGLOCKD_UNKNOWN);
    ck_assert_int_ge(pglockd_now_us() - began, 700000);
    ck_assert_int_lt(pglockd_now_us() - began, AGES_US);
    pglockd_free(c);
    stop(&s);
}
END_TEST

/* Answers everything but LOCK, so that only a probe can tell that the daemon is alive. */
static void never_grants(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "LOCK", 4) != 0)
        usual(s, line, out, size);
}

static void *silence_later(void *arg)
{
    struct server *s = arg;
    sleep(6); /* behind the first probe */
    s->silent = true;
    return NULL;
}

START_TEST(a_frozen_daemon_is_noticed_while_waiting)
{
    struct server s;
    pthread_t later;
    start(&s, never_grants);
    pglockd *c = client_of(s.address);

    pglockd_set_timeouts(c, PATIENCE_MS, 1500); /* for the answer to a probe */
    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_OK);
    pthread_create(&later, NULL, silence_later, &s);
    int64_t began = pglockd_now_us();
    ck_assert_int_eq(pglockd_call(c, "LOCK x wait=inf", PGLOCKD_FOREVER, NULL), PGLOCKD_UNKNOWN);
    int64_t took = pglockd_now_us() - began;
    ck_assert_msg(took > 6 * SECOND_US && took < AGES_US, "%" PRId64, took);
    pthread_join(later, NULL);
    pglockd_free(c);
    stop(&s);
}
END_TEST

static void garbage(struct server *s, const char *line, char *out, size_t size)
{
    (void)s;
    snprintf(out, size, "%s", strncmp(line, "HELLO", 5) == 0 ? "OK {}" : "!SSH-2.0-OpenSSH\n");
}

START_TEST(another_protocol_is_named)
{
    struct server s;
    start(&s, garbage);
    pglockd *c = client_of(s.address);

    ck_assert_int_eq(pglockd_call(c, "PING", 0, NULL), PGLOCKD_PROTOCOL);
    ck_assert_ptr_nonnull(strstr(pglockd_error(c), "protocol"));
    pglockd_free(c);
    stop(&s);
}
END_TEST

static void half_a_reply(struct server *s, const char *line, char *out, size_t size)
{
    (void)s;
    snprintf(out, size, "%s", strncmp(line, "HELLO", 5) == 0 ? "OK {}" : "!!@c2 OK {\"tok");
}

START_TEST(half_a_reply_is_no_reply)
{
    struct server s;
    pglockd_reply *reply;
    start(&s, half_a_reply);
    pglockd *c = client_of(s.address);

    ck_assert_int_eq(pglockd_call(c, "PING", 0, &reply), PGLOCKD_UNKNOWN);
    ck_assert_ptr_null(reply);
    pglockd_free(c);
    stop(&s);
}
END_TEST

START_TEST(bad_arguments_are_not_sent)
{
    pglockd *c = client_of("127.0.0.1:1");
    ck_assert_int_eq(pglockd_call(c, "PING\nPING", 0, NULL), PGLOCKD_INVALID);
    ck_assert_int_eq(pglockd_call(c, "PING", -7, NULL), PGLOCKD_INVALID);
    pglockd_free(c);
}
END_TEST

/* ---- events, farewells, addresses ---- */

static void chatty(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "HELLO", 5) == 0)
        snprintf(out, size, strstr(line, "events=\"on\"") ? "OK {}" : "ERR {\"code\":\"x\"}");
    else if (strncmp(line, "PING", 4) == 0)
        snprintf(out, size, "!* EVENT {\"n\":1}\r\n* EVENT {\"n\":2}\n@other OK {}\n@mine OK {}\n");
    else
        snprintf(out, size, "!!* BYE {\"code\":\"shutdown\",\"message\":\"it stops\"}\n");
    (void)s;
}

static void collect(void *arg, const char *json)
{
    strcat(arg, json);
}

START_TEST(events_and_farewells_are_told)
{
    struct server s;
    char seen[128] = "";
    start(&s, chatty);
    pglockd *c = client_of(s.address);

    pglockd_on_event(c, collect, seen);
    ck_assert_int_eq(pglockd_call(c, "@mine PING", 0, NULL), PGLOCKD_OK);
    ck_assert_str_eq(seen, "{\"n\":1}{\"n\":2}");
    ck_assert_int_eq(pglockd_poll(c, 10), PGLOCKD_OK);
    ck_assert_int_eq(pglockd_call(c, "STATS", 0, NULL), PGLOCKD_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(pglockd_error(c), "it stops"));
    pglockd_free(c);
    stop(&s);
}
END_TEST

START_TEST(the_next_address_is_used)
{
    struct server a, b;
    char both[160];
    start(&a, usual);
    start(&b, usual);
    snprintf(both, sizeof(both), "127.0.0.1:1,%s,tcp://%s", a.address, b.address);
    pglockd *c = client_of(both);
    pglockd_lease *l;

    ck_assert_int_eq(pglockd_lock(c, "r", NULL, &l), PGLOCKD_OK);
    ck_assert_str_eq(pglockd_address(c), a.address);
    a.silent = true;
    pglockd_set_timeouts(c, PATIENCE_MS, 2000);
    ck_assert_int_eq(pglockd_renew(c, l, 0), PGLOCKD_OK);
    ck_assert_ptr_nonnull(strstr(pglockd_address(c), b.address));
    ck_assert_int_eq(b.renewals, 1);
    pglockd_set_timeouts(c, PATIENCE_MS, PATIENCE_MS);
    /* A closed connection is replaced before anything is sent. */
    stop(&b);
    a.silent = false;
    ck_assert_int_eq(pglockd_check(c, l, NULL), PGLOCKD_OK);
    ck_assert_str_eq(pglockd_address(c), a.address);
    ck_assert_int_eq(pglockd_unlock(c, l), PGLOCKD_OK);
    pglockd_lease_free(l);
    pglockd_free(c);
    stop(&a);
}
END_TEST

static void draining(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "LOCK", 4) == 0)
        snprintf(out, size, "ERR {\"code\":\"unavailable\",\"message\":\"it stops\"}");
    else
        usual(s, line, out, size);
}

START_TEST(what_one_daemon_cannot_do_another_does)
{
    struct server a, b;
    char both[160];
    start(&a, draining);
    start(&b, usual);
    snprintf(both, sizeof(both), "%s,%s", a.address, b.address);
    pglockd *c = client_of(both);
    pglockd_lease *l;

    ck_assert_int_eq(pglockd_lock(c, "r", NULL, &l), PGLOCKD_OK);
    ck_assert_str_eq(pglockd_address(c), b.address);
    pglockd_lease_free(l);
    pglockd_free(c);
    stop(&b);
    c = client_of(a.address);
    ck_assert_int_eq(pglockd_lock(c, "r", NULL, &l), PGLOCKD_ERR);
    ck_assert_str_eq(pglockd_error_code(c), "unavailable");
    ck_assert_ptr_null(l);
    pglockd_free(c);
    stop(&a);
}
END_TEST

/* ---- leases ---- */

START_TEST(the_deadline_counts_from_sending)
{
    struct server s;
    pglockd_lease *l;
    start(&s, usual);
    pglockd *c = client_of(s.address);

    int64_t before = pglockd_now_us();
    ck_assert_int_eq(pglockd_lock(c, "r", NULL, &l), PGLOCKD_OK);
    int64_t after = pglockd_now_us();
    ck_assert_int_eq(pglockd_lease_token(l), INT64_C(9007199254740991));
    ck_assert_int_eq(pglockd_lease_waited_ms(l), 40);
    ck_assert_int_ge(pglockd_lease_deadline_us(l), before + 60040000);
    ck_assert_int_le(pglockd_lease_deadline_us(l), after + 60040000);
    s.ttl_ms = 5000;
    before = pglockd_now_us();
    ck_assert_int_eq(pglockd_renew(c, l, 5000), PGLOCKD_OK);
    ck_assert_int_ge(pglockd_lease_deadline_us(l), before + 5000000);
    ck_assert_int_eq(pglockd_lease_ttl_ms(l), 5000);
    pglockd_lease_free(l);
    pglockd_free(c);
    stop(&s);
}
END_TEST

static char asked[256]; /* the last LOCK, read when it was answered */

/* The tokens come in another order than the resources were named in. */
static void grants_several(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "LOCK", 4) != 0) {
        usual(s, line, out, size);
        return;
    }
    snprintf(asked, sizeof(asked), "%s", line);
    snprintf(out, size,
             "OK {\"locks\":[{\"resource\":\"c\",\"token\":3},{\"resource\":\"b\",\"token\":2},"
             "{\"resource\":\"a\",\"token\":1}],\"token\":3,\"ttl_ms\":1000,\"waited_ms\":0}");
}

START_TEST(several_are_asked_for_at_once)
{
    static const pglockd_member members[] = {{"a", 0, 0}, {"b", 1, 1}, {"c", 0, 0}};
    pglockd_lock_options o = PGLOCKD_LOCK_OPTIONS_INIT;
    struct server s;
    pglockd_lease *l[3];
    start(&s, grants_several);
    pglockd *c = client_of(s.address);

    o.shared = 1; /* the members say it */
    o.wait_ms = PGLOCKD_FOREVER;
    ck_assert_int_eq(pglockd_lock_all(c, members, 3, &o, l), PGLOCKD_OK);
    ck_assert_str_eq(asked, "LOCK \"a\" \"c\" shared-tree=\"b\" wait=inf");
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(pglockd_lease_resource(l[i]), members[i].resource);
        ck_assert_int_eq(pglockd_lease_token(l[i]), i + 1);
        pglockd_lease_free(l[i]);
    }
    pglockd_free(c);
    stop(&s);
}
END_TEST

/* A grant in which one is missing is none. */
START_TEST(several_or_none)
{
    static const pglockd_member members[] = {{"a", 0, 0}, {"d", 0, 0}};
    struct server s;
    pglockd_lease *l[2];
    start(&s, grants_several);
    pglockd *c = client_of(s.address);

    ck_assert_int_eq(pglockd_lock_all(c, members, 2, NULL, l), PGLOCKD_PROTOCOL);
    ck_assert(l[0] == NULL && l[1] == NULL);
    ck_assert_int_eq(pglockd_lock_all(c, members, 0, NULL, l), PGLOCKD_INVALID);
    pglockd_free(c);
    stop(&s);
}
END_TEST

static _Atomic int unlocks;
static const char *lost_reason;

/* The first UNLOCK is done, but its reply does not arrive. */
static void loses_the_reply(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "UNLOCK", 6) != 0)
        usual(s, line, out, size);
    else if (unlocks++ == 0)
        snprintf(out, size, "!!@half");
    else
        snprintf(out, size, "LOST {\"code\":\"lost\",\"reason\":\"%s\",\"message\":\"m\"}",
                 lost_reason);
}

START_TEST(a_release_whose_reply_was_lost_is_a_release)
{
    static const struct {
        const char *reason;
        int64_t ttl_ms;
        pglockd_status status;
    } cases[] = {
        {"released", LONG_TTL_MS, PGLOCKD_OK}, {"unknown", LONG_TTL_MS, PGLOCKD_OK},
        {"unknown", 1, PGLOCKD_LOST}, /* its time had passed */
        {"forced", LONG_TTL_MS, PGLOCKD_LOST}, {"expired", LONG_TTL_MS, PGLOCKD_LOST},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct server s;
        pglockd_lease *l;
        start(&s, loses_the_reply);
        pglockd *c = client_of(s.address);

        unlocks = 0;
        lost_reason = cases[i].reason;
        s.ttl_ms = cases[i].ttl_ms;
        ck_assert_int_eq(pglockd_lock(c, "r", NULL, &l), PGLOCKD_OK);
        pause_ms(cases[i].ttl_ms == 1 ? 60 : 0);
        ck_assert_msg(pglockd_unlock(c, l) == cases[i].status, "%s", cases[i].reason);
        ck_assert_int_eq(unlocks, 2);
        pglockd_lease_free(l);
        pglockd_free(c);
        stop(&s);
    }
}
END_TEST

struct loss {
    _Atomic int count, why;
    _Atomic int64_t at_us;
    char reason[32];
};

static void note_loss(void *arg, pglockd_lease *l, pglockd_status why, const char *reason)
{
    struct loss *loss = arg;

    ck_assert(pglockd_lease_is_lost(l));
    snprintf(loss->reason, sizeof(loss->reason), "%s", reason);
    loss->why = (int)why;
    loss->at_us = pglockd_now_us();
    loss->count++;
}

START_TEST(a_kept_lease_is_renewed_until_it_is_unlocked)
{
    struct server s;
    struct loss loss = {0};
    start(&s, usual);
    pglockd *c = client_of(s.address);
    pglockd_lease *l = lease_due_soon("r");

    s.ttl_ms = DUE_SOON_MS;
    int64_t began = pglockd_now_us();
    ck_assert_int_eq(pglockd_keep(c, l, 0, note_loss, &loss), PGLOCKD_OK);
    while (s.renewals < 2 && loss.count == 0)
        pause_ms(10);
    ck_assert_int_le(s.renewals, (pglockd_now_us() - began) / SECOND_US + 1);
    ck_assert_int_gt(pglockd_lease_deadline_us(l), pglockd_now_us());
    ck_assert_int_eq(pglockd_unlock(c, l), PGLOCKD_OK);
    int renewals = s.renewals; /* and perhaps one that is on its way */
    pause_ms(2500);
    ck_assert_int_le(s.renewals, renewals + 1);
    ck_assert_int_eq(loss.count, 0);
    pglockd_lease_free(l);
    pglockd_free(c);
    stop(&s);
}
END_TEST

START_TEST(a_loss_is_told_before_the_deadline)
{
    struct server s;
    struct loss loss = {0};
    pglockd_lease *l;
    start(&s, usual);
    pglockd *c = client_of(s.address);

    ck_assert_int_eq(pglockd_lock(c, "r", NULL, &l), PGLOCKD_OK);
    s.silent = true;
    pglockd_set_timeouts(c, IMPATIENCE_MS, IMPATIENCE_MS);
    ck_assert_int_eq(pglockd_keep(c, l, LONG_TTL_MS - 3000, note_loss, &loss), PGLOCKD_OK);
    while (loss.count == 0)
        pause_ms(10);
    pause_ms(500);
    ck_assert_int_eq(loss.count, 1);
    ck_assert_int_eq(loss.why, PGLOCKD_UNREACHABLE);
    int64_t early = pglockd_lease_deadline_us(l) - loss.at_us;
    ck_assert_msg(early > 0 && early <= 57 * SECOND_US, "%" PRId64 " us before the deadline",
                  early);
    pglockd_free(c);
    pglockd_lease_free(l);
    stop(&s);
}
END_TEST

static void forces(struct server *s, const char *line, char *out, size_t size)
{
    if (strncmp(line, "RENEW", 5) == 0)
        snprintf(out, size, "LOST {\"code\":\"lost\",\"reason\":\"forced\",\"message\":\"m\"}");
    else
        usual(s, line, out, size);
}

START_TEST(a_lost_lease_is_told_with_its_reason)
{
    struct server s;
    struct loss loss = {0};
    start(&s, forces);
    pglockd *c = client_of(s.address);
    pglockd_lease *l = lease_due_soon("r");

    ck_assert_int_eq(pglockd_keep(c, l, 0, note_loss, &loss), PGLOCKD_OK);
    while (loss.count == 0)
        pause_ms(10);
    pause_ms(1200);
    ck_assert_int_eq(loss.count, 1);
    ck_assert_int_eq(loss.why, PGLOCKD_LOST);
    ck_assert_str_eq(loss.reason, "forced");
    ck_assert_int_eq(s.renewals, 1);
    pglockd_free(c);
    pglockd_lease_free(l);
    stop(&s);
}
END_TEST

struct slow {
    pglockd *c;
    _Atomic bool running, ended;
};

static void slow_callback(void *arg, pglockd_lease *l, pglockd_status why, const char *reason)
{
    struct slow *slow = arg;

    (void)why, (void)reason;
    slow->running = true;
    pause_ms(300);
    pglockd_unkeep(slow->c, l); /* allowed, and no deadlock */
    slow->ended = true;
}

START_TEST(unkeep_waits_for_the_callback)
{
    struct server s;
    start(&s, forces);
    pglockd *c = client_of(s.address);
    pglockd_lease *l = lease_due_soon("r");
    struct slow slow = {.c = c};

    ck_assert_int_eq(pglockd_keep(c, l, 0, slow_callback, &slow), PGLOCKD_OK);
    while (!slow.running)
        pause_ms(1);
    pglockd_unkeep(c, l);
    ck_assert(slow.ended);
    pglockd_free(c);
    pglockd_lease_free(l);
    stop(&s);
}
END_TEST

static _Atomic int renewals_of[KEPT_LEASES];

static void due_soon(struct server *s, const char *line, char *out, size_t size)
{
    int lease;
    if (sscanf(line, "RENEW r%d ", &lease) == 1 || sscanf(line, "RENEW \"r%d\"", &lease) == 1)
        renewals_of[lease]++;
    s->ttl_ms = DUE_SOON_MS;
    usual(s, line, out, size);
}

static int fewest_renewals(void)
{
    int fewest = renewals_of[0];
    for (int i = 1; i < KEPT_LEASES; i++)
        if (renewals_of[i] < fewest)
            fewest = renewals_of[i];
    return fewest;
}

START_TEST(many_leases_are_kept_by_one_handle)
{
    struct server s;
    struct loss loss = {0};
    pglockd_lease *l[KEPT_LEASES];
    start(&s, due_soon);
    pglockd *c = client_of(s.address);

    for (int i = 0; i < KEPT_LEASES; i++) {
        char name[16];
        snprintf(name, sizeof(name), "r%d", i);
        l[i] = lease_due_soon(name);
        ck_assert_int_eq(pglockd_keep(c, l[i], 1, note_loss, &loss), PGLOCKD_OK);
    }
    while (fewest_renewals() < 3 && loss.count == 0)
        pause_ms(10);
    ck_assert_int_eq(loss.count, 0);
    pglockd_free(c);
    for (int i = 0; i < KEPT_LEASES; i++)
        pglockd_lease_free(l[i]);
    stop(&s);
}
END_TEST

/* ---- processes ---- */

START_TEST(a_forked_child_leaves_the_connection_alone)
{
    struct server s;
    struct loss loss = {0};
    int status;
    start(&s, usual);
    pglockd *c = client_of(s.address);
    pglockd_lease *l = lease_due_soon("r");

    s.ttl_ms = DUE_SOON_MS;
    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_OK);
    ck_assert_int_eq(pglockd_keep(c, l, 0, note_loss, &loss), PGLOCKD_OK);
    while (s.renewals < 1 && loss.count == 0)
        pause_ms(10);
    pid_t pid = fork();
    if (pid == 0) {
        bool refused = pglockd_call(c, "PING", 0, NULL) == PGLOCKD_INVALID &&
                       pglockd_renew(c, l, 0) == PGLOCKD_INVALID;
        pglockd_free(c);
        pglockd_lease_free(l);
        _exit(refused ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(pglockd_call(c, "PING", 0, NULL), PGLOCKD_OK);
    while (s.renewals < 2 && loss.count == 0)
        pause_ms(10);
    ck_assert_int_eq(s.accepted, 2); /* one for requests, one for renewals: none was replaced */
    ck_assert_int_eq(loss.count, 0);
    pglockd_free(c);
    pglockd_lease_free(l);
    stop(&s);
}
END_TEST

START_TEST(names_are_resolved_within_the_time)
{
    pglockd *c = client_of("no-such-host.invalid:7432");
    int64_t began = pglockd_now_us();

    pglockd_set_timeouts(c, IMPATIENCE_MS, IMPATIENCE_MS);
    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_UNREACHABLE);
    ck_assert_int_lt(pglockd_now_us() - began, AGES_US);
    ck_assert_ptr_nonnull(strstr(pglockd_error(c), "no-such-host.invalid"));
    pglockd_free(c);
    struct server s;
    char name[80];
    start(&s, usual);
    snprintf(name, sizeof(name), "localhost%s", strrchr(s.address, ':'));
    c = client_of(name);
    ck_assert_int_eq(pglockd_connect(c), PGLOCKD_OK);
    pglockd_free(c);
    stop(&s);
}
END_TEST

UNIT_MAIN("client_net", silence_ends_in_time, a_wait_is_bounded_by_this_clock,
          a_frozen_daemon_is_noticed_while_waiting, another_protocol_is_named,
          half_a_reply_is_no_reply, bad_arguments_are_not_sent, events_and_farewells_are_told,
          the_next_address_is_used, what_one_daemon_cannot_do_another_does,
          the_deadline_counts_from_sending, several_are_asked_for_at_once, several_or_none,
          a_release_whose_reply_was_lost_is_a_release, a_kept_lease_is_renewed_until_it_is_unlocked,
          a_loss_is_told_before_the_deadline, a_lost_lease_is_told_with_its_reason,
          unkeep_waits_for_the_callback, many_leases_are_kept_by_one_handle,
          a_forked_child_leaves_the_connection_alone, names_are_resolved_within_the_time)
