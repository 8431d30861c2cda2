#ifndef PGLOCKD_SERVICE_RATE_POLICY_H
#define PGLOCKD_SERVICE_RATE_POLICY_H

/* The policies of rate limits as a daemon knows them: rows of pglockd.rate_policy. Pure. */

#include <stddef.h>

#include "base/str.h"
#include "service/rate_math.h"

/* What a daemon does while it cannot ask PostgreSQL. */
enum rate_away { RATE_AWAY_DENY, RATE_AWAY_ALLOW, RATE_AWAY_LOCAL };

/* What its counters are counted by. */
enum rate_counted { RATE_BY_KEY, RATE_BY_PATTERN, RATE_BY_OWNER };

/* Which requests a policy is for. */
enum rate_use { RATE_USE_RATE, RATE_USE_ATTEMPT, RATE_USE_GRANT };

struct rate_policy {
    char *name;
    char *pattern;
    enum rate_use use;
    enum rate_counted counted;
    enum rate_away away;
    int away_percent;
    bool prefix; /* else the pattern is all of the key */
    bool shadow;
    bool borrow;
    unsigned label; /* of the metrics */
    struct rate_limit limit;
};

struct rate_policies {
    struct rate_policy *list;
    size_t n;
    int64_t epoch;  /* their version; 0: none were read */
    bool for_locks; /* there are some for LOCK */
};

/* Appends a zeroed policy. */
struct rate_policy *rate_policies_add(struct rate_policies *p);
void rate_policies_free(struct rate_policies *p);
const struct rate_policy *rate_policies_find(const struct rate_policies *p, struct str name);
/* Does its pattern match? A prefix ends at a slash of the key, or with its own punctuation mark. */
bool rate_policy_matches(const struct rate_policy *p, struct str key);

#endif
