#include "pg/batch.h"

#include <stdio.h>

#include "service/route.h"
#include "unit.h"

/* Which operations may stand in one batch, and in which order they are sent. */

static struct op op_of(enum op_kind kind, const char *resource, int64_t number, uint64_t conn)
{
    struct op op = {.kind = kind, .resource = str_of(resource), .number = number, .conn_id = conn};
    return op;
}

/* Submits n operations and returns how many of them the first batch takes. */
static size_t fill(struct batch *b, struct list *queue, struct op *ops, size_t n)
{
    list_init(queue);
    for (size_t i = 0; i < n; i++) {
        list_init(&ops[i].link);
        list_append(queue, &ops[i].link);
    }
    return batch_fill(b, queue, NULL);
}

static bool is_in(const struct batch *b, const struct op *op)
{
    list_for_each(at, &b->ops[op->kind]) if (at == &op->link) return true;
    return false;
}

START_TEST(takes_what_goes_together_up_to_max)
{
    struct op ops[5];
    struct batch b;
    struct list queue;
    batch_init(&b, 4, 100);
    for (int i = 0; i < 5; i++)
        ops[i] = op_of(OP_ACQUIRE, i % 2 ? "a" : "b", 0, (uint64_t)i + 1);
    ck_assert_uint_eq(fill(&b, &queue, ops, 5), 4);
    ck_assert_ptr_eq(queue.next, &ops[4].link);
    ck_assert_uint_eq(b.guards, 3); /* a, b, and the tree of all */
    batch_free(&b);
}
END_TEST

START_TEST(counts_guards_not_requests)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_ACQUIRE, "a", 0, 2),
                       op_of(OP_ACQUIRE, "b", 0, 3), op_of(OP_ACQUIRE, "c", 0, 4),
                       op_of(OP_ACQUIRE, "b", 0, 5)};
    struct batch b;
    struct list queue;
    batch_init(&b, 100, 3); /* one is the tree of all */
    ck_assert_uint_eq(fill(&b, &queue, ops, 5), 4);
    ck_assert(!is_in(&b, &ops[3]));
    ck_assert(is_in(&b, &ops[4]));
    batch_free(&b);
}
END_TEST

START_TEST(what_lies_above_is_gathered_once)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a/b/c", 0, 1), op_of(OP_ACQUIRE, "a/b/d", 0, 2),
                       op_of(OP_ACQUIRE, "a/bc", 0, 3), op_of(OP_RELEASE, "x/y", 1, 4)};
    static const char *const above[] = {"/", "a", "a/b"};
    struct batch b;
    struct list queue;
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 4), 4);
    ck_assert_uint_eq(b.nabove, 3);
    for (size_t i = 0; i < 3; i++)
        ck_assert(str_is(b.above[i], above[i]));
    batch_free(&b);
}
END_TEST

/* Two statements of one row would make one of them look lost. */
START_TEST(no_lease_twice)
{
    struct op ops[] = {op_of(OP_RENEW, "a", 7, 1), op_of(OP_RENEW, "a", 7, 2),
                       op_of(OP_RELEASE, "a", 7, 3), op_of(OP_RENEW, "a", 8, 4),
                       op_of(OP_RENEW, "b", 7, 5)};
    struct batch b;
    struct list queue;
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 5), 2); /* a token is of one resource only */
    ck_assert(is_in(&b, &ops[0]) && is_in(&b, &ops[3]));
    batch_free(&b);
}
END_TEST

START_TEST(no_id_twice)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_ACQUIRE, "a", 0, 2),
                       op_of(OP_ACQUIRE, "a", 0, 3)};
    struct batch b;
    struct list queue;
    ops[0].id = ops[1].id = STR_LIT("k");
    ops[2].id = STR_LIT("l");
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 3), 2);
    ck_assert(!is_in(&b, &ops[1]));
    batch_free(&b);
}
END_TEST

