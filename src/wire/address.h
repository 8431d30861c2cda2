#ifndef PGLOCKD_WIRE_ADDRESS_H
#define PGLOCKD_WIRE_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum {
    ADDRESS_HOST_MAX = 253, /* bytes in a DNS name */
    ADDRESS_PATH_MAX = 107, /* bytes in a Unix socket's path, without the NUL */
};

/* Where to listen. Owns its bytes: copy it freely. */
struct address {
    bool is_unix;
    bool tls;
    uint16_t port;                   /* 0: any free port */
    char host[ADDRESS_HOST_MAX + 1]; /* a name or an IP address without brackets */
    char path[ADDRESS_PATH_MAX + 1]; /* when is_unix */
};

/* HOST:PORT, [IPV6]:PORT, the same behind tls://, or unix:PATH. Returns NULL, or one sentence
 * (static). */
const char *address_parse(struct str s, struct address *out);

/*
 * Can only this machine connect to it? True for Unix sockets, 127.0.0.0/8, ::1 and localhost. No
 * name is looked up: any other name is taken as reachable from elsewhere.
 */
bool address_is_local(const struct address *a);

#endif
