#include "service/route.h"

#include "wire/resource.h"

uint32_t route_hash(struct str s)
{
    uint32_t h = UINT32_C(2166136261);
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT32_C(16777619);
    return h;
}

int route_lane(struct str resource, int lanes)
{
    if (lanes <= 1)
        return 0;
    return (int)(route_hash(resource_first_segment(resource)) % (uint32_t)lanes);
}
