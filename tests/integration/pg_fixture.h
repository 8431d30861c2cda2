#ifndef PGLOCKD_TESTS_PG_FIXTURE_H
#define PGLOCKD_TESTS_PG_FIXTURE_H

/* What the C tests with a real PostgreSQL share. */

#include <check.h>
#include <stdbool.h>

/* Does initdb exist on this machine? */
bool have_postgres(void);

/* Runs the suite and returns the exit status of main: 77 and a TAP plan of no tests if skipped. */
int run_or_skip(Suite *suite);

/* A new empty directory that any user can pass; lives until the process that made it exits. */
const char *temp_dir(void);

#endif