/* A batch releases before it acquires: an UNLOCK behind a LOCK of its connection has to wait. */
START_TEST(a_connection_keeps_its_order)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_RELEASE, "b", 5, 1),
                       op_of(OP_ACQUIRE, "c", 0, 1), op_of(OP_RELEASE, "d", 6, 2),
                       op_of(OP_ACQUIRE, "e", 0, 2), op_of(OP_RELEASE, "f", 8, 0)};
    struct batch b;
    struct list queue;
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 6), 4);
    ck_assert(!is_in(&b, &ops[1]));
    ck_assert(!is_in(&b, &ops[2])); /* nor may it overtake what waits */
    ck_assert(is_in(&b, &ops[3]) && is_in(&b, &ops[4]) && is_in(&b, &ops[5]));
    batch_return(&b, &queue);
    ck_assert_uint_eq(b.count, 0);
    batch_free(&b);
}
END_TEST

/* Each kind is a call of its own: many of both sides go one side after the other, oldest first. */
START_TEST(many_locks_and_many_others_go_apart)
{
    struct op ops[20];
    char names[20][8];
    struct batch b;
    struct list queue;
    batch_init(&b, 100, 100);
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof(names[i]), "r%d", i);
        ops[i] = op_of(i % 2 ? OP_ACQUIRE : OP_RELEASE, names[i], i, (uint64_t)i + 1);
    }
    ck_assert_uint_eq(fill(&b, &queue, ops, 20), 10);
    ck_assert(is_in(&b, &ops[0]) && !is_in(&b, &ops[1]));
    batch_return(&b, &queue);
    ck_assert_uint_eq(fill(&b, &queue, ops, 9), 9); /* few: together */
    ck_assert(is_in(&b, &ops[0]) && is_in(&b, &ops[1]));
    batch_free(&b);
}
END_TEST

START_TEST(what_is_returned_goes_to_the_front)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_RELEASE, "b", 5, 2),
                       op_of(OP_ACQUIRE, "c", 0, 3)};
    struct batch b;
    struct list queue;
    batch_init(&b, 2, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 3), 2);
    batch_return(&b, &queue);
    ck_assert_ptr_eq(queue.next, &ops[1].link);
    ck_assert_ptr_eq(queue.next->next, &ops[0].link);
    ck_assert_ptr_eq(queue.prev, &ops[2].link);
    ck_assert_uint_eq(batch_fill(&b, &queue, NULL), 2); /* keys of the batch before do not count */
    batch_free(&b);
}
END_TEST

START_TEST(sorted_by_resource_and_arrival)
{
    static const char *const names[] = {"b", "a/b", "a", "b", "a-b", "a"};
    static const int order[] = {2, 5, 4, 1, 0, 3};
    struct op ops[6];
    struct batch b;
    struct list queue;
    batch_init(&b, 100, 100);
    for (int i = 0; i < 6; i++)
        ops[i] = op_of(OP_ACQUIRE, names[i], 0, (uint64_t)i + 1);
    fill(&b, &queue, ops, 6);
    batch_sort(&b, OP_ACQUIRE);
    int i = 0;
    list_for_each(at, &b.ops[OP_ACQUIRE]) ck_assert_ptr_eq(at, &ops[order[i++]].link);
    ck_assert_int_eq(i, 6);
    batch_free(&b);
}
END_TEST

/* The batch ahead may be refused and come back: its connections' later operations must not be done.
 */
START_TEST(nobody_overtakes_himself_in_the_batch_behind)
{
    struct op first[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_ACQUIRE, "b", 0, 2)};
    struct op ops[] = {op_of(OP_ACQUIRE, "c", 0, 1), op_of(OP_ACQUIRE, "c", 0, 3),
                       op_of(OP_ACQUIRE, "d", 0, 0), op_of(OP_ACQUIRE, "e", 0, 2)};
    struct batch ahead, b;
    struct list queue;
    batch_init(&ahead, 100, 100);
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&ahead, &queue, first, 2), 2);
    list_init(&queue);
    for (int i = 0; i < 4; i++)
        list_append(&queue, &ops[i].link);
    ck_assert_uint_eq(batch_fill(&b, &queue, &ahead), 2);
    ck_assert(is_in(&b, &ops[1]) && is_in(&b, &ops[2]));
    batch_free(&ahead);
    batch_free(&b);
}
END_TEST

