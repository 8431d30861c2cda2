#ifndef PGLOCKD_CONFIG_FILE_H
#define PGLOCKD_CONFIG_FILE_H

/* Files with one section [pglockd] and lines KEY = VALUE. */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Called for each key. False stops reading; err is then the callee's. */
typedef bool settings_file_fn(void *arg, const char *key, const char *value, size_t line);

/* False and one sentence in err when the file cannot be used. *missing: there is none. */
bool settings_file_read(const char *path, settings_file_fn *fn, void *arg, bool *missing,
                        struct buf *err);

#endif
