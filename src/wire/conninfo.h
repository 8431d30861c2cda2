#ifndef PGLOCKD_WIRE_CONNINFO_H
#define PGLOCKD_WIRE_CONNINFO_H

#include <stdbool.h>

#include "base/buf.h"

/*
 * Appends a libpq connection string (key=value or URI) to out with every secret in it as "***", and
 * returns whether libpq would find a secret in it. out may be NULL. What might be a secret in a
 * string that libpq refuses or reads in another way is hidden, too.
 */
bool conninfo_redact(struct str s, struct buf *out);

#endif
