#include "pg/batch.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "pg/array.h"

/* Result columns, the same for every kind; what a function does not return is null. */
enum {
    COL_ITEM,
    COL_STATUS,
    COL_NUMBER,
    COL_GRANT_REQUEST,
    COL_GRANT_RESOURCE,
    COL_GRANT_TOKEN,
    COL_WAKE,
    COL_PENDING,
};

enum param {
    P_END,
    P_RESOURCE,
    P_EXCLUSIVE,
    P_TTL,
    P_WAIT,
    P_NUMBER,
    P_CONN,
    P_REQUEST,
    P_KEEP,
    P_OWNER,
    P_NOTE,
    P_IDENTITY,
    P_ID,
    P_SESSION,
};

/* How each kind is called: the function's parameters after the instance, in its order. */
static const struct kind {
    struct link_statement statement;
    enum param params[13];
} kinds[OP_KINDS] = {
#define ANSWERS "o_item, o_status, o_number, "
#define NO_ANSWERS "null::int4[], null::\"char\"[], null::int8[], "
#define NEWS "o_grant_request, o_grant_resource, o_grant_token, o_wake, o_pending from pglockd."
#define NO_GRANTS "null::int8[], null::text[], null::int8[], null::int4[], "
    [OP_COLLECT] = {{"collect",
                     "select " NO_ANSWERS "o_request, o_resource, o_token, o_wake, null::text[] "
                     "from pglockd.collect_grants($1)",
                     false},
                    {P_END}},
    [OP_RESYNC] = {{"resync",
                    "select " ANSWERS NO_GRANTS "o_pending from "
                    "pglockd.resync_waiters($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                    false},
                   {P_RESOURCE, P_EXCLUSIVE, P_TTL, P_NUMBER, P_CONN, P_REQUEST, P_OWNER, P_NOTE,
                    P_IDENTITY, P_ID, P_SESSION, P_END}},
    [OP_WITHDRAW] = {{"withdraw", "select " ANSWERS NEWS "withdraw_batch($1, $2, $3, $4, $5)",
                      false},
                     {P_RESOURCE, P_NUMBER, P_REQUEST, P_KEEP, P_END}},
    [OP_RELEASE] = {{"release", "select " ANSWERS NEWS "release_batch($1, $2, $3, $4)", false},
                    {P_RESOURCE, P_NUMBER, P_IDENTITY, P_END}},
    [OP_PROMOTE] = {{"promote",
                     "select " NO_ANSWERS "o_request, o_resource, o_token, o_wake, o_pending "
                     "from pglockd.hand_over($1, $2)",
                     false},
                    {P_RESOURCE, P_END}},
    [OP_RENEW] = {{"renew",
                   "select " ANSWERS NO_GRANTS "null::text[] "
                   "from pglockd.renew_batch($1, $2, $3, $4, $5)",
                   false},
                  {P_RESOURCE, P_NUMBER, P_TTL, P_IDENTITY, P_END}},
    [OP_ACQUIRE] = {{"acquire",
                     "select " ANSWERS NEWS
                     "acquire_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                     false},
                    {P_RESOURCE, P_EXCLUSIVE, P_TTL, P_WAIT, P_CONN, P_REQUEST, P_OWNER, P_NOTE,
                     P_IDENTITY, P_ID, P_SESSION, P_END}},
};

/* --- which operations may go together --- */

/* A slot of the open-addressing table of what the batch has; a hash stands for its key. */
struct batch_key {
    uint64_t hash;
    uint32_t epoch;
    uint32_t kind; /* for a connection: the latest kind that it has in */
};

enum key_space { KEY_RESOURCE = 1, KEY_LEASE, KEY_ID, KEY_CONN };
/* How many LOCKs and how many others are worth a batch of their own. */
enum { SPLIT_MIN = 8 };
/* In the place of a connection's kind: an operation of it was skipped, so that all later ones are.
 */
enum { CONN_BLOCKED = OP_KINDS, CONN_ABSENT /* and none of it is in the batch */ };

void batch_init(struct batch *b, size_t max, size_t guards_max)
{
    size_t slots = 64;
    *b = (struct batch){.max = max, .guards_max = guards_max};
    while (slots < max * 8) /* at most 4 keys an operation, half full */
        slots *= 2;
    b->key_mask = slots - 1;
    b->keys = xcalloc(slots, sizeof(*b->keys));
    b->items = xcalloc(max, sizeof(*b->items));
    for (int k = 0; k < OP_KINDS; k++)
        list_init(&b->ops[k]);
}

void batch_free(struct batch *b)
{
    free(b->keys);
    free(b->items);
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo); then mixed with the space and a number. */
static uint64_t hash_key(enum key_space space, struct str s, uint64_t number)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
    h ^= number * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)space;
    h ^= h >> 32;
    return h * UINT64_C(0xD6E8FEB86659FD93);
}

