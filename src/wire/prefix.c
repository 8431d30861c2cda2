#include "wire/prefix.h"

#include "wire/duration.h"
#include "wire/resource.h"

const char *prefix_duration_parse(struct str item, struct str *prefix, int64_t *ms)
{
    const char *equals = item.n > 0 ? memrchr(item.p, '=', item.n) : NULL;
    const char *wrong;

    if (equals == NULL)
        return "write PREFIX=DURATION, such as deploy=10s";
    *prefix = (struct str){item.p, (size_t)(equals - item.p)};
    wrong = str_is(*prefix, "/") ? NULL : resource_check(*prefix);
    if (wrong)
        return wrong;
    return duration_parse((struct str){equals + 1, item.n - prefix->n - 1}, false, ms);
}

int64_t prefix_duration_of(char *const *items, size_t n, struct str resource)
{
    size_t longest = 0;
    int64_t found_ms = 0;

    for (size_t i = 0; i < n; i++) {
        struct str prefix;
        int64_t ms;
        if (prefix_duration_parse(str_of(items[i]), &prefix, &ms) == NULL && prefix.n > longest &&
            resource_covers(prefix, resource)) {
            longest = prefix.n;
            found_ms = ms;
        }
    }
    return found_ms;
}
