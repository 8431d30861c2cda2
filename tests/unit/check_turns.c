#include "pg/turns.h"

#include "unit.h"

enum { SHARE = 4, OPS = 64, LATER_US = 5000000 };

static struct turns turns;
static struct op ops[OPS];
static int64_t now_us;

static void set_up(void)
{
    turns_init(&turns, SHARE);
    now_us = LATER_US;
}

static void tear_down(void)
{
    turns_free(&turns);
}

/* Operations from to the one before to, of a connection. */
static void ask(uint64_t conn, int from, int to)
{
    for (int i = from; i < to; i++) {
        ops[i] = (struct op){.conn_id = conn, .order = (uint64_t)i, .queued_us = now_us};
        list_init(&ops[i].link);
        turns_add(&turns, &ops[i]);
    }
}

static void leave(int i)
{
    list_remove(&ops[i].link);
    turns_leave(&turns, &ops[i]);
}

/* The line is the operations of these numbers, in that order; ends with -1. */
static void check_line(const int *wanted)
{
    size_t n = 0;
    list_for_each(at, &turns.line)
    {
        const struct op *op = container_of(at, struct op, link);
        ck_assert_int_eq((int)(op - ops), wanted[n]);
        n++;
    }
    ck_assert_int_eq(wanted[n], -1);
    ck_assert_uint_eq(turns.lined, n);
}
#define LINE(...) check_line((const int[]){__VA_ARGS__, -1})

START_TEST(who_is_alone_has_no_share)
{
    ask(1, 0, 40);
    ck_assert_uint_eq(turns.lined, 40);
    ck_assert_uint_eq(turns.queued, 40);
}
END_TEST

START_TEST(others_stand_behind_a_share_only)
{
    ask(1, 0, 1);
    ask(2, 1, 11);
    ask(1, 11, 12);
    ask(3, 12, 13);
    LINE(0, 1, 2, 3, 4, 11, 12);
    ck_assert_uint_eq(turns.queued, 13);
}
END_TEST

START_TEST(what_is_held_moves_up_in_its_order)
{
    ask(1, 0, 1);
    ask(2, 1, 8);
    leave(0);
    LINE(1, 2, 3, 4);
    leave(1);
    leave(2);
    LINE(3, 4, 5, 6);
    ask(1, 8, 9);
    leave(3);
    LINE(4, 5, 6, 8, 7);
    leave(4);
    ask(2, 9, 11);
    LINE(5, 6, 8, 7, 9);
    for (int i = 5; i < 9; i++)
        leave(i);
    LINE(9, 10);
    leave(9);
    leave(10);
    ck_assert_uint_eq(turns.queued, 0);
    ck_assert(list_empty(&turns.all));
}
END_TEST

START_TEST(what_is_held_can_be_taken_out)
{
    ask(1, 0, 1);
    ask(2, 1, 9);
    leave(6);
    leave(5);
    leave(1);
    LINE(0, 2, 3, 4, 7);
    ck_assert_uint_eq(turns.queued, 6);
}
END_TEST

START_TEST(what_comes_back_stands_before_what_is_held)
{
    ask(1, 0, 1);
    ask(2, 1, 9);
    for (int i = 1; i < 5; i++)
        leave(i); /* a batch, which is refused */
    LINE(0, 5, 6, 7, 8);
    for (int i = 4; i >= 1; i--) {
        list_prepend(&turns.line, &ops[i].link);
        turns_return(&turns, &ops[i]);
    }
    ask(2, 9, 10);
    LINE(1, 2, 3, 4, 0, 5, 6, 7, 8);
    for (int i = 1; i < 5; i++)
        leave(i);
    LINE(0, 5, 6, 7, 8);
    leave(5);
    LINE(0, 6, 7, 8, 9);
}
END_TEST

START_TEST(the_daemons_own_are_never_held)
{
    ask(1, 0, 1);
    ask(2, 1, 2);
    ask(0, 2, 40);
    ck_assert_uint_eq(turns.lined, 40);
    leave(20);
    ck_assert_uint_eq(turns.queued, 39);
}
END_TEST

START_TEST(the_share_ends_when_the_others_are_silent)
{
    ask(1, 0, 1);
    ask(2, 1, 9);
    leave(0);
    now_us += LATER_US;
    ask(2, 9, 10);
    LINE(1, 2, 3, 4); /* behind its own that are held */
    leave(1);
    LINE(2, 3, 4, 5, 6, 7, 8, 9);
    ask(2, 10, 12);
    ck_assert_uint_eq(turns.lined, 10);
}
END_TEST

static void count(void *arg, struct op *op)
{
    (void)op;
    ++*(int *)arg;
}

static void take_even(void *arg, struct op *op)
{
    int i = (int)(op - ops);
    ++*(int *)arg;
    if (i % 2 == 0)
        leave(i);
}

START_TEST(each_visits_all)
{
    int n = 0;
    ask(1, 0, 1);
    ask(2, 1, 21);
    ask(3, 21, 41);
    turns_each(&turns, count, &n);
    ck_assert_int_eq(n, 41);
    n = 0;
    turns_each(&turns, take_even, &n);
    ck_assert_int_ge(n, 41);
    n = 0;
    turns_each(&turns, count, &n);
    ck_assert_int_eq(n, 20);
}
END_TEST

static void take(void *arg, struct op *op)
{
    ++*(int *)arg;
    leave((int)(op - ops));
}

START_TEST(each_can_take_all_when_the_others_are_silent)
{
    int n = 0;
    ask(1, 0, 1);
    ask(2, 1, 9);
    leave(0);
    now_us += LATER_US;
    ask(2, 9, 10); /* what is held may move up from now on */
    turns_each(&turns, take, &n);
    ck_assert_int_eq(n, 9);
    ck_assert_uint_eq(turns.queued, 0);
    ck_assert(list_empty(&turns.all));
}
END_TEST

UNIT_MAIN_WITH("turns", set_up, tear_down, who_is_alone_has_no_share,
               others_stand_behind_a_share_only, what_is_held_moves_up_in_its_order,
               what_is_held_can_be_taken_out, what_comes_back_stands_before_what_is_held,
               the_daemons_own_are_never_held, the_share_ends_when_the_others_are_silent,
               each_visits_all, each_can_take_all_when_the_others_are_silent)
