#include "service/route.h"

#include <stdint.h>

#include "wire/resource.h"

int route_lane(struct str resource, int lanes)
{
    struct str s = resource_first_segment(resource);
    uint32_t h = UINT32_C(2166136261); /* FNV-1a */
    if (lanes <= 1)
        return 0;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT32_C(16777619);
    return (int)(h % (uint32_t)lanes);
}
