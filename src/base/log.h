#ifndef PGLOCKD_BASE_LOG_H
#define PGLOCKD_BASE_LOG_H

/*
 * Log lines on standard error, one line an event, key=value:
 *     2026-11-23T08:00:00.123Z level=info event=client_closed conn=7 reason=quit
 * fmt is a printf format of further key=value words. Text that came from outside (a client, the
 * server's messages) must go through log_quote(), so that it cannot start a line or a word of its
 * own. Secrets are never passed here.
 */

#include "base/str.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* -1 when the word names no level. */
int log_level_parse(const char *word);
const char *log_level_name(enum log_level level);

void log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_event(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_event(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)                                                                      \
    do {                                                                                           \
        if (log_get_level() >= LOG_DEBUG)                                                          \
            log_event(LOG_DEBUG, event, __VA_ARGS__);                                              \
    } while (0)

/*
 * s as a quoted word ("..." with \" \\ \n \xNN escapes, cut at 256 bytes). The result lies in one
 * of 8 static buffers that are used in turn: enough for one log line.
 */
const char *log_quote(struct str s);

#endif
