#include "pglockctl/hist.h"

#include <math.h>
#include <stddef.h>

static size_t bucket_of(uint64_t v)
{
    if (v < HIST_SUB)
        return (size_t)v;
    unsigned shift = (unsigned)(63 - __builtin_clzll(v)) - HIST_BITS;
    return (size_t)shift * HIST_SUB + (size_t)(v >> shift);
}

/* The highest value of a bucket. */
static int64_t upper_edge(size_t bucket)
{
    if (bucket < 2 * HIST_SUB)
        return (int64_t)bucket;
    unsigned shift = (unsigned)(bucket / HIST_SUB) - 1;
    uint64_t low = (uint64_t)(bucket - (size_t)shift * HIST_SUB) << shift;
    return (int64_t)(low + (UINT64_C(1) << shift) - 1);
}

void hist_note(struct hist *h, int64_t ns)
{
    if (ns > h->max)
        h->max = ns;
}

void hist_add(struct hist *h, int64_t ns)
{
    if (ns < 0)
        ns = 0;
    h->buckets[bucket_of((uint64_t)ns)]++;
    h->count++;
    hist_note(h, ns);
}

void hist_merge(struct hist *h, const struct hist *other)
{
    for (size_t i = 0; i < HIST_BUCKETS; i++)
        h->buckets[i] += other->buckets[i];
    h->count += other->count;
    hist_note(h, other->max);
}

int64_t hist_quantile(const struct hist *h, double q)
{
    uint64_t seen = 0, want = (uint64_t)ceil(q * (double)h->count);

    if (want < 1)
        want = 1;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= want && h->count > 0) {
            int64_t edge = upper_edge(i);
            return edge < h->max ? edge : h->max;
        }
    }
    return h->max;
}
