#include "base/slab.h"

#include <stdalign.h>
#include <stdbool.h>

#include "base/list.h"
#include "base/xalloc.h"
#include "unit.h"

struct thing {
    uint64_t mark;
    char name[11];
};

START_TEST(alloc_get_free)
{
    struct slab s;
    uint64_t a, b;
    struct thing *p, *q;

    slab_init(&s, sizeof(struct thing));
    p = slab_alloc(&s, &a);
    q = slab_alloc(&s, &b);
    ck_assert_ptr_ne(p, q);
    ck_assert(a != b && a != 0 && b != 0);
    ck_assert_ptr_eq(slab_get(&s, a), p);
    ck_assert_ptr_eq(slab_get(&s, b), q);
    ck_assert_uint_eq(s.live, 2);
    ck_assert_int_eq(slab_free(&s, a), 0);
    ck_assert_ptr_null(slab_get(&s, a));
    ck_assert_int_eq(slab_free(&s, a), -1);
    ck_assert_ptr_eq(slab_get(&s, b), q);
    ck_assert_uint_eq(s.live, 1);
    slab_free_all(&s);
    ck_assert_ptr_null(slab_get(&s, b));
    ck_assert_uint_eq(s.live, 0);
    ck_assert_ptr_nonnull(slab_alloc(&s, &a));
    slab_free_all(&s);
}
END_TEST

START_TEST(reused_slot_has_another_id)
{
    struct slab s;
    uint64_t old, id;
    struct thing *p, *q;

    slab_init(&s, sizeof(struct thing));
    p = slab_alloc(&s, &old);
    memset(p, 0xff, sizeof(*p));
    slab_free(&s, old);
    q = slab_alloc(&s, &id);
    ck_assert_ptr_eq(p, q);
    ck_assert_uint_eq((uint32_t)old, (uint32_t)id);
    ck_assert(old != id);
    ck_assert_uint_eq(q->mark, 0);
    ck_assert_int_eq(q->name[10], 0);
    ck_assert_ptr_null(slab_get(&s, old));
    ck_assert_int_eq(slab_free(&s, old), -1);
    ck_assert_ptr_eq(slab_get(&s, id), q);
    slab_free_all(&s);
}
END_TEST

START_TEST(ids_never_given_out)
{
    struct slab s;
    uint64_t id;

    slab_init(&s, 1);
    ck_assert_ptr_null(slab_get(&s, 0));
    ck_assert_ptr_null(slab_get(&s, UINT64_MAX));
    slab_alloc(&s, &id);
    ck_assert_ptr_null(slab_get(&s, 0));
    ck_assert_ptr_null(slab_get(&s, id + 1));                   /* a free slot */
    ck_assert_ptr_null(slab_get(&s, id + 100000));              /* no such slot */
    ck_assert_ptr_null(slab_get(&s, id + (UINT64_C(1) << 32))); /* another generation */
    ck_assert_ptr_null(slab_get(&s, id - (UINT64_C(1) << 32)));
    ck_assert_ptr_null(slab_get(&s, id + (UINT64_C(2) << 32)));
    ck_assert_int_eq(slab_free(&s, id + 1), -1);
    ck_assert_uint_eq(s.live, 1);
    slab_free(&s, id);
    ck_assert_ptr_null(slab_get(&s, id + (UINT64_C(1) << 32))); /* the generation of a free slot */
    ck_assert_int_eq(slab_free(&s, id + (UINT64_C(1) << 32)), -1);
    slab_free_all(&s);
}
END_TEST

/*
 * A slot whose generations are used up is left out, so that its ids are never given again. To get
 * there in less than 2^31 rounds the test reaches into the header before the object.
 */