/* The key's slot: its own, or the free one where it goes (epoch is not the batch's then). */
static struct batch_key *find_key(const struct batch *b, uint64_t hash)
{
    size_t i = (size_t)(hash >> 20) & b->key_mask;
    while (b->keys[i].epoch == b->epoch && b->keys[i].hash != hash)
        i = (i + 1) & b->key_mask;
    return &b->keys[i];
}

static bool has_key(const struct batch *b, uint64_t hash)
{
    return find_key(b, hash)->epoch == b->epoch;
}

static void add_key(struct batch *b, uint64_t hash, uint32_t kind)
{
    *find_key(b, hash) = (struct batch_key){hash, b->epoch, kind};
}

/* A connection's operation may not overtake an earlier one of it, in the queue or in the batch. */
static bool in_order(struct batch *b, const struct op *op, uint64_t conn)
{
    const struct batch_key *key = find_key(b, conn);
    return op->conn_id == 0 || key->epoch != b->epoch || key->kind <= (uint32_t)op->kind;
}

static bool has_conn(const struct batch *b, uint64_t conn)
{
    const struct batch_key *key = find_key(b, conn);
    return key->epoch == b->epoch && key->kind != CONN_ABSENT;
}

static void block_conn(struct batch *b, uint64_t conn)
{
    add_key(b, conn, has_conn(b, conn) ? CONN_BLOCKED : CONN_ABSENT);
}

/* LOCKs alone, all but LOCKs, or (when there are few of either) both? */
enum side { SIDE_BOTH, SIDE_LOCKS, SIDE_OTHERS };

static enum side side_of(const struct op *op)
{
    return op->kind == OP_ACQUIRE ? SIDE_LOCKS : SIDE_OTHERS;
}

/*
 * The side of the oldest goes first, so that none waits for more than one batch. LOCKs that will
 * only join a queue go behind what may hand a resource over to somebody.
 */
static enum side choose_side(const struct list *queue)
{
    size_t locks = 0, others = 0, lazy = 0;
    list_for_each(at, queue)
    {
        const struct op *op = container_of(at, struct op, link);
        locks += op->kind == OP_ACQUIRE;
        others += op->kind != OP_ACQUIRE;
        lazy += op->lazy;
        if (locks >= SPLIT_MIN && others >= SPLIT_MIN)
            return side_of(list_first(queue, struct op, link));
    }
    return others > 0 && lazy == locks ? SIDE_OTHERS : SIDE_BOTH;
}

static bool try_add(struct batch *b, struct op *op, enum side side, const struct batch *ahead)
{
    uint64_t conn = hash_key(KEY_CONN, (struct str){0}, op->conn_id);
    uint64_t resource = hash_key(KEY_RESOURCE, op->resource, 0);
    bool by_token = op->kind == OP_RELEASE || op->kind == OP_RENEW;
    uint64_t lease = by_token ? hash_key(KEY_LEASE, op->resource, (uint64_t)op->number) : 0;
    uint64_t id = op->kind == OP_ACQUIRE && op->id.p ? hash_key(KEY_ID, op->id, 0) : 0;
    bool new_guard = !has_key(b, resource);

    if ((side != SIDE_BOTH && side_of(op) != side) || !in_order(b, op, conn) ||
        (by_token && has_key(b, lease)) || (id && has_key(b, id)) ||
        (new_guard && b->guards >= b->guards_max) ||
        (ahead && op->conn_id && has_conn(ahead, conn))) {
        if (op->conn_id)
            block_conn(b, conn);
        return false;
    }
    if (new_guard) {
        add_key(b, resource, 0);
        b->guards++;
    }
    if (by_token)
        add_key(b, lease, 0);
    if (id)
        add_key(b, id, 0);
    if (op->conn_id)
        add_key(b, conn, op->kind);
    list_remove(&op->link);
    list_append(&b->ops[op->kind], &op->link);
    b->counts[op->kind]++;
    b->count++;
    return true;
}

