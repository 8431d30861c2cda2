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

enum refusal { REFUSED_TOO_MANY, REFUSED_NO_DESCRIPTORS, REFUSED_OF_ADDRESS };

struct listener {
    struct server *server;
    ev_io io;
    ev_timer pause;
    bool tcp;
    bool tls;
    char *unix_path; /* removed at the end */
    char *address;
};

/* --- accepting --- */

/* Who expects TLS could not read why. */
static void refuse(const struct listener *l, int fd, enum refusal why)
{
    static const char bye[] =
        "* BYE {\"code\":\"too_many_connections\",\"message\":\"no more connections are accepted, "
        "try again later\"}\n";
    static const char bye_of_address[] =
        "* BYE {\"code\":\"too_many_connections\",\"message\":\"no more connections are accepted "
        "from this address\"}\n";
    const char *text = why == REFUSED_OF_ADDRESS ? bye_of_address : bye;
    metric_add1(M_CONNECTIONS_REFUSED, why, 1);
    log_debug("client_refused", "open=%zu", l->server->connections);
    if (!l->tls)
        send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

/* The bytes by which an address counts: of IPv6 the network, in which a machine has 2^64. */
static struct str address_key(const struct sockaddr_storage *sa)
{
    enum { V6_NETWORK = 8, V4 = 4, V4_AT = 12 };
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;
    if (sa->ss_family == AF_INET)
        return (struct str){(const char *)&((const struct sockaddr_in *)sa)->sin_addr, V4};
    if (IN6_IS_ADDR_V4MAPPED(v6))
        return (struct str){(const char *)v6->s6_addr + V4_AT, V4};
    return (struct str){(const char *)v6->s6_addr, V6_NETWORK};
}

static void set_tcp_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 30}, {IPPROTO_TCP, TCP_KEEPINTVL, 10},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 60000},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static void take_tcp(const struct listener *l, int fd, const struct sockaddr_storage *sa)
{
    struct server *s = l->server;
    struct tally_entry *from =
        tally_add(s->addresses, address_key(sa), s->o.settings->max_connections_per_address);
    if (from == NULL) {
        refuse(l, fd, REFUSED_OF_ADDRESS);
        return;
    }
    set_tcp_options(fd);
    conn_accept(s, fd, l->tls, from);
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
    (void)loop, (void)revents;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage sa;
        socklen_t n = sizeof(sa);
        int fd = accept4(w->fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            pause_accepting(l);
        if (fd < 0)
            return;
        if (is_full(l->server))
            refuse(l, fd, REFUSED_TOO_MANY);
        else if (l->tcp)
            take_tcp(l, fd, &sa);
        else
            conn_accept(l->server, fd, false, NULL);
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
    add_listener(s, fd, true, name)->tls = a->tls;
    log_info("listening", "address=%s%s", a->tls ? "tls://" : "", name);
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

/* Who gets there may force: the owner alone. Or has to show who he is, as over loopback. */
static mode_t closed_to(const struct server *s)
{
    static const mode_t closed[] = {[SETTINGS_SOCKET_OWNER] = 0177,
                                    [SETTINGS_SOCKET_GROUP] = 0117,
                                    [SETTINGS_SOCKET_ALL] = 0111};
    int mode = s->o.settings->socket_mode;
    if (mode == SETTINGS_SOCKET_AUTO)
        mode = s->identities ? SETTINGS_SOCKET_ALL : SETTINGS_SOCKET_OWNER;
    return closed[mode];
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
    mode_t mask = umask(closed_to(s));
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
    log_info("listening", "address=%s", log_quote(buf_str(&name)));
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
