#ifndef PGLOCKD_WIRE_RIGHT_H
#define PGLOCKD_WIRE_RIGHT_H

/*
 * Rights: what an authenticated name may do, and where. A right is written VERB:PATTERN, such as
 * lock:repo/a.ts or read:*. A pattern is
 *     a name           that name alone
 *     a stem and *     all that begins with the stem, and is more: a stem ends with a slash, so
 *                      that repo/ and a star is all beneath repo, not repo and never repository;
 *                      for rate, whose keys are no paths, with any punctuation mark (user:*)
 *     *                everything
 * and a * stands nowhere else. What no right covers is denied. admin covers what all the others
 * do. Pure.
 */

#include <stdbool.h>

#include "base/str.h"

/* The first one is what a verb needs that forgot to say so. */
#define RIGHTS(X)                                                                                  \
    X(ADMIN, "admin")                                                                              \
    X(LOCK, "lock")                                                                                \
    X(RATE, "rate")                                                                                \
    X(READ, "read")                                                                                \
    X(WATCH, "watch")                                                                              \
    X(FORCE, "force")

enum right {
#define X(id, name) RIGHT_##id,
    RIGHTS(X)
#undef X
        RIGHT_COUNT
};

enum { PATTERN_BYTES_MAX = 514 }; /* a resource, a slash and a star */

enum { IDENTITY_NAME_MAX = 128 };

/* NULL where s can be an authenticated name, or one sentence (static) that says what is wrong. */
const char *identity_name_check(struct str s);

const char *right_name(enum right right);

/*
 * VERB:PATTERN into its parts; pattern is a slice of text. NULL, or one sentence (static) that says
 * what is wrong.
 */
const char *right_parse(struct str text, enum right *right, struct str *pattern);

/* The patterns of each right; a zeroed struct has none. None covers another one. */
struct right_set {
    struct right_patterns {
        struct str *items;
        size_t n;
    } of[RIGHT_COUNT];
};

/* Copies the pattern, which right_parse() has accepted. */
void right_set_add(struct right_set *set, enum right right, struct str pattern);
void right_set_free(struct right_set *set);

/* Is there anything that the right covers? */
bool right_set_has(const struct right_set *set, enum right right);
/* Does the right cover this name; with tree, also all that lies beneath it? */
bool right_set_covers(const struct right_set *set, enum right right, struct str name, bool tree);

/*
 * Which names a right covers among those at and beneath prefix (p NULL: among all), as ranges of
 * bytes, low <= name < high, that do not overlap; high p NULL has no end. The slices are valid
 * during the call.
 */
typedef void right_range_fn(void *arg, struct str low, struct str high);
void right_set_ranges(const struct right_set *set, enum right right, struct str prefix,
                      right_range_fn *fn, void *arg);

/* The same where everything is covered. */
void right_all_ranges(struct str prefix, right_range_fn *fn, void *arg);

#endif