size_t batch_fill(struct batch *b, struct list *queue, const struct batch *ahead)
{
    size_t skipped = 0;
    enum side side = choose_side(queue);
    if (b->count == 0) {
        b->guards = 0;
        if (++b->epoch == 0) { /* after 2^32 batches old keys would count again */
            memset(b->keys, 0, (b->key_mask + 1) * sizeof(*b->keys));
            b->epoch = 1;
        }
    }
    list_for_each(at, queue)
    {
        /* What is skipped is looked at again for every batch: do not look at too much. */
        if (b->count >= b->max || skipped >= b->max)
            break;
        if (!try_add(b, container_of(at, struct op, link), side, ahead))
            skipped++;
    }
    return b->count;
}

static int by_resource(const void *a, const void *b)
{
    const struct op *x = *(struct op *const *)a, *y = *(struct op *const *)b;
    size_t n = x->resource.n < y->resource.n ? x->resource.n : y->resource.n;
    int order = memcmp(x->resource.p, y->resource.p, n);
    if (order == 0)
        order = (x->resource.n > y->resource.n) - (x->resource.n < y->resource.n);
    if (order == 0) /* in the order they came */
        order = (x->batch_order > y->batch_order) - (x->batch_order < y->batch_order);
    return order;
}

void batch_sort(struct batch *b, enum op_kind kind)
{
    size_t n = 0;
    list_for_each(at, &b->ops[kind])
    {
        b->items[n] = container_of(at, struct op, link);
        b->items[n]->batch_order = (uint32_t)n;
        n++;
    }
    qsort(b->items, n, sizeof(b->items[0]), by_resource);
    list_init(&b->ops[kind]);
    for (size_t i = 0; i < n; i++)
        list_append(&b->ops[kind], &b->items[i]->link);
}

void batch_return(struct batch *b, struct list *queue)
{
    struct list all;
    list_init(&all);
    for (int k = 0; k < OP_KINDS; k++) {
        list_splice(&all, &b->ops[k]);
        b->counts[k] = 0;
    }
    b->count = 0;
    list_splice(&all, queue);
    list_splice(queue, &all);
}

/* --- to the database --- */

const struct link_statement *batch_statement(enum op_kind kind)
{
    return &kinds[kind].statement;
}

static enum pg_type param_type(enum param param)
{
    switch (param) {
    case P_EXCLUSIVE:
    case P_WAIT:
        return PG_BOOL;
    case P_TTL:
    case P_NUMBER:
    case P_CONN:
    case P_REQUEST:
    case P_KEEP:
    case P_SESSION:
        return PG_INT8;
    default:
        return PG_TEXT;
    }
}

static void put_text_or_null(struct array_writer *w, struct str s)
{
    if (s.p)
        array_put_text(w, s);
    else
        array_put_null(w);
}

static void put_element(struct array_writer *w, enum param param, const struct op *op)
{
    switch (param) {
    case P_RESOURCE:
        array_put_text(w, op->resource);
        break;
    case P_EXCLUSIVE:
        array_put_bool(w, op->exclusive);
        break;
    case P_WAIT:
        array_put_bool(w, op->wait);
        break;
    case P_TTL:
        if (op->ttl_ms == OP_TTL_SAME)
            array_put_null(w);
        else
            array_put_int8(w, op->ttl_ms);
        break;
    case P_NUMBER:
        array_put_int8(w, op->number);
        break;
    case P_CONN:
        array_put_int8(w, (int64_t)op->conn_id);
        break;
    case P_REQUEST:
        array_put_int8(w, (int64_t)op->request_id);
        break;
    case P_KEEP:
        if (op->keep_ms == OP_KEEP_NONE)
            array_put_null(w);
        else
            array_put_int8(w, op->keep_ms);
        break;
    case P_OWNER:
        array_put_text(w, op->owner);
        break;
    case P_NOTE:
        put_text_or_null(w, op->note);
        break;
    case P_ID:
        put_text_or_null(w, op->id);
        break;
    case P_SESSION:
        if (op->session == 0)
            array_put_null(w);
        else
            array_put_int8(w, op->session);
        break;
    case P_IDENTITY:
    case P_END:
        break;
    }
}

