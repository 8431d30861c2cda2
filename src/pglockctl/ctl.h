#ifndef PGLOCKD_PGLOCKCTL_CTL_H
#define PGLOCKD_PGLOCKCTL_CTL_H

/* What the commands of pglockctl share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "client/pglockd.h"
#include "pglockctl/options.h"

enum exit_status {
    CTL_OK = 0,
    CTL_BAD_REQUEST = 64,
    CTL_UNREACHABLE = 69,
    CTL_BUSY = 75, /* -E sets another */
    CTL_LOST = 76,
    CTL_DENIED = 77,
    CTL_CONFIG = 78,
    CTL_CANNOT_EXECUTE = 126, /* run only, like the next */
    CTL_NOT_FOUND = 127,
};

struct ctl {
    const char *connect; /* addresses */
    bool connect_from_env;
    bool json;
    int64_t busy_status;
    const char *name; /* of HELLO; NULL: user@host */
    const char *key_file;
    pglockd_tls_options tls;
    bool help;
    bool version;
};

/* Whether a command takes the options of path_files.h. */
enum command_files {
    FILES_NONE,
    FILES_AS_WORDS, /* main() never sees a file: its words are resources already */
    FILES_BY_ITSELF,
    FILES_ALWAYS, /* the words are nothing but files */
};

struct command {
    const char *name;
    const char *synopsis; /* what follows the name */
    const char *summary;  /* one line for the list of commands */
    const char *details;  /* for --help of the command; may be NULL */
    const struct opt *options;
    size_t noptions;
    enum command_files files;
    const struct opt *more_options; /* that it shares with others; may be NULL */
    size_t nmore_options;
    /* words: what is no option; rest: what follows "--". Returns the exit status. */
    int (*main)(struct ctl *ctl, const struct opt_words *words);
};

extern const struct command command_lock, command_unlock, command_renew, command_check,
    command_info, command_ls, command_tree, command_path, command_stats, command_bench, command_top,
    command_migrate, command_run, command_rate, command_session, command_force, command_key,
    command_watch;

/* "pglockctl: …" on standard error; control characters in what is printed are made harmless. */
void ctl_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* ctl_error() and CTL_BAD_REQUEST. */
int ctl_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The exit status for a status and an error code of the protocol or of the library. */
int ctl_exit_status(const struct ctl *ctl, pglockd_status status, const char *code);

/* The name that others see as the owner: --name, or user@host. */
void ctl_put_name(const struct ctl *ctl, struct buf *out);

/*
 * A handle for the addresses of ctl, not yet connected; never NULL. The caller frees it.
 */
pglockd *ctl_client(const struct ctl *ctl);

/* The first line of the key file; NULL: none is named. Ends with CTL_CONFIG where it cannot be had.
 */
const char *ctl_key(const struct ctl *ctl);

/* Says what the last call on c was about and returns the exit status for it. */
int ctl_fail(const struct ctl *ctl, pglockd *c, pglockd_status status);

/*
 * The protocol's words as one line: verb, then the arguments, then the key=value words. A word that
 * is a whole JSON string is an argument as it stands; the words behind "--" are arguments whatever
 * they look like. Everything is quoted, so that no word can become two.
 */
void ctl_put_line(struct buf *line, const char *verb, const struct opt_words *words);

/* Is it a word KEY=VALUE? */
bool ctl_is_pair(const char *word);

/* The only argument that is no key=value word; NULL where there is none, or are several. */
const char *ctl_only_argument(const struct opt_words *words);

/* The value of the last word key=…, or NULL. */
const char *ctl_word_value(const struct opt_words *words, const char *key);

/* Sends the words and waits as long as their wait= says; as pglockd_call(). */
pglockd_status ctl_call(pglockd *c, const char *verb, const struct opt_words *words,
                        pglockd_reply **reply);

/*
 * What a command does with an answer: with --json it is printed; one that is not OK is said to the
 * user, and freed. Returns the exit status.
 */
int ctl_finish(const struct ctl *ctl, pglockd *c, pglockd_status status, pglockd_reply **reply);

/*
 * Both, over a connection of its own. Returns CTL_OK with *reply set, which the caller frees; or
 * the exit status with *reply NULL.
 */
int ctl_ask(const struct ctl *ctl, const char *verb, const struct opt_words *words,
            pglockd_reply **reply);

/* ctl_ask() for a command that has nothing to print. */
int ctl_ask_quietly(const struct ctl *ctl, const char *verb, const struct opt_words *words);

#endif
