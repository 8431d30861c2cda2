#include "server/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

enum { STOP_SPARE_MS = 10000 };

static struct {
    struct sockaddr_un to;
    socklen_t to_len; /* 0: nobody wants to know */
    int64_t watchdog_us;
    bool is_ready; /* told so, and not that it stops */
    ev_timer feed;
} n;

/* A path, or "@name" in the abstract namespace. */
static void take_address(const char *address)
{
    size_t len = address ? strlen(address) : 0;

    if (len < 2 || len >= sizeof(n.to.sun_path) || (address[0] != '/' && address[0] != '@'))
        return;
    n.to.sun_family = AF_UNIX;
    memcpy(n.to.sun_path, address, len);
    if (address[0] == '@')
        n.to.sun_path[0] = '\0';
    n.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

/* The environment's WATCHDOG_USEC, if it is meant for this process. */
static int64_t take_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (!usec || (pid && strtoll(pid, NULL, 10) != getpid()))
        return 0;
    return strtoll(usec, NULL, 10);
}

void notify_init(void)
{
    take_address(getenv("NOTIFY_SOCKET"));
    n.watchdog_us = take_watchdog();
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
    struct buf text = {0};
    va_list ap;
    int fd;

    if (n.to_len == 0)
        return;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || sendto(fd, text.data, text.len, MSG_NOSIGNAL, (const struct sockaddr *)&n.to,
                         n.to_len) != (ssize_t)text.len)
        log_warn("notify_failed", "errno=%d", errno);
    if (fd >= 0)
        close(fd);
    buf_free(&text);
}

static void on_feed(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)w, (void)revents;
    tell("WATCHDOG=1");
}

void notify_ready(struct ev_loop *loop, const char *address)
{
    n.is_ready = true;
    tell("READY=1\nSTATUS=Serving on %s\n", address);
    if (n.to_len == 0 || n.watchdog_us <= 0 || ev_is_active(&n.feed))
        return;
    double third_s = (double)n.watchdog_us / 3e6;
    ev_timer_init(&n.feed, on_feed, third_s, third_s);
    ev_timer_start(loop, &n.feed);
}

void notify_reloading(void)
{
    if (n.is_ready)
        tell("RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\n", clock_mono_us());
}

void notify_reloaded(void)
{
    if (n.is_ready)
        tell("READY=1\n");
}

void notify_stopping(int64_t timeout_ms)
{
    n.is_ready = false;
    tell("STOPPING=1\nSTATUS=Draining\nEXTEND_TIMEOUT_USEC=%" PRId64 "\n",
         1000 * (timeout_ms + STOP_SPARE_MS));
}

void notify_end(struct ev_loop *loop)
{
    ev_timer_stop(loop, &n.feed);
    n.to_len = 0;
}
