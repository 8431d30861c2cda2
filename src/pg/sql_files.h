#ifndef PGLOCKD_PG_SQL_FILES_H
#define PGLOCKD_PG_SQL_FILES_H

/*
 * The SQL files as the build embedded them (sql/generate.sh). Checksums and numbers are worked out
 * there, once, for the programs and for install.sql alike.
 */

#include <stddef.h>

struct sql_file {
    const char *name; /* without directory, such as 0001_core.sql */
    const char *text; /* NUL-terminated */
    size_t len;
    const char *sha256; /* 64 hex digits */
    /* Migrations only, else 0. */
    int version;     /* from the name; file i of a set has version i + 1 */
    int min_program; /* oldest schema version whose programs run after it */
};

/* A set of SQL files makes one schema version: n_migrations. Programs use sql_embedded. */
struct sql_set {
    struct sql_file roles;
    struct sql_file bootstrap;
    const struct sql_file *migrations;
    size_t n_migrations;
    const struct sql_file *functions; /* by name */
    size_t n_functions;
    const char *functions_sha256; /* over names and checksums of functions[] */
};

extern const struct sql_set sql_embedded;

#endif
