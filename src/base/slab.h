#ifndef PGLOCKD_BASE_SLAB_H
#define PGLOCKD_BASE_SLAB_H

/*
 * A pool of objects of one size, each addressed by a 64-bit id besides its pointer. An id is
 * (generation << 32 | index) and is never 0; it goes stale when its object is freed, and no later
 * object of the pool gets the same id. So an id can be handed to whoever answers later: the answer
 * finds the object, or finds that it is gone.
 *
 * Pointers stay valid until their object is freed: the pool grows by chunks and never moves one.
 * All operations take constant time. Memory goes back to the system with slab_free_all() only; the
 * caller bounds how many objects live at a time. Lack of memory aborts (see xalloc.h).
 */

#include <stddef.h>
#include <stdint.h>

struct slab {
    size_t object_size;
    size_t slot_size;
    char **chunks;
    size_t n_chunks;
    uint32_t free_head; /* index + 1 of the slot to use next; 0: none */
    size_t live;        /* objects in use */
};

/* object_size in bytes, from 1 to 1 MiB. */
void slab_init(struct slab *s, size_t object_size);
/* Frees the pool with all objects in it; it is as after slab_init(). */
void slab_free_all(struct slab *s);

/* A zeroed object, aligned for any type; its id to *id. Never NULL. */
void *slab_alloc(struct slab *s, uint64_t *id) __attribute__((returns_nonnull));
/* The object of id, or NULL when id is stale or was never given out. */
void *slab_get(const struct slab *s, uint64_t id);
/* Frees the object of id. Returns 0, or -1 when id is stale: then nothing happens. */
int slab_free(struct slab *s, uint64_t id);

#endif
