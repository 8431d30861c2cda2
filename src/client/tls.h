#ifndef PGLOCKD_CLIENT_TLS_H
#define PGLOCKD_CLIENT_TLS_H

/* TLS over a connected socket that does not block, with a daemon whose certificate is checked. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What pglockd_set_tls() has said; members are NULL where it has not. */
struct tls_choice {
    char *ca_file;
    char *cert_file;
    char *key_file;
    char *server_name;
};

/* False: no memory, and *to is empty. */
bool tls_choice_copy(struct tls_choice *to, const struct tls_choice *from);
void tls_choice_free(struct tls_choice *choice);

struct tls;

enum { TLS_RECORD_MAX = 16384 };

/*
 * A client's end over fd, which stays the caller's; name is what the daemon's certificate must be
 * for. NULL and a sentence in error.
 */
struct tls *tls_new(int fd, const char *name, const struct tls_choice *choice, char *error,
                    size_t error_size);
void tls_free(struct tls *t); /* sends nothing; NULL is allowed */

/* 1: done. 0: again when the socket is ready. -1: failed, with a few words in error. */
int tls_handshake(struct tls *t, char *error, size_t error_size);

/* As recv() and send(), with errno; n of tls_recv() is at least TLS_RECORD_MAX. */
ssize_t tls_recv(struct tls *t, char *into, size_t n);
ssize_t tls_send(struct tls *t, const char *from, size_t n);
/* What to poll for after 0 or EAGAIN: POLLIN or POLLOUT. */
short tls_events(const struct tls *t);
/* Why the daemon has ended it, in its words; NULL: it has not said. */
const char *tls_alert(const struct tls *t);

#endif
