#include "pg/sqlstate.h"

#include <stddef.h>
#include <string.h>

#include "base/metrics.h"

/* Classes of PostgreSQL's documentation, appendix A, that can meet a daemon. */
static const struct {
    const char *class;
    enum sqlstate_meaning meaning;
} table[] = {
    {"other", SQLSTATE_BUG},      {"08", SQLSTATE_RETRY}, /* connection exception */
    {"22", SQLSTATE_BUG},                                 /* data exception */
    {"23", SQLSTATE_BUG},                                 /* integrity constraint violation */
    {"25", SQLSTATE_UNAVAILABLE}, /* invalid transaction state: a read-only server */
    {"28", SQLSTATE_UNAVAILABLE}, /* invalid authorization */
    {"40", SQLSTATE_RETRY},       /* transaction rollback: deadlock, serialization */
    {"42", SQLSTATE_BUG},         /* syntax or access rule: objects are missing */
    {"53", SQLSTATE_UNAVAILABLE}, /* insufficient resources */
    {"55", SQLSTATE_RETRY},       /* object not in prerequisite state */
    {"57", SQLSTATE_RETRY},       /* operator intervention: shutdown, cancel */
    {"58", SQLSTATE_UNAVAILABLE}, /* system error */
    {"XX", SQLSTATE_BUG},         /* internal error */
};

enum { TABLE_SIZE = sizeof(table) / sizeof(table[0]) };

unsigned sqlstate_class(const char *sqlstate)
{
    for (unsigned i = 1; i < TABLE_SIZE; i++)
        if (strncmp(sqlstate, table[i].class, 2) == 0)
            return i;
    return 0;
}

enum sqlstate_meaning sqlstate_meaning(const char *sqlstate)
{
    if (strcmp(sqlstate, "55P03") == 0)
        return SQLSTATE_LOCKED;
    return table[sqlstate_class(sqlstate)].meaning;
}

void sqlstate_register(void)
{
    static const char *names[TABLE_SIZE];
    for (size_t i = 0; i < TABLE_SIZE; i++)
        names[i] = table[i].class;
    metrics_label_names(LABEL_SQLSTATE, names, TABLE_SIZE);
}
