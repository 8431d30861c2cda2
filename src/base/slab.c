#include "base/slab.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xalloc.h"

/* Under AddressSanitizer a freed object may not be touched, as if free() had been called. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum {
    CHUNK_SLOTS = 256,
    OBJECT_SIZE_MAX = 1 << 20,
};

/*
 * Before each object. An odd generation means that the object is in use; the generation grows by
 * one with every alloc and every free, so that a stale id never equals it again. A slot whose
 * generations are used up is retired.
 */
struct slot {
    uint32_t generation;
    uint32_t next_free; /* index + 1, while free */
    alignas(max_align_t) char object[];
};

void slab_init(struct slab *s, size_t object_size)
{
    const size_t align = alignof(max_align_t);

    if (object_size == 0 || object_size > OBJECT_SIZE_MAX) {
        log_error("slab_object_size", "bytes=%zu", object_size);
        abort();
    }
    *s = (struct slab){.object_size = object_size};
    s->slot_size = sizeof(struct slot) + (object_size + align - 1) / align * align;
}

static struct slot *slot_at(const struct slab *s, uint32_t index)
{
    char *chunk = s->chunks[index / CHUNK_SLOTS];

    return (struct slot *)(void *)(chunk + index % CHUNK_SLOTS * s->slot_size);
}

void slab_free_all(struct slab *s)
{
    for (size_t i = 0; i < s->n_chunks; i++) {
        ASAN_UNPOISON_MEMORY_REGION(s->chunks[i], CHUNK_SLOTS * s->slot_size);
        free(s->chunks[i]);
    }
    free(s->chunks);
    slab_init(s, s->object_size);
}

static void push_free(struct slab *s, uint32_t index)
{
    struct slot *slot = slot_at(s, index);

    slot->next_free = s->free_head;
    s->free_head = index + 1;
    ASAN_POISON_MEMORY_REGION(slot->object, s->object_size);
}

static void grow(struct slab *s)
{
    uint32_t first = (uint32_t)(s->n_chunks * CHUNK_SLOTS);

    if (s->n_chunks >= UINT32_MAX / CHUNK_SLOTS) {
        log_error("slab_full", "chunks=%zu", s->n_chunks);
        abort();
    }
    s->chunks = xrealloc(s->chunks, (s->n_chunks + 1) * sizeof(char *));
    s->chunks[s->n_chunks++] = xcalloc(CHUNK_SLOTS, s->slot_size);
    for (uint32_t i = CHUNK_SLOTS; i-- > 0;)
        push_free(s, first + i);
}

void *slab_alloc(struct slab *s, uint64_t *id)
{
    struct slot *slot;
    uint32_t index;

    if (s->free_head == 0)
        grow(s);
    index = s->free_head - 1;
    slot = slot_at(s, index);
    s->free_head = slot->next_free;
    slot->generation++;
    s->live++;
    ASAN_UNPOISON_MEMORY_REGION(slot->object, s->object_size);
    memset(slot->object, 0, s->object_size);
    *id = (uint64_t)slot->generation << 32 | index;
    return slot->object;
}

static struct slot *live_slot(const struct slab *s, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    uint32_t generation = (uint32_t)(id >> 32);
    struct slot *slot;

    if (index / CHUNK_SLOTS >= s->n_chunks || generation % 2 == 0)
        return NULL;
    slot = slot_at(s, index);
    return slot->generation == generation ? slot : NULL;
}

void *slab_get(const struct slab *s, uint64_t id)
{
    struct slot *slot = live_slot(s, id);

    return slot ? slot->object : NULL;
}

int slab_free(struct slab *s, uint64_t id)
{
    struct slot *slot = live_slot(s, id);

    if (!slot)
        return -1;
    s->live--;
    if (++slot->generation != 0) /* else its generations are used up: retired */
        push_free(s, (uint32_t)id);
    return 0;
}
