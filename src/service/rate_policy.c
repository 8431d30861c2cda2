#include "service/rate_policy.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/xalloc.h"

struct rate_policy *rate_policies_add(struct rate_policies *p)
{
    if ((p->n & (p->n - 1)) == 0)
        p->list = xrealloc(p->list, (p->n ? 2 * p->n : 1) * sizeof(*p->list));
    struct rate_policy *policy = &p->list[p->n++];
    *policy = (struct rate_policy){0};
    return policy;
}

void rate_policies_free(struct rate_policies *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->list[i].name);
        free(p->list[i].pattern);
    }
    free(p->list);
    *p = (struct rate_policies){0};
}

const struct rate_policy *rate_policies_find(const struct rate_policies *p, struct str name)
{
    for (size_t i = 0; i < p->n; i++)
        if (str_is(name, p->list[i].name))
            return &p->list[i];
    return NULL;
}

static bool is_mark(unsigned char c)
{
    return c >= ' ' && c < 0x7f && !isalnum(c);
}

bool rate_policy_matches(const struct rate_policy *p, struct str key)
{
    size_t n = strlen(p->pattern);
    if (str_is(key, p->pattern))
        return true;
    if (!p->prefix || key.n < n || memcmp(key.p, p->pattern, n) != 0)
        return false;
    return n == 0 || key.p[n] == '/' || is_mark((unsigned char)p->pattern[n - 1]);
}
