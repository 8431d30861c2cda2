#ifndef PGLOCKD_TESTS_FUZZ_H
#define PGLOCKD_TESTS_FUZZ_H

/*
 * What is fed with arbitrary bytes: everything that reads what a client, a file or a server sent.
 * Each target aborts where what came out breaks a promise of the header it tests. libFuzzer drives
 * one at a time (libfuzzer.c, make check-fuzz); replay.c drives all of them over the corpus, with
 * any compiler, in make check.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define FUZZ_TARGETS(X) X(line) X(grammar) X(settings) X(reply) X(note) X(path)

#define X(name) int fuzz_##name(const uint8_t *data, size_t size);
FUZZ_TARGETS(X)
#undef X

/* Not assert(): it must hold in every build. */
#define FUZZ_PROMISE(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A copy of exactly that size, so that a sanitizer sees a read of one byte too many; to be freed.
 */
static inline char *fuzz_copy(const uint8_t *data, size_t size)
{
    char *copy = malloc(size > 0 ? size : 1);
    FUZZ_PROMISE(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

#endif
