#ifndef PGLOCKD_CLIENT_HANDLE_H
#define PGLOCKD_CLIENT_HANDLE_H

/* What the parts of the library share about a handle. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/address.h"
#include "client/conn.h"
#include "client/pglockd.h"
#include "client/reply.h"

struct keeper;
struct watch;

struct pglockd {
    pid_t owner; /* the process that made it */
    char *addresses;
    char *name;
    char *key; /* NULL: none */
    struct tls_choice tls;
    struct address_list list; /* parsed when first needed */
    size_t next;              /* the address to try first */
    int connect_ms;
    int request_ms;
    struct conn conn;
    bool connected;
    uint64_t last_tag;
    pglockd_event_fn *event_fn;
    void *event_arg;
    char code[64];
    char error[640];
    char bye[256]; /* the message of "* BYE", or "" */
    struct keeper *keeper;
    struct watch *watches;
};

/* Forgets the last error; false (with INVALID set) when the handle belongs to another process. */
bool handle_enter(struct pglockd *c);

/* Sets the error text and returns status. */
pglockd_status handle_fail(struct pglockd *c, pglockd_status status, const char *code,
                           const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * pglockd_send() that goes on to the next address while that can help: the request was surely not
 * done, or nobody can tell and repeatable says that doing it twice is as good as once.
 * *repeated is set when an earlier attempt may have been done.
 */
pglockd_status handle_ask(struct pglockd *c, const pglockd_request *r, int64_t wait_ms,
                          bool repeatable, bool *repeated, pglockd_reply **reply);

/* Sends a line over the connection that there is and takes its reply; by until_us, or UNKNOWN. */
pglockd_status handle_exchange_until(struct pglockd *c, const char *line, int64_t until_us);

/* Gives the connection up, so that the next call begins with the next address. */
void handle_skip_address(struct pglockd *c);

/* Ends the threads and frees the keeper; NULL is fine. In a forked child it only frees. */
void keeper_free(struct keeper *k, bool forked);

/*
 * Makes c continue at the address that the renewals found to work, so that a request of its own
 * does not first wait for a daemon that is known to be away. k may be NULL.
 */
void keeper_share_address(struct keeper *k, struct pglockd *c);

#endif
