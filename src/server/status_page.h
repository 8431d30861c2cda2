#ifndef PGLOCKD_SERVER_STATUS_PAGE_H
#define PGLOCKD_SERVER_STATUS_PAGE_H

/* The status page at / (page.html) and what it shows, /api/status. */

#include "server/http.h"

struct overview;

/* The page; what it may run and load is named by the nonce, see status_page_put_policy(). */
void status_page_put(struct buf *out, const char *nonce);
/* The page's Content-Security-Policy. */
void status_page_put_policy(struct buf *out, const char *nonce);

/*
 * Answers /api/status?prefix=P, now or later. prefix as the client sent it, p NULL where it sent
 * none; who asks, NULL where everything may be shown; overview NULL while the daemon starts.
 */
void status_page_answer(struct overview *overview, struct str prefix, const struct identity *who,
                        struct http_later *later);

#endif
