#ifndef PGLOCKD_PG_SQLSTATE_H
#define PGLOCKD_PG_SQLSTATE_H

#include <stdbool.h>

/* What an error of the server means for the requests of the round that it ended. */
enum sqlstate_meaning {
    SQLSTATE_LOCKED,      /* somebody kept a row locked for longer than lock_timeout */
    SQLSTATE_RETRY,       /* the server was busy or going down: the same round may pass later */
    SQLSTATE_UNAVAILABLE, /* the server does not serve this for now (read only, no space) */
    SQLSTATE_BUG,         /* pglockd's own fault, or a schema that was changed under it */
};

enum sqlstate_meaning sqlstate_meaning(const char *sqlstate);

/* Index of the state's class for the metric label SQLSTATE; 0 stands for every unlisted one. */
unsigned sqlstate_class(const char *sqlstate);
/* Registers the names of the classes with the metrics. */
void sqlstate_register(void);

#endif
