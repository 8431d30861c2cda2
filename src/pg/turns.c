#include "pg/turns.h"

#include <stdlib.h>

#include "base/xalloc.h"

enum {
    BUCKETS = 1024,     /* a power of two; numbers of connections follow one another */
    MIXED_US = 1000000, /* how long who has asked may ask again */
};

struct turn {
    struct turn *next; /* in its bucket */
    struct list at;    /* in turns.all */
    uint64_t conn;
    size_t lined;
    struct list held; /* behind the line */
};

void turns_init(struct turns *t, size_t share)
{
    *t = (struct turns){.share = share};
    t->buckets = xcalloc(BUCKETS, sizeof(*t->buckets));
    list_init(&t->line);
    list_init(&t->all);
}

void turns_free(struct turns *t)
{
    list_for_each(at, &t->all) free(container_of(at, struct turn, at));
    free(t->buckets);
}

static struct turn *turn_of(struct turns *t, uint64_t conn)
{
    struct turn **bucket = &t->buckets[conn % BUCKETS];
    for (struct turn *turn = *bucket; turn; turn = turn->next)
        if (turn->conn == conn)
            return turn;
    struct turn *turn = xcalloc(1, sizeof(*turn));
    turn->conn = conn;
    turn->next = *bucket;
    *bucket = turn;
    list_init(&turn->held);
    list_init(&turn->at);
    list_append(&t->all, &turn->at);
    return turn;
}

static void drop_turn(struct turns *t, struct turn *turn)
{
    struct turn **at = &t->buckets[turn->conn % BUCKETS];
    while (*at != turn)
        at = &(*at)->next;
    *at = turn->next;
    list_remove(&turn->at);
    free(turn);
}

static bool has_room(const struct turns *t, const struct turn *turn)
{
    return turn->lined < t->share || t->now_us >= t->mixed_until_us;
}

static void line_up(struct turns *t, struct turn *turn, struct op *op)
{
    op->held = false;
    list_append(&t->line, &op->link);
    t->lined++;
    turn->lined++;
}

void turns_add(struct turns *t, struct op *op)
{
    t->queued++;
    t->now_us = op->queued_us;
    if (op->conn_id == 0) {
        list_append(&t->line, &op->link);
        t->lined++;
        return;
    }
    if (op->conn_id != t->last_conn && t->last_conn != 0)
        t->mixed_until_us = op->queued_us + MIXED_US;
    t->last_conn = op->conn_id;
    op->turn = turn_of(t, op->conn_id);
    if (list_empty(&op->turn->held) && has_room(t, op->turn)) {
        line_up(t, op->turn, op);
    } else {
        op->held = true;
        list_append(&op->turn->held, &op->link);
    }
}

void turns_leave(struct turns *t, struct op *op)
{
    struct turn *turn = op->turn;
    bool was_held = op->held;
    t->queued--;
    op->held = false;
    op->turn = NULL;
    if (was_held) /* it leaves no place in line, and turns_each() may be among those behind it */
        return;
    t->lined--;
    if (turn == NULL)
        return;
    turn->lined--;
    while (!list_empty(&turn->held) && has_room(t, turn)) {
        struct op *next = list_first(&turn->held, struct op, link);
        list_remove(&next->link);
        line_up(t, turn, next);
    }
    if (turn->lined == 0 && list_empty(&turn->held))
        drop_turn(t, turn);
}

void turns_return(struct turns *t, struct op *op)
{
    t->queued++;
    t->lined++;
    if (op->conn_id == 0)
        return;
    op->turn = turn_of(t, op->conn_id);
    op->turn->lined++;
}

void turns_each(struct turns *t, void (*fn)(void *arg, struct op *op), void *arg)
{
    list_for_each(at, &t->all)
    {
        struct turn *turn = container_of(at, struct turn, at);
        list_for_each(held, &turn->held) fn(arg, container_of(held, struct op, link));
    }
    list_for_each(at, &t->line) fn(arg, container_of(at, struct op, link));
}
