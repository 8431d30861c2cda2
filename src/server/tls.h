#ifndef PGLOCKD_SERVER_TLS_H
#define PGLOCKD_SERVER_TLS_H

/*
 * TLS 1.2 and 1.3 on the line port, and the certificate for HTTP. Nothing here blocks. What is read
 * from the files stays in force until it could be read again as a whole; sessions that were begun
 * keep what they began with.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "config/settings.h"

struct tls;
struct tls_session;

/* Reads the files that the settings name. NULL and one sentence in err where that cannot be. */
struct tls *tls_open(const struct settings *settings, struct buf *err);
/* Reads them again. False: a sentence in err, and what was in force stays so. */
bool tls_reload(struct tls *tls, const struct settings *settings, struct buf *err);
void tls_close(struct tls *tls); /* sessions may outlive it; NULL is allowed */

/* --- a connection --- */

enum tls_step {
    TLS_DONE,
    TLS_AGAIN,       /* when the socket is ready, for writing where tls_wants_write() */
    TLS_FAILED,      /* tls_error() */
    TLS_NOT_TRUSTED, /* the client's certificate: tls_error() */
};

/* Bytes of room that tls_recv() must have, so that nothing stays behind where no poll sees it. */
enum { TLS_RECORD_MAX = 16384 };

/*
 * The server's end over a socket that does not block, which stays the caller's. NULL: the library
 * has no memory or no entropy.
 */
struct tls_session *tls_session_new(struct tls *tls, int fd);
void tls_session_free(struct tls_session *session); /* NULL is allowed */

/* The next step of the handshake. */
enum tls_step tls_handshake(struct tls_session *session);
bool tls_wants_write(const struct tls_session *session);
/* Why it failed, in a few words without a full stop. */
const char *tls_error(const struct tls_session *session);

/*
 * As recv() and send(), with errno; n of tls_recv() is at least TLS_RECORD_MAX. After EAGAIN
 * tls_send() must be called with bytes that begin as those of the call before.
 */
ssize_t tls_recv(struct tls_session *session, char *into, size_t n);
ssize_t tls_send(struct tls_session *session, const char *from, size_t n);
/* Says that nothing more will be sent, as far as that goes without waiting. */
void tls_end(struct tls_session *session);

/*
 * The name that the client's certificate gives it: its common name, or the first alternative name
 * of the kind that the setting tls_name_from says. False: it showed none, or has no such name. The
 * certificate was checked in the handshake.
 */
bool tls_peer_name(const struct tls_session *session, struct buf *name);

/* --- HTTP --- */

/*
 * For MHD_OPTION_HTTPS_CERT_CALLBACK2: gives each handshake the certificate in force. The library
 * passes no argument to it, so it serves the tls that was opened last.
 */
void *tls_http_callback(void);
/* For MHD_OPTION_HTTPS_PRIORITIES. */
const char *tls_http_priorities(void);

#endif
