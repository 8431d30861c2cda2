#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "server/internal.h"
#include "wire/address.h"

enum {
    BACKLOG = 4096,
    ACCEPTS_A_TURN = 64,
    PAUSE_MS = 100, /* before accepting again when descriptors have run out */
};

enum refusal { REFUSED_TOO_MANY, REFUSED_NO_DESCRIPTORS };

struct listener {
    struct server *server;
    ev_io io;
    ev_timer pause;
    bool tcp;
    char *unix_path; /* removed at the end */
    char *address;
};

/* --- accepting --- */

static void refuse(struct server *s, int fd)
{
    static const char bye[] =
        "* BYE {\"code\":\"too_many_connections\",\"message\":\"no more connections are accepted, "
        "try again later\"}\n";
    metric_add1(M_CONNECTIONS_REFUSED, REFUSED_TOO_MANY, 1);
    log_debug("client_refused", "open=%zu", s->connections);
    send(fd, bye, sizeof(bye) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static bool is_full(const struct server *s)
{
    size_t wanted = s->o.settings->max_connections;
    return s->connections >= (wanted < s->o.connections_max ? wanted : s->o.connections_max);
}

static void pause_accepting(struct listener *l)
{
    metric_add1(M_CONNECTIONS_REFUSED, REFUSED_NO_DESCRIPTORS, 1);
    log_error("accept_failed", "address=%s errno=%d retry_ms=%d", l->address, errno, PAUSE_MS);
    ev_io_stop(l->server->o.loop, &l->io);
    ev_timer_set(&l->pause, PAUSE_MS / 1000.0, 0.);
    ev_timer_start(l->server->o.loop, &l->pause);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct listener *l = w->data;
    (void)revents;
    ev_io_start(loop, &l->io);
}

static void on_connection(struct ev_loop *loop, ev_io *w, int revents)
{
    struct listener *l = w->data;
    int one = 1;
    (void)loop, (void)revents;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            pause_accepting(l);
        if (fd < 0)
            return;
        if (is_full(l->server)) {
            refuse(l->server, fd);
            continue;
        }
        if (l->tcp) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
            int idle = 30, interval = 10, count = 3, user_timeout_ms = 60000;
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
            setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
                       sizeof(user_timeout_ms));
        }
        conn_accept(l->server, fd, l->tcp);
    }
}

/* --- listening --- */

static struct listener *add_listener(struct server *s, int fd, bool tcp, const char *address)
{
    struct listener *l = &s->listeners[s->nlisteners++];
    *l = (struct listener){.server = s, .tcp = tcp, .address = xstrdup(address)};
    ev_io_init(&l->io, on_connection, fd, EV_READ);
    ev_init(&l->pause, on_pause_over);
    l->io.data = l;
    l->pause.data = l;
    ev_io_start(s->o.loop, &l->io);
    return l;
}

static void format_address(int fd, char *out, size_t size)
{
    struct sockaddr_storage sa;
    socklen_t n = sizeof(sa);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    getsockname(fd, (struct sockaddr *)&sa, &n);
    getnameinfo((struct sockaddr *)&sa, n, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out, size, sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static bool listen_tcp(struct server *s, const struct address *a, struct buf *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list;
    char port[8], name[NI_MAXHOST + NI_MAXSERV + 4];
    int one = 1;
    snprintf(port, sizeof(port), "%u", (unsigned)a->port);
    int failed = getaddrinfo(a->host, port, &hints, &list);
    if (failed) {
        buf_printf(err, "cannot listen on %s:%s: %s", a->host, port, gai_strerror(failed));
        return false;
    }
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
              bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    if (!ok) {
        int why = errno;
        buf_printf(err, "cannot listen on %s:%s: %s%s", a->host, port, strerror(why),
                   why == EADDRINUSE ? "; another program has the port, choose one with --listen"
                                     : "");
        if (fd >= 0)
            close(fd);
        freeaddrinfo(list);
        return false;
    }
    freeaddrinfo(list);
    format_address(fd, name, sizeof(name));
    add_listener(s, fd, true, name);
    return true;
}

/* A socket file that nobody listens on is what a killed daemon left. */
static bool remove_stale(const struct sockaddr_un *sa, struct buf *err)
{
    struct stat st;
    if (lstat(sa->sun_path, &st) != 0)
        return true;
    if (!S_ISSOCK(st.st_mode)) {
        buf_printf(err, "cannot listen on unix:%s: the file is there and is no socket",
                   sa->sun_path);
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool used = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0;
    close(fd);
    if (used) {
        buf_printf(err, "cannot listen on unix:%s: another program listens there", sa->sun_path);
        return false;
    }
    unlink(sa->sun_path);
    return true;
}

static bool listen_unix(struct server *s, const char *path, struct buf *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof(sa.sun_path)) {
        buf_printf(err, "cannot listen on unix:%s: a socket's path may have at most %zu bytes",
                   path, sizeof(sa.sun_path) - 1);
        return false;
    }
    memcpy(sa.sun_path, path, length);
    if (!remove_stale(&sa, err))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Who gets there may force: the owner alone. Or has to show who he is, as over loopback. */
    mode_t mask = umask(s->identities ? 0111 : 0177);
    bool ok =
        fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, BACKLOG) == 0;
    int why = errno;
    umask(mask);
    if (!ok) {
        buf_printf(err, "cannot listen on unix:%s: %s", path, strerror(why));
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct buf name = {0};
    buf_printf(&name, "unix:%s", path);
    add_listener(s, fd, false, buf_cstr(&name))->unix_path = xstrdup(path);
    buf_free(&name);
    return true;
}

bool listeners_open(struct server *s, const char *extra_unix, struct buf *err)
{
    const struct setting_list *list = &s->o.settings->listen;
    s->listeners = xcalloc(list->n + 1, sizeof(*s->listeners));
    for (size_t i = 0; i < list->n; i++) {
        struct address a;
        const char *wrong = address_parse(str_of(list->items[i]), &a);
        if (wrong) {
            buf_printf(err, "listen %s: %s", list->items[i], wrong);
            return false;
        }
        if (a.is_unix ? !listen_unix(s, a.path, err) : !listen_tcp(s, &a, err))
            return false;
    }
    return extra_unix == NULL || listen_unix(s, extra_unix, err);
}

void listeners_close(struct server *s)
{
    for (size_t i = 0; i < s->nlisteners; i++) {
        struct listener *l = &s->listeners[i];
        ev_io_stop(s->o.loop, &l->io);
        ev_timer_stop(s->o.loop, &l->pause);
        close(l->io.fd);
        if (l->unix_path)
            unlink(l->unix_path);
        free(l->unix_path);
        free(l->address);
    }
    s->nlisteners = 0;
    free(s->listeners);
    s->listeners = NULL;
}

const char *listeners_address(const struct server *s)
{
    for (size_t i = 0; i < s->nlisteners; i++)
        if (s->listeners[i].tcp)
            return s->listeners[i].address;
    return s->nlisteners ? s->listeners[0].address : "none";
}
