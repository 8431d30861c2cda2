#include "base/tally.h"

#include <stdlib.h>
#include <sys/random.h>

#include "base/xalloc.h"

enum { BUCKETS_MIN = 64 };

struct tally {
    uint64_t key;
    size_t names;
    size_t nbuckets; /* a power of two */
    struct tally_entry **buckets;
};

struct tally *tally_new(void)
{
    struct tally *t = xcalloc(1, sizeof(*t));

    t->nbuckets = BUCKETS_MIN;
    t->buckets = xcalloc(t->nbuckets, sizeof(struct tally_entry *));
    if (getrandom(&t->key, sizeof(t->key), GRND_NONBLOCK) != (ssize_t)sizeof(t->key))
        t->key = (uint64_t)(uintptr_t)t; /* early in a boot: what the loader made random must do */
    return t;
}

void tally_free(struct tally *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->nbuckets; i++) {
        while (t->buckets[i]) {
            struct tally_entry *e = t->buckets[i];
            t->buckets[i] = e->next;
            free(e);
        }
    }
    free(t->buckets);
    free(t);
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

/* What a block does to the hash depends on the key and on all blocks before it. */
static uint64_t hash_of(const struct tally *t, struct str name)
{
    uint64_t h = mix(t->key ^ name.n);

    for (size_t i = 0; i < name.n; i += sizeof(uint64_t)) {
        uint64_t block = 0;
        size_t left = name.n - i;
        memcpy(&block, name.p + i, left < sizeof(block) ? left : sizeof(block));
        h = mix((h ^ block) + t->key);
    }
    return h;
}

static struct tally_entry **slot_of(const struct tally *t, uint64_t hash, struct str name)
{
    struct tally_entry **at = &t->buckets[hash & (t->nbuckets - 1)];

    while (*at && ((*at)->hash != hash || !str_eq((struct str){(*at)->name, (*at)->n}, name)))
        at = &(*at)->next;
    return at;
}

static void grow(struct tally *t)
{
    struct tally_entry **old = t->buckets;
    size_t n = t->nbuckets;

    t->nbuckets *= 2;
    t->buckets = xcalloc(t->nbuckets, sizeof(struct tally_entry *));
    for (size_t i = 0; i < n; i++) {
        while (old[i]) {
            struct tally_entry *e = old[i];
            struct tally_entry **at = &t->buckets[e->hash & (t->nbuckets - 1)];
            old[i] = e->next;
            e->next = *at;
            *at = e;
        }
    }
    free(old);
}

static struct tally_entry *new_entry(struct tally *t, uint64_t hash, struct str name)
{
    struct tally_entry *e = xcalloc(1, sizeof(*e) + name.n);

    e->hash = hash;
    e->n = name.n;
    if (name.n > 0)
        memcpy(e->name, name.p, name.n);
    if (++t->names > t->nbuckets)
        grow(t);
    e->next = t->buckets[hash & (t->nbuckets - 1)];
    t->buckets[hash & (t->nbuckets - 1)] = e;
    return e;
}

struct tally_entry *tally_add(struct tally *t, struct str name, size_t max)
{
    uint64_t hash = hash_of(t, name);
    struct tally_entry *e = *slot_of(t, hash, name);

    if (e && max > 0 && e->count >= max)
        return NULL;
    if (e == NULL)
        e = new_entry(t, hash, name);
    e->count++;
    return e;
}

void tally_drop(struct tally *t, struct tally_entry *e)
{
    struct tally_entry **at;

    if (e == NULL || --e->count > 0)
        return;
    at = &t->buckets[e->hash & (t->nbuckets - 1)];
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    t->names--;
    free(e);
}

size_t tally_count(const struct tally *t, struct str name)
{
    const struct tally_entry *e = *slot_of(t, hash_of(t, name), name);

    return e ? e->count : 0;
}