/* One that was only skipped by the batch ahead is in nobody's way. */
START_TEST(what_the_batch_ahead_left_goes_behind_it)
{
    struct op ops[20];
    struct batch ahead, b;
    struct list queue;
    batch_init(&ahead, 100, 100);
    batch_init(&b, 100, 100);
    for (int i = 0; i < 20; i++)
        ops[i] = op_of(i % 2 ? OP_ACQUIRE : OP_RELEASE, "a", i, (uint64_t)i + 1);
    ck_assert_uint_eq(fill(&ahead, &queue, ops, 20), 10);
    ck_assert_uint_eq(batch_fill(&b, &queue, &ahead), 10);
    ck_assert_uint_eq(b.counts[OP_ACQUIRE], 10);
    batch_free(&ahead);
    batch_free(&b);
}
END_TEST

START_TEST(lazy_locks_stand_aside_for_others)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_RELEASE, "a", 1, 2)};
    struct batch b;
    struct list queue;
    ops[0].lazy = true;
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 2), 1);
    ck_assert(is_in(&b, &ops[1]));
    batch_free(&b);
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 1), 1); /* alone it goes */
    batch_free(&b);
}
END_TEST

/* A LOCK that stood aside for an UNLOCK behind it would keep that from going: neither ever went. */
START_TEST(a_lazy_lock_does_not_stand_aside_for_its_own_connection)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_RELEASE, "b", 5, 1),
                       op_of(OP_RELEASE, "c", 6, 2)};
    struct batch b;
    struct list queue;
    ops[0].lazy = true;
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 2), 1);
    ck_assert(is_in(&b, &ops[0]));
    batch_free(&b);
    batch_init(&b, 100, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 3), 1); /* for another's it does */
    ck_assert(is_in(&b, &ops[2]));
    batch_free(&b);
}
END_TEST

/* No more are skipped than a batch may have: past so many lazy LOCKs nobody is looked for. */
START_TEST(lazy_locks_that_fill_a_batch_go_before_a_far_other)
{
    struct op ops[] = {op_of(OP_ACQUIRE, "a", 0, 1), op_of(OP_ACQUIRE, "a", 0, 2),
                       op_of(OP_RELEASE, "a", 5, 3)};
    struct batch b;
    struct list queue;
    ops[0].lazy = ops[1].lazy = true;
    batch_init(&b, 2, 100);
    ck_assert_uint_eq(fill(&b, &queue, ops, 3), 2);
    ck_assert(is_in(&b, &ops[0]) && is_in(&b, &ops[1]));
    batch_free(&b);
}
END_TEST

START_TEST(a_lane_has_all_beneath_a_first_segment)
{
    bool used[4] = {false};
    char name[32];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "r%d", i);
        int lane = route_lane(str_of(name), 4);
        ck_assert(lane >= 0 && lane < 4);
        used[lane] = true;
        strcat(name, "/x/y");
        ck_assert_int_eq(route_lane(str_of(name), 4), lane);
        ck_assert_int_eq(route_lane(str_of(name), 1), 0);
    }
    ck_assert(used[0] && used[1] && used[2] && used[3]);
}
END_TEST

UNIT_MAIN("batch", takes_what_goes_together_up_to_max, counts_guards_not_requests,
          what_lies_above_is_gathered_once, no_lease_twice, no_id_twice,
          a_connection_keeps_its_order, many_locks_and_many_others_go_apart,
          nobody_overtakes_himself_in_the_batch_behind, what_the_batch_ahead_left_goes_behind_it,
          lazy_locks_stand_aside_for_others,
          a_lazy_lock_does_not_stand_aside_for_its_own_connection,
          lazy_locks_that_fill_a_batch_go_before_a_far_other, what_is_returned_goes_to_the_front,
          sorted_by_resource_and_arrival, a_lane_has_all_beneath_a_first_segment)
