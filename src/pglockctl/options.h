#ifndef PGLOCKD_PGLOCKCTL_OPTIONS_H
#define PGLOCKD_PGLOCKCTL_OPTIONS_H

/* Command-line options from a table: the same rows parse and print themselves. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum opt_kind {
    OPT_FLAG,     /* bool, set to true */
    OPT_STRING,   /* const char *, points into argv */
    OPT_LIST,     /* const char *[], one more each time, max at most */
    OPT_NUMBER,   /* int64_t from min to max */
    OPT_DURATION, /* int64_t milliseconds from min to max */
};

struct opt {
    char letter; /* 0: none */
    const char *name;
    enum opt_kind kind;
    void *into;
    size_t *count;     /* of OPT_LIST */
    const char *value; /* how the value is called in the help */
    int64_t min;
    int64_t max;
    const char *help;
};

/* Points into argv. */
struct opt_words {
    char **words; /* neither options nor behind "--" */
    size_t nwords;
    char **rest; /* behind "--" */
    size_t nrest;
    bool dashes; /* there was a "--" */
};

/*
 * Parses argv[0 .. argc) by several tables. Options and words may be mixed (the words are gathered
 * at the front of argv). With stop_at_word the first word ends the options and it and all behind it
 * are words. False: one sentence in err.
 */
bool opt_parse(int argc, char **argv, bool stop_at_word, const struct opt *const *tables,
               const size_t *sizes, size_t ntables, struct opt_words *words, struct buf *err);

/* The table as lines of a help text. */
void opt_put_help(struct buf *out, const struct opt *table, size_t n);

#endif
