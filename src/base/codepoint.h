#ifndef PGLOCKD_BASE_CODEPOINT_H
#define PGLOCKD_BASE_CODEPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Decodes the UTF-8 sequence at p (n bytes, n > 0) into *cp and returns its length, 1 to 4; or
 * returns 0 when the bytes there are not well-formed after RFC 3629.
 */
size_t codepoint_decode(const char *p, size_t n, uint32_t *cp);

/* Writes cp (a Unicode scalar value) as UTF-8 to out and returns how many bytes, 1 to 4. */
size_t codepoint_encode(uint32_t cp, char out[static 4]);

/* Unicode's category Cc: U+0000 to U+001F and U+007F to U+009F. */
static inline bool codepoint_is_control(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f);
}

/*
 * Whether it moves the cursor, ends a line, hides text or changes the order in which it is read: a
 * control character, a direction mark, a line separator, a tag. Not to be shown to people as it is.
 */
static inline bool codepoint_is_harmful(uint32_t cp)
{
    return codepoint_is_control(cp) || cp == 0x061c || cp == 0x200e || cp == 0x200f ||
           (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x206f) || cp == 0xfeff ||
           (cp >= 0xe0000 && cp <= 0xe007f);
}

#endif
