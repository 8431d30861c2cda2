#ifndef PGLOCKD_PGLOCKCTL_PATH_FILES_H
#define PGLOCKD_PGLOCKCTL_PATH_FILES_H

/* The files that a command line names, as resources. */

#include "pglockctl/ctl.h"
#include "pglockctl/path_root.h"

/* --files, then those that say how files are named. */
enum { PATH_OPTIONS = 7 };
extern const struct opt path_options[PATH_OPTIONS];

/* Whether the words of the command are files. */
bool path_wanted(void);

/* False, and says so, when how files are named is given and no files are; always: they are. */
bool path_settings_are_used(bool always);

struct path_name {
    char *file; /* as it was given */
    char *resource;
    bool tree; /* a directory, or called one by a slash at its end: all beneath it is meant, too */
};

/* A zeroed struct is an empty list. */
struct path_names {
    struct path_name *at;
    size_t n;
    size_t cap;
    struct path_root root; /* of the last one */
};

/*
 * Adds the words, all of them files, then those behind "--", then those of --files0-from. With
 * any_name a resource may be more than one can be (see path_check()). CTL_OK, or says why not and
 * returns the exit status.
 */
int path_names_get(struct path_names *names, const struct opt_words *words, bool any_name);
void path_names_free(struct path_names *names);

/* Sorts by resource; each stays once, and what a tree among them covers goes. */
void path_names_reduce(struct path_names *names);

/*
 * The words of a command with every file replaced by its resource: pairs KEY=VALUE stay, the others
 * become out->rest. The names own what out->rest points to; out's two lists are freed by
 * path_words_free(). CTL_OK, or says why not and returns the exit status.
 */
int path_words(struct path_names *names, const struct opt_words *words, bool any_name,
               struct opt_words *out);
void path_words_free(struct opt_words *out);

#endif
