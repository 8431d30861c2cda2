#ifndef PGLOCKD_WIRE_UTF8_H
#define PGLOCKD_WIRE_UTF8_H

#include <stdbool.h>

#include "base/str.h"

/* Well-formed UTF-8 after RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool utf8_valid(struct str s);

#endif
