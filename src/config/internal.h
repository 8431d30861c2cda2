#ifndef PGLOCKD_CONFIG_INTERNAL_H
#define PGLOCKD_CONFIG_INTERNAL_H

/* What the files of this directory share. */

#include "config/settings.h"

/* Where a value came from; a later one is stronger. */
enum settings_level { LEVEL_DEFAULT, LEVEL_FILE, LEVEL_ENVIRONMENT, LEVEL_OPTION };

struct settings_source {
    enum settings_level level;
    size_t line; /* in the file */
};

struct settings_origin {
    int argc;
    char **argv;
    struct settings_source source[SETTINGS_COUNT];
};

static inline enum settings_level setting_level(const struct settings *s, int i)
{
    return s->origin->source[i].level;
}

/* What the command line asks for beside values. */
enum action { ACTION_RUN, ACTION_CHECK, ACTION_SHOW, ACTION_HELP, ACTION_VERSION };

/*
 * sources.c: from each source into *s, weakest first. The defaults cannot fail; the others return
 * false with one sentence in err.
 */
void sources_defaults(struct settings *s);
bool sources_file(struct settings *s, struct buf *err);
bool sources_environment(struct settings *s, struct buf *err);
/*
 * The name of the file comes before the file: with only_config nothing but config is taken from the
 * environment and the options, and the rest of the options is only checked for its form. *action
 * is set when an option names one; help and version end the walk.
 */
bool sources_config_path(struct settings *s, enum action *action, struct buf *err);
bool sources_options(struct settings *s, enum action *action, struct buf *err);

/* value.c: one value from text and back */

/*
 * Sets row i of *s. A list is replaced, or appended to. Returns false with the reason, without the
 * name of the setting or its source, in why.
 */
bool setting_parse(struct settings *s, int i, const char *text, bool append, struct buf *why);
/* As a user would write it; secrets as "***". Nothing is appended for what is not set. */
void setting_format(const struct settings *s, int i, struct buf *out);
bool setting_same(const struct settings *a, const struct settings *b, int i);
void setting_swap(struct settings *a, struct settings *b, int i);
void setting_clear(struct settings *s, int i);

/* show.c */

/* "option --ttl", "/etc/pglockd/pglockd.ini:7", "default" */
void setting_put_source(const struct settings *s, int i, struct buf *out);

#endif
