#include "client/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/pglockd.h"

/* Until fd is ready or until_us; poll() rounds up, so that it does not spin below 1 ms. */
static enum conn_result wait_ready(int fd, short events, int64_t until_us)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int64_t left_ms = (until_us - pglockd_now_us() + 999) / 1000;
        /* A sleep of a minute at most: poll's clock stands still while the machine is suspended. */
        int timeout_ms = left_ms <= 0 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms;
        int n = poll(&p, 1, timeout_ms);

        if (n > 0)
            return CONN_OK;
        if (n < 0 && errno != EINTR)
            return CONN_CLOSED;
        if (n == 0 && left_ms <= 60000)
            return CONN_LATE;
    }
}

static int connect_until(int fd, const struct sockaddr *sa, socklen_t len, int64_t until_us)
{
    int problem = 0;
    socklen_t size = sizeof(problem);

    if (connect(fd, sa, len) == 0)
        return 0;
    /* A Unix socket whose backlog is full says EAGAIN and cannot be waited for. */
    if (errno != EINPROGRESS && errno != EINTR)
        return -1;
    if (wait_ready(fd, POLLOUT, until_us) != CONN_OK) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) < 0)
        return -1;
    errno = problem;
    return problem ? -1 : 0;
}

/* So that a silent network is noticed within half a minute also while nothing is sent. */
static void set_tcp_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 10}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 25000},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static int open_socket(const struct sockaddr *sa, socklen_t len, int64_t until_us)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect_until(fd, sa, len, until_us) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int open_unix(const char *path, int64_t until_us)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    memcpy(sun.sun_path, path, strlen(path)); /* its length was checked when it was parsed */
    return open_socket((struct sockaddr *)&sun, sizeof(sun), until_us);
}

/* Each address of a name gets an equal share of the time that is left. */
static int open_tcp(const struct addrinfo *list, int64_t until_us)
{
    int left = 0;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
        left++;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next, left--) {
        int64_t now = pglockd_now_us();
        int fd = open_socket(ai->ai_addr, ai->ai_addrlen, now + (until_us - now) / left);
        if (fd >= 0) {
            set_tcp_options(fd);
            return fd;
        }
    }
    return -1;
}

/* 0, or -1 with a few words in error. */
static int shake_hands(struct conn *c, const struct address *a, const struct tls_choice *choice,
                       int64_t until_us, char *error, size_t error_size)
{
    c->tls = tls_new(c->fd, a->host, choice, error, error_size);
    if (c->tls == NULL)
        return -1;
    for (;;) {
        int r = tls_handshake(c->tls, error, error_size);
        if (r != 0)
            return r > 0 ? 0 : -1;
        if (wait_ready(c->fd, tls_events(c->tls), until_us) != CONN_OK) {
            snprintf(error, error_size, "TLS was not begun in time");
            return -1;
        }
    }
}

static int open_tls(struct conn *c, const struct address *a, const struct tls_choice *choice,
                    int64_t until_us, char *error, size_t error_size)
{
    char why[384] = "";

    if (shake_hands(c, a, choice, until_us, why, sizeof(why)) == 0)
        return 0;
    conn_close(c);
    snprintf(error, error_size, "cannot connect to %s: %s", a->text, why);
    return -1;
}

int conn_open(struct conn *c, const struct address *a, const struct tls_choice *tls,
              int64_t until_us, char *error, size_t error_size)
{
    if (a->path) {
        c->fd = open_unix(a->path, until_us);
    } else {
        struct addrinfo *list;
        if (address_resolve(a->host, a->port, until_us, &list, error, error_size) < 0)
            return -1;
        c->fd = open_tcp(list, until_us);
        int saved = errno;
        freeaddrinfo(list);
        errno = saved;
    }
    if (c->fd < 0) {
        char text[128];
        snprintf(error, error_size, "cannot connect to %s: %s", a->text,
                 strerror_r(errno, text, sizeof(text)));
        return -1;
    }
    return a->tls ? open_tls(c, a, tls, until_us, error, error_size) : 0;
}

void conn_close(struct conn *c)
{
    tls_free(c->tls);
    if (c->fd >= 0)
        close(c->fd);
    cbuf_free(&c->in);
    *c = CONN_INIT;
}

static ssize_t send_some(struct conn *c, const char *p, size_t n)
{
    return c->tls ? tls_send(c->tls, p, n) : send(c->fd, p, n, MSG_NOSIGNAL);
}

static ssize_t receive_some(struct conn *c, char *into, size_t n)
{
    return c->tls ? tls_recv(c->tls, into, n) : recv(c->fd, into, n, 0);
}

/* After EAGAIN; TLS may have to write in order to read. */
static enum conn_result wait_for(const struct conn *c, short events, int64_t until_us)
{
    return wait_ready(c->fd, c->tls ? tls_events(c->tls) : events, until_us);
}

enum conn_result conn_write(struct conn *c, const char *p, size_t n, int64_t until_us, size_t *sent)
{
    *sent = 0;
    while (*sent < n) {
        ssize_t k = send_some(c, p + *sent, n - *sent);
        if (k > 0) {
            *sent += (size_t)k;
        } else if (errno == EAGAIN) {
            enum conn_result r = wait_for(c, POLLOUT, until_us);
            if (r != CONN_OK)
                return r;
        } else if (errno != EINTR) {
            return CONN_CLOSED;
        }
    }
    return CONN_OK;
}

/* A line that lies whole in the buffer, or NULL. */
static char *take_line(struct conn *c)
{
    char *start = c->in.data + c->taken;
    size_t len = c->in.len - c->taken;
    char *lf = len > c->scanned ? memchr(start + c->scanned, '\n', len - c->scanned) : NULL;

    if (!lf) {
        c->scanned = len;
        return NULL;
    }
    c->taken += (size_t)(lf - start) + 1;
    c->scanned = 0;
    *lf = '\0';
    if (lf > start && lf[-1] == '\r')
        lf[-1] = '\0';
    return start;
}

static enum conn_result receive(struct conn *c, int64_t until_us)
{
    for (;;) {
        if (!cbuf_reserve(&c->in, c->tls ? TLS_RECORD_MAX : 4096))
            return CONN_NOMEM;
        ssize_t n = receive_some(c, c->in.data + c->in.len, c->in.cap - c->in.len);
        if (n > 0) {
            c->in.len += (size_t)n;
            return CONN_OK;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return CONN_CLOSED;
        enum conn_result r = errno == EINTR ? CONN_OK : wait_for(c, POLLIN, until_us);
        if (r != CONN_OK)
            return r;
    }
}

enum conn_result conn_read_line(struct conn *c, int64_t until_us, char **line)
{
    if (c->taken > 0)
        cbuf_drop(&c->in, c->taken);
    c->taken = 0;
    for (;;) {
        *line = take_line(c);
        if (*line)
            return CONN_OK;
        if (c->in.len > CONN_LINE_MAX)
            return CONN_TOO_LONG;
        enum conn_result r = receive(c, until_us);
        if (r != CONN_OK)
            return r;
    }
}
