#ifndef PGLOCKD_BASE_XALLOC_H
#define PGLOCKD_BASE_XALLOC_H

/*
 * Allocation for the programs. Everything that a client can make grow is bounded by a setting, so
 * running out of memory is a fault of the machine: these log one line and abort, and never return
 * NULL. The client library does not use them.
 */

#include <stddef.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* A NUL-terminated copy of n bytes. */
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));

#endif
