#include "base/secret.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/log.h"

bool secret_make(struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char bytes[SECRET_BITS / 8 + 1] = {0}; /* one more, for the last digit's two bits */
    if (getrandom(bytes, SECRET_BITS / 8, 0) != SECRET_BITS / 8)
        return false;
    for (unsigned bit = 0; bit < SECRET_BITS; bit += 6) {
        unsigned pair = (unsigned)bytes[bit / 8] << 8;
        pair |= bit / 8 + 1 < sizeof(bytes) ? bytes[bit / 8 + 1] : 0U;
        buf_putc(out, digits[pair >> (10 - bit % 8) & 63]);
    }
    explicit_bzero(bytes, sizeof(bytes));
    return true;
}

void secret_digest(struct str s, unsigned char out[static SHA256_BYTES])
{
    int failed = gnutls_hash_fast(GNUTLS_DIG_SHA256, s.p ? s.p : "", s.n, out);
    if (failed) { /* a library that cannot is no library to run with */
        log_error("sha256_failed", "reason=%s", gnutls_strerror(failed));
        abort();
    }
}

bool secret_same_digest(const unsigned char a[static SHA256_BYTES],
                        const unsigned char b[static SHA256_BYTES])
{
    return gnutls_memcmp(a, b, SHA256_BYTES) == 0;
}

void secret_put_hex(const unsigned char digest[static SHA256_BYTES], struct buf *out)
{
    for (size_t i = 0; i < SHA256_BYTES; i++)
        buf_printf(out, "%02x", digest[i]);
}

const char *secret_key_id(const unsigned char digest[static SHA256_BYTES],
                          char out[static KEY_ID_DIGITS + 1])
{
    for (size_t i = 0; i < KEY_ID_DIGITS / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return out;
}

void secret_wipe(struct str s)
{
    if (s.n > 0)
        explicit_bzero((char *)s.p, s.n);
}
