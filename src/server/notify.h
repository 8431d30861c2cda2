#ifndef PGLOCKD_SERVER_NOTIFY_H
#define PGLOCKD_SERVER_NOTIFY_H

/*
 * Tells the service manager (systemd, Type=notify) how the daemon is: the datagram protocol of
 * sd_notify(3), without its library. Where nobody asked to be told, nothing happens.
 */

#include <ev.h>
#include <stdint.h>

/*
 * Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child
 * speaks for the daemon. Call it once, before any child is started.
 */
void notify_init(void);

/* From here on the loop feeds the watchdog, if there is one: a loop that hangs does not. */
void notify_ready(struct ev_loop *loop, const char *address);

/* Around a reload; not said before the daemon is ready, nor while it stops. */
void notify_reloading(void);
void notify_reloaded(void);

/* The stop has begun and may take as long. */
void notify_stopping(int64_t timeout_ms);

/* Stops feeding the watchdog and forgets the address. */
void notify_end(struct ev_loop *loop);

#endif
