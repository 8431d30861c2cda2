#ifndef PGLOCKD_BASE_SECRET_H
#define PGLOCKD_BASE_SECRET_H

/* Secrets: made of random bits, known by their SHA-256 only, compared in constant time. */

#include <stdbool.h>

#include "base/buf.h"

enum { SHA256_BYTES = 32, SECRET_BITS = 256, KEY_ID_DIGITS = 12 };

/*
 * Appends a new secret: SECRET_BITS random bits as base64url (RFC 4648, no padding), so that it
 * needs quotes nowhere. False where the system has no random bits to give.
 */
bool secret_make(struct buf *out);

/* SHA-256 of s. */
void secret_digest(struct str s, unsigned char out[static SHA256_BYTES]);

/* Takes as long whatever the bytes are. */
bool secret_same_digest(const unsigned char a[static SHA256_BYTES],
                        const unsigned char b[static SHA256_BYTES]);

/* By what a key is called where it may not be shown: the first hexadecimal digits of its digest. */
const char *secret_key_id(const unsigned char digest[static SHA256_BYTES],
                          char out[static KEY_ID_DIGITS + 1]);
/* All of the digits. */
void secret_put_hex(const unsigned char digest[static SHA256_BYTES], struct buf *out);

/* Overwrites the bytes of a secret that is needed no longer; the compiler may not leave it out. */
void secret_wipe(struct str s);

#endif
