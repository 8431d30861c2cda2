#ifndef PGLOCKD_CLIENT_ADDRESS_H
#define PGLOCKD_CLIENT_ADDRESS_H

/* Where daemons are: "tcp://HOST:PORT", "tls://HOST:PORT", "HOST:PORT" or "unix:PATH", by commas.
 */

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address {
    char *text; /* as given, for messages */
    char *host; /* NULL for a Unix socket */
    char *port;
    char *path; /* NULL for TCP */
    bool tls;
};

struct address_list {
    struct address *items;
    size_t count;
};

/*
 * Returns 0, or -1 with one sentence in error (and an empty list). The list is freed with
 * address_list_free().
 */
int address_list_parse(const char *text, struct address_list *list, char *error, size_t error_size);
void address_list_free(struct address_list *list);

/*
 * getaddrinfo() for a stream socket that gives up at until_us. Numeric addresses are looked up at
 * once; for a name a thread asks, since getaddrinfo() cannot be interrupted: past until_us it is
 * left to finish alone. Returns 0, or -1 with a sentence in error. Free with freeaddrinfo().
 */
int address_resolve(const char *host, const char *port, int64_t until_us, struct addrinfo **list,
                    char *error, size_t error_size);

#endif
