#include "wire/utf8.h"

#include "base/codepoint.h"

bool utf8_valid(struct str s)
{
    uint32_t cp;

    for (size_t i = 0; i < s.n;) {
        size_t len = codepoint_decode(s.p + i, s.n - i, &cp);

        if (len == 0)
            return false;
        i += len;
    }
    return true;
}