START_TEST(exhausted_slot_is_retired)
{
    struct slab s;
    uint64_t first, id, index;
    uint32_t *generation;

    slab_init(&s, sizeof(struct thing));
    generation = (uint32_t *)(void *)((char *)slab_alloc(&s, &first) - alignof(max_align_t));
    ck_assert_uint_eq(*generation, first >> 32);
    slab_free(&s, first);
    *generation = UINT32_MAX - 1;
    slab_alloc(&s, &id);
    index = (uint32_t)id;
    ck_assert_uint_eq(index, (uint32_t)first);
    ck_assert_uint_eq(id >> 32, UINT32_MAX);
    slab_free(&s, id);
    ck_assert_ptr_null(slab_get(&s, id));
    for (int i = 0; i < 1000; i++) {
        slab_alloc(&s, &id);
        ck_assert_uint_ne((uint32_t)id, index);
    }
    slab_free_all(&s);
}
END_TEST

enum { THINGS = 2000 };

/* Random work against a plain model: pointers stay, contents stay, stale ids stay stale. */
START_TEST(random_work)
{
    static uint64_t ids[THINGS], stale[THINGS];
    static struct thing *things[THINGS];
    struct unit_random r = {3};
    struct slab s;
    size_t live = 0;

    slab_init(&s, sizeof(struct thing));
    for (int step = 0; step < 200000; step++) {
        size_t i = unit_below(&r, THINGS);

        if (!things[i]) {
            things[i] = slab_alloc(&s, &ids[i]);
            ck_assert_uint_eq((uintptr_t)things[i] % alignof(max_align_t), 0);
            ck_assert_uint_eq(things[i]->mark, 0);
            things[i]->mark = ids[i];
            live++;
        } else if (unit_below(&r, 3) == 0) {
            ck_assert_int_eq(slab_free(&s, ids[i]), 0);
            stale[i] = ids[i];
            things[i] = NULL;
            live--;
        } else {
            ck_assert_ptr_eq(slab_get(&s, ids[i]), things[i]);
            ck_assert(things[i]->mark == ids[i]);
        }
        ck_assert_ptr_null(slab_get(&s, stale[i]));
        ck_assert_uint_eq(s.live, live);
    }
    slab_free_all(&s);
}
END_TEST

struct item {
    int value;
    struct list link;
};

static int sum_in_order(struct list *head)
{
    int sum = 0;

    list_for_each(link, head) sum = sum * 10 + container_of(link, struct item, link)->value;
    return sum;
}

START_TEST(list_order)
{
    struct item items[5];
    struct list head, other;

    list_init(&head);
    list_init(&other);
    ck_assert(list_empty(&head));
    for (int i = 0; i < 5; i++) {
        items[i].value = i + 1;
        list_init(&items[i].link);
        ck_assert(list_empty(&items[i].link));
    }
    list_append(&head, &items[1].link);
    list_append(&head, &items[2].link);
    list_prepend(&head, &items[0].link);
    ck_assert_int_eq(sum_in_order(&head), 123);
    list_insert_before(&items[2].link, &items[4].link);
    ck_assert_int_eq(sum_in_order(&head), 1253);
    ck_assert_int_eq(list_first(&head, struct item, link)->value, 1);
    ck_assert_int_eq(list_last(&head, struct item, link)->value, 3);
    list_remove(&items[4].link);
    list_remove(&items[4].link);
    ck_assert_int_eq(sum_in_order(&head), 123);
    list_append(&other, &items[3].link);
    list_splice(&other, &head);
    ck_assert_int_eq(sum_in_order(&other), 4123);
    ck_assert(list_empty(&head));
    list_splice(&other, &head);
    ck_assert_int_eq(sum_in_order(&other), 4123);
}
END_TEST

START_TEST(list_remove_and_free_while_walking)
{
    struct list head;
    int seen = 0;

    list_init(&head);
    for (int i = 0; i < 100; i++) {
        struct item *item = xcalloc(1, sizeof(*item));

        item->value = i;
        list_append(&head, &item->link);
    }
    list_for_each(link, &head)
    {
        struct item *item = container_of(link, struct item, link);

        ck_assert_int_eq(item->value, seen++);
        list_remove(link);
        free(item);
    }
    ck_assert_int_eq(seen, 100);
    ck_assert(list_empty(&head));
}
END_TEST

UNIT_MAIN("slab", alloc_get_free, reused_slot_has_another_id, ids_never_given_out,
          exhausted_slot_is_retired, random_work, list_order, list_remove_and_free_while_walking)
