#ifndef PGLOCKD_CLIENT_CONN_H
#define PGLOCKD_CLIENT_CONN_H

/* A connected socket that carries lines, in TLS where its address says so. Every call ends at its
 * until_us (pglockd_now_us()). */

#include <stdbool.h>
#include <stdint.h>

#include "client/address.h"
#include "client/cbuf.h"
#include "client/tls.h"

/* A reply longer than this is not one of pglockd: the connection is given up. */
enum { CONN_LINE_MAX = 64 << 20 };

enum conn_result {
    CONN_OK,
    CONN_LATE,   /* until_us came first */
    CONN_CLOSED, /* closed or broken by the other side */
    CONN_NOMEM,
    CONN_TOO_LONG,
};

struct conn {
    int fd;          /* -1: not connected */
    struct tls *tls; /* NULL: none */
    struct cbuf in;
    size_t taken;   /* bytes of in that were handed out as the last line */
    size_t scanned; /* bytes of in, behind those, known to hold no LF */
};

#define CONN_INIT ((struct conn){.fd = -1})

/* 0, or -1 with a sentence in error. c is not connected. */
int conn_open(struct conn *c, const struct address *a, const struct tls_choice *tls,
              int64_t until_us, char *error, size_t error_size);
/* Closes without a shutdown: a forked child may close its copy. */
void conn_close(struct conn *c);

/* *sent: bytes handed to the kernel, also when it fails. */
enum conn_result conn_write(struct conn *c, const char *p, size_t n, int64_t until_us,
                            size_t *sent);

/*
 * The next line without its end, NUL-terminated, valid until the next read. until_us in the past
 * takes only what has already come.
 */
enum conn_result conn_read_line(struct conn *c, int64_t until_us, char **line);

#endif