/* Columns that are mostly not used go as an empty array, which the functions read as nulls. */
static bool column_used(const struct batch *b, enum op_kind kind, enum param param)
{
    if (param == P_IDENTITY)
        return false;
    if (param != P_OWNER && param != P_NOTE && param != P_ID && param != P_SESSION)
        return true;
    list_for_each(at, &b->ops[kind])
    {
        const struct op *op = container_of(at, struct op, link);
        if ((param == P_OWNER && op->owner.n) || (param == P_NOTE && op->note.p) ||
            (param == P_ID && op->id.p) || (param == P_SESSION && op->session))
            return true;
    }
    return false;
}

void batch_params(const struct batch *b, enum op_kind kind, int32_t instance, struct link_params *p)
{
    link_params_clear(p);
    link_param_int4(p, instance);
    for (const enum param *param = kinds[kind].params; *param != P_END; param++) {
        struct array_writer w;
        bool used = column_used(b, kind, *param);
        link_param_open(p);
        array_begin(&w, &p->bytes, param_type(*param));
        if (used)
            list_for_each(at, &b->ops[kind])
                put_element(&w, *param, container_of(at, struct op, link));
        array_end(&w);
        link_param_close(p);
    }
}

/* --- from the database --- */

static bool open_column(struct array_reader *r, const struct link_rows *rows, int column)
{
    int length;
    const void *value = link_bytes(rows, 0, column, &length);
    return array_open(r, value, length);
}

static bool take_items(struct batch *b, enum op_kind kind, const struct link_rows *rows)
{
    struct array_reader items, statuses, numbers;
    int64_t item, status, number;
    size_t n = 0;
    list_for_each(at, &b->ops[kind]) b->items[n++] = container_of(at, struct op, link);
    if (!open_column(&items, rows, COL_ITEM) || !open_column(&statuses, rows, COL_STATUS) ||
        !open_column(&numbers, rows, COL_NUMBER))
        return false;
    if (link_is_null(rows, 0, COL_ITEM)) { /* a kind whose operations have no answer of their own */
        for (size_t i = 0; i < n; i++)
            b->items[i]->status = OP_DONE;
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (!array_next_int(&items, &item) || !array_next_int(&statuses, &status) ||
            !array_next_int(&numbers, &number) || item < 1 || (size_t)item > n)
            return false;
        b->items[item - 1]->status = (enum op_status)status;
        b->items[item - 1]->number = number;
    }
    return true;
}

void batch_news_clear(struct batch_news *news)
{
    buf_clear(&news->grants);
    buf_clear(&news->names);
    buf_clear(&news->wakes);
    buf_clear(&news->pending);
}

void batch_news_free(struct batch_news *news)
{
    buf_free(&news->grants);
    buf_free(&news->names);
    buf_free(&news->wakes);
    buf_free(&news->pending);
}

static bool take_news(const struct link_rows *rows, struct batch_news *news)
{
    struct array_reader requests, resources, tokens, wakes, pending;
    int64_t request, token, instance;
    struct str resource;
    if (!open_column(&requests, rows, COL_GRANT_REQUEST) ||
        !open_column(&resources, rows, COL_GRANT_RESOURCE) ||
        !open_column(&tokens, rows, COL_GRANT_TOKEN) || !open_column(&wakes, rows, COL_WAKE) ||
        !open_column(&pending, rows, COL_PENDING))
        return false;
    while (array_next_int(&requests, &request) && array_next_text(&resources, &resource) &&
           array_next_int(&tokens, &token)) {
        struct batch_grant grant = {(uint64_t)request, token, news->names.len};
        buf_put(&news->names, resource.p, resource.n);
        buf_putc(&news->names, '\0');
        buf_put(&news->grants, &grant, sizeof(grant));
    }
    while (array_next_int(&wakes, &instance)) {
        int32_t wake = (int32_t)instance;
        buf_put(&news->wakes, &wake, sizeof(wake));
    }
    while (array_next_text(&pending, &resource)) {
        buf_put(&news->pending, resource.p, resource.n);
        buf_putc(&news->pending, '\0');
    }
    return true;
}

bool batch_answer(struct batch *b, enum op_kind kind, const struct link_rows *rows,
                  struct batch_news *news)
{
    return link_rows_count(rows) == 1 && take_items(b, kind, rows) && take_news(rows, news);
}
