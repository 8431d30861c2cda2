#ifndef PGLOCKD_PGLOCKCTL_TOP_SCREEN_H
#define PGLOCKD_PGLOCKCTL_TOP_SCREEN_H

/*
 * A terminal that is drawn over and over. Whatever ends the program in between (q, a signal, its
 * return from main) leaves the terminal as it was before.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Is standard output a terminal that can be drawn on? */
bool screen_is_possible(void);
void screen_enter(void);
void screen_leave(void);

/* As it is now; it changes with SCREEN_RESIZED. */
void screen_size(size_t *rows, size_t *columns);

/* Shows lines, each ended by a newline, harmless and no longer than the screen is wide. False: it
 * cannot be written to. */
bool screen_draw(struct str lines);

enum screen_event { SCREEN_TIME, SCREEN_KEY, SCREEN_RESIZED, SCREEN_QUIT };

/* Waits until something happens, or the time is over. SCREEN_KEY: a key that does not quit. */
enum screen_event screen_wait(int64_t ms);

#endif
