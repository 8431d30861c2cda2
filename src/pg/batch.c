#include "pg/batch.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "pg/array.h"

/* What a function may answer, each an array. */
enum answer {
    COL_ITEM,
    COL_STATUS,
    COL_NUMBER,
    COL_GRANT_REQUEST,
    COL_GRANT_RESOURCE,
    COL_GRANT_TOKEN,
    COL_WAKE,
    COL_PENDING,
    COLUMNS
};

/* The parameters of the functions: an array each, of one element for each operation or member. */
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
    P_GRACE,
    P_BOUND,
    P_SLOTS,
    P_WEIGHT,
    P_UPGRADE,
    P_CLOSED,
    P_GRANTED_TO,
    P_LEASES_MAX,
    P_FIELDS,          /* the others are no fields of an operation */
    P_ITEM = P_FIELDS, /* of a member: the position of its operation */
    P_MEMBER,
    P_MEMBER_EXCLUSIVE,
    P_MEMBER_TREE,
    P_ABOVE,   /* of the batch: what all its resources lie beneath, each once */
    P_CAREFUL, /* of the batch, a boolean: pass over what somebody has locked */
    P_CROWDED, /* likewise: expect that the resources are held */
};

/*
 * The fields of an operation as elements: where they are, and what stands for null. A sparse one is
 * sent only where some operation says something: the functions read what is missing as null.
 */
static const struct field {
    enum pg_type type;
    bool sparse;
    size_t offset;
    int64_t null_value; /* of numbers */
} fields[P_FIELDS] = {
#define FIELD(member, type, sparse, null_value)                                                    \
    {                                                                                              \
        type, sparse, offsetof(struct op, member), null_value                                      \
    }
#define NEVER INT64_MIN
    [P_RESOURCE] = FIELD(resource, PG_TEXT, false, 0),
    [P_EXCLUSIVE] = FIELD(exclusive, PG_BOOL, false, 0),
    [P_TTL] = FIELD(ttl_ms, PG_INT8, false, OP_TTL_SAME),
    [P_WAIT] = FIELD(wait, PG_BOOL, false, 0),
    [P_NUMBER] = FIELD(number, PG_INT8, false, NEVER),
    [P_CONN] = FIELD(conn_id, PG_INT8, false, NEVER),
    [P_REQUEST] = FIELD(request_id, PG_INT8, false, NEVER),
    [P_KEEP] = FIELD(keep_ms, PG_INT8, false, OP_KEEP_NONE),
    [P_OWNER] = FIELD(owner, PG_TEXT, true, 0),
    [P_NOTE] = FIELD(note, PG_TEXT, true, 0),
    [P_IDENTITY] = FIELD(identity, PG_TEXT, true, 0),
    [P_ID] = FIELD(id, PG_TEXT, true, 0),
    [P_SESSION] = FIELD(session, PG_INT8, true, 0),
    [P_GRACE] = FIELD(grace_ms, PG_INT8, true, 0),
    [P_BOUND] = FIELD(bound, PG_BOOL, true, 0),
    [P_SLOTS] = FIELD(slots, PG_INT4, true, 0),
    [P_WEIGHT] = FIELD(weight, PG_INT4, true, 0),
    [P_UPGRADE] = FIELD(upgrade, PG_INT8, true, 0),
    [P_CLOSED] = FIELD(closed_conn, PG_INT8, true, 0),
    [P_GRANTED_TO] = FIELD(granted_to, PG_INT8, true, 0),
    [P_LEASES_MAX] = FIELD(leases_max, PG_INT4, true, 0),
#undef NEVER
#undef FIELD
};

/*
 * How each kind is called: the function's parameters after the instance, in its order; and what the
 * fields of its answer are, in their order. Calls in the target list of a query without a table are
 * what costs the server least; a function's out parameters come as one record then.
 */
static const struct kind {
    struct link_statement statement;
    enum param params[LINK_PARAMS_MAX];
    enum answer answers[COLUMNS + 1]; /* ends with COLUMNS */
} kinds[OP_KINDS] = {
#define CALL(name, params) .statement = {#name, "select pglockd." #name params, false}
#define ITEMS COL_ITEM, COL_STATUS, COL_NUMBER
#define GRANTS COL_GRANT_REQUEST, COL_GRANT_RESOURCE, COL_GRANT_TOKEN
    [OP_COLLECT] = {CALL(collect_grants, "($1)"), {P_END}, {GRANTS, COL_WAKE, COLUMNS}},
    [OP_RESYNC] = {CALL(resync_waiters, "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
                                        "$14, $15, $16, $17, $18, $19, $20)"),
                   {P_ITEM,   P_MEMBER, P_MEMBER_EXCLUSIVE, P_MEMBER_TREE, P_SLOTS,
                    P_WEIGHT, P_TTL,    P_NUMBER,           P_CONN,        P_REQUEST,
                    P_OWNER,  P_NOTE,   P_IDENTITY,         P_ID,          P_SESSION,
                    P_GRACE,  P_BOUND,  P_UPGRADE,          P_LEASES_MAX,  P_END},
                   {ITEMS, GRANTS, COL_PENDING, COLUMNS}},
    [OP_WITHDRAW] = {CALL(withdraw_batch, "($1, $2, $3, $4, $5, $6)"),
                     {P_ITEM, P_MEMBER, P_NUMBER, P_REQUEST, P_KEEP, P_END},
                     {ITEMS, GRANTS, COL_WAKE, COL_PENDING, COLUMNS}},
    [OP_RELEASE] = {CALL(release_batch, "($1, $2, $3, $4, $5, $6, $7)"),
                    {P_RESOURCE, P_NUMBER, P_IDENTITY, P_CLOSED, P_GRANTED_TO, P_CAREFUL, P_END},
                    {ITEMS, GRANTS, COL_WAKE, COL_PENDING, COLUMNS}},
    [OP_PROMOTE] = {CALL(hand_over, "($1, $2)"),
                    {P_RESOURCE, P_END},
                    {GRANTS, COL_WAKE, COL_PENDING, COLUMNS}},
    [OP_RENEW] = {CALL(renew_batch, "($1, $2, $3, $4, $5, $6)"),
                  {P_RESOURCE, P_NUMBER, P_TTL, P_IDENTITY, P_CONN, P_END},
                  {ITEMS, COLUMNS}},
    [OP_ACQUIRE] = {CALL(acquire_batch,
                         "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, "
                         "$17)"),
                    {P_RESOURCE, P_ABOVE, P_EXCLUSIVE, P_TTL, P_WAIT, P_CONN, P_REQUEST, P_OWNER,
                     P_NOTE, P_IDENTITY, P_ID, P_SESSION, P_GRACE, P_BOUND, P_CROWDED, P_LEASES_MAX,
                     P_END},
                    {ITEMS, GRANTS, COL_WAKE, COL_PENDING, COLUMNS}},
    [OP_CLAIM] = {CALL(acquire_claims, "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
                                       "$14, $15, $16, $17, $18, $19)"),
                  {P_ITEM, P_MEMBER, P_MEMBER_EXCLUSIVE, P_MEMBER_TREE, P_SLOTS, P_WEIGHT, P_TTL,
                   P_WAIT, P_CONN, P_REQUEST, P_OWNER, P_NOTE, P_IDENTITY, P_ID, P_SESSION, P_GRACE,
                   P_BOUND, P_LEASES_MAX, P_END},
                  {ITEMS, GRANTS, COL_WAKE, COL_PENDING, COLUMNS}},
    [OP_CHANGE] = {CALL(change_batch, "($1, $2, $3, $4, $5, $6, $7, $8, $9)"),
                   {P_RESOURCE, P_UPGRADE, P_EXCLUSIVE, P_TTL, P_WAIT, P_CONN, P_REQUEST,
                    P_IDENTITY, P_END},
                   {ITEMS, GRANTS, COL_WAKE, COL_PENDING, COLUMNS}},
};

/* --- which operations may go together --- */

/* A slot of the open-addressing table of what the batch has; a hash stands for its key. */
struct batch_key {
    uint64_t hash;
    uint32_t epoch;
    uint32_t kind; /* for a connection: the latest kind that it has in */
};

enum key_space { KEY_RESOURCE = 1, KEY_LEASE, KEY_ID, KEY_CONN, KEY_ABOVE };
/* What a resource can lie beneath at most, and then some. */
enum { ABOVE_MAX = 64 };
/* How many LOCKs and how many others are worth a batch of their own. */
enum { SPLIT_MIN = 8 };
/* In the place of a connection's kind: an operation of it was skipped, so that all later ones are.
 */
enum { CONN_BLOCKED = OP_KINDS, CONN_ABSENT /* and none of it is in the batch */ };

void batch_init(struct batch *b, size_t max, size_t guards_max)
{
    size_t slots = 64;
    *b = (struct batch){.max = max, .guards_max = guards_max};
    /* At most 4 keys an operation, and twice as many guards as there may be: half full. */
    while (slots < 2 * (max * 4 + guards_max * 2 + ABOVE_MAX))
        slots *= 2;
    b->key_mask = slots - 1;
    b->keys = xcalloc(slots, sizeof(*b->keys));
    b->items = xcalloc(max, sizeof(*b->items));
    b->above = xcalloc(guards_max + ABOVE_MAX, sizeof(*b->above));
    for (int k = 0; k < OP_KINDS; k++)
        list_init(&b->ops[k]);
}

void batch_free(struct batch *b)
{
    free(b->keys);
    free(b->items);
    free(b->above);
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

static bool takes(const struct op *op)
{
    return op->kind == OP_ACQUIRE || op->kind == OP_CLAIM || op->kind == OP_CHANGE;
}

static enum side side_of(const struct op *op)
{
    return takes(op) ? SIDE_LOCKS : SIDE_OTHERS;
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
        locks += takes(op);
        others += !takes(op);
        lazy += op->lazy;
        if (locks >= SPLIT_MIN && others >= SPLIT_MIN)
            return side_of(list_first(queue, struct op, link));
    }
    return others > 0 && lazy == locks ? SIDE_OTHERS : SIDE_BOTH;
}

/* How many guards the batch needs more with this operation, not counting those of trees above. */
static size_t new_guards(const struct batch *b, const struct op *op)
{
    size_t n = 0;
    for (size_t i = 0; i < op_resources(op); i++)
        n += !has_key(b, hash_key(KEY_RESOURCE, op_resource(op, i), 0));
    return n;
}

/* Remembers what a resource lies beneath: the whole space, and every prefix that ends at a slash.
 */
static void add_above(struct batch *b, struct str resource)
{
    struct str above = STR_LIT("/");
    for (size_t at = 0;;) {
        uint64_t key = hash_key(KEY_ABOVE, above, 0);
        if (!has_key(b, key)) {
            add_key(b, key, 0);
            b->above[b->nabove++] = above;
            b->guards++;
        }
        const char *slash = memchr(resource.p + at, '/', resource.n - at);
        if (slash == NULL)
            return;
        above = (struct str){resource.p, (size_t)(slash - resource.p)};
        at = above.n + 1;
    }
}

static size_t depth_of(struct str resource)
{
    size_t n = 1;
    for (size_t i = 0; i < resource.n; i++)
        n += resource.p[i] == '/';
    return n;
}

static void add_guards(struct batch *b, const struct op *op)
{
    for (size_t i = 0; i < op_resources(op); i++) {
        struct str resource = op_resource(op, i);
        uint64_t key = hash_key(KEY_RESOURCE, resource, 0);
        if (!has_key(b, key)) {
            add_key(b, key, 0);
            b->guards++;
        }
        if (op->kind == OP_ACQUIRE)
            add_above(b, resource);
        else if (op->kind == OP_CLAIM) /* its function finds them, and may take some twice */
            b->guards += depth_of(resource);
    }
}

/* May it not go into the batch, for what is in it or went before? */
static bool is_in_the_way(struct batch *b, const struct op *op, enum side side,
                          const struct batch *ahead, const uint64_t keys[2])
{
    uint64_t conn = hash_key(KEY_CONN, (struct str){0}, op->conn_id);
    return (side != SIDE_BOTH && side_of(op) != side) || !in_order(b, op, conn) ||
           (keys[0] && has_key(b, keys[0])) || (keys[1] && has_key(b, keys[1])) ||
           (b->count > 0 && b->guards + new_guards(b, op) > b->guards_max) ||
           (ahead && op->conn_id && has_conn(ahead, conn));
}

static uint64_t token_of(const struct op *op)
{
    return (uint64_t)(op->kind == OP_CHANGE ? op->upgrade : op->number);
}

static bool try_add(struct batch *b, struct op *op, enum side side, const struct batch *ahead)
{
    bool by_token = op->kind == OP_RELEASE || op->kind == OP_RENEW || op->kind == OP_CHANGE;
    uint64_t conn = hash_key(KEY_CONN, (struct str){0}, op->conn_id);
    /* One token is of one resource, whatever a client says. */
    const uint64_t keys[] = {
        by_token ? hash_key(KEY_LEASE, (struct str){0}, token_of(op)) : 0,
        takes(op) && op->id.p ? hash_key(KEY_ID, op->id, 0) : 0,
    };

    if (is_in_the_way(b, op, side, ahead, keys)) {
        if (op->conn_id)
            block_conn(b, conn);
        return false;
    }
    add_guards(b, op);
    for (size_t i = 0; i < 2; i++)
        if (keys[i])
            add_key(b, keys[i], 0);
    if (op->conn_id)
        add_key(b, conn, op->kind);
    list_remove(&op->link);
    list_append(&b->ops[op->kind], &op->link);
    b->counts[op->kind]++;
    b->count++;
    return true;
}

static void fill_from(struct batch *b, struct list *queue, enum side side,
                      const struct batch *ahead)
{
    size_t skipped = 0;
    if (b->count == 0) {
        b->guards = 0;
        b->nabove = 0;
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
}

size_t batch_fill(struct batch *b, struct list *queue, const struct batch *ahead)
{
    enum side side = choose_side(queue);
    fill_from(b, queue, side, ahead);
    /* All of that side stand behind LOCKs of their own connections: only those can go. */
    if (b->count == 0 && side != SIDE_BOTH)
        fill_from(b, queue, SIDE_BOTH, ahead);
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

static const void *field_of(const struct op *op, enum param param)
{
    return (const char *)op + fields[param].offset;
}

static int64_t number_of(const struct op *op, enum param param)
{
    int64_t v = 0;
    int32_t v4;
    if (fields[param].type == PG_INT8) {
        memcpy(&v, field_of(op, param), sizeof(v));
        return v;
    }
    memcpy(&v4, field_of(op, param), sizeof(v4));
    return v4;
}

static bool says_something(const struct op *op, enum param param)
{
    struct str text;
    switch (fields[param].type) {
    case PG_BOOL:
        return *(const bool *)field_of(op, param);
    case PG_TEXT:
        memcpy(&text, field_of(op, param), sizeof(text));
        return text.p != NULL;
    default:
        return number_of(op, param) != fields[param].null_value;
    }
}

static void put_field(struct array_writer *w, const struct op *op, enum param param)
{
    struct str text;
    if (fields[param].type == PG_BOOL) {
        array_put_bool(w, *(const bool *)field_of(op, param));
    } else if (!says_something(op, param)) {
        array_put_null(w);
    } else if (fields[param].type == PG_TEXT) {
        memcpy(&text, field_of(op, param), sizeof(text));
        array_put_text(w, text);
    } else if (fields[param].type == PG_INT8) {
        array_put_int8(w, number_of(op, param));
    } else {
        array_put_int4(w, (int32_t)number_of(op, param));
    }
}

static void put_fields(struct array_writer *w, const struct batch *b, enum op_kind kind,
                       enum param param)
{
    bool used = !fields[param].sparse;
    list_for_each(at, &b->ops[kind])
    {
        if (used)
            break;
        used = says_something(container_of(at, struct op, link), param);
    }
    if (used)
        list_for_each(at, &b->ops[kind]) put_field(w, container_of(at, struct op, link), param);
}

static void put_members(struct array_writer *w, const struct batch *b, enum op_kind kind,
                        enum param param)
{
    int32_t item = 0;
    list_for_each(at, &b->ops[kind])
    {
        const struct op *op = container_of(at, struct op, link);
        item++;
        for (size_t i = 0; i < op_resources(op); i++) {
            if (param == P_ITEM)
                array_put_int4(w, item);
            else if (param == P_MEMBER)
                array_put_text(w, op_resource(op, i));
            else if (param == P_MEMBER_EXCLUSIVE)
                array_put_bool(w, op->nmembers > 0 ? op->members[i].exclusive : op->exclusive);
            else
                array_put_bool(w, op->nmembers > 0 && op->members[i].tree);
        }
    }
}

static enum pg_type type_of(enum param param)
{
    if (param < P_FIELDS)
        return fields[param].type;
    if (param == P_ITEM)
        return PG_INT4;
    return param == P_MEMBER_EXCLUSIVE || param == P_MEMBER_TREE ? PG_BOOL : PG_TEXT;
}

static void put_array(const struct batch *b, enum op_kind kind, enum param param, struct buf *out)
{
    struct array_writer w;
    array_begin(&w, out, type_of(param));
    if (param < P_FIELDS)
        put_fields(&w, b, kind, param);
    else if (param == P_ABOVE)
        for (size_t i = 0; i < b->nabove; i++)
            array_put_text(&w, b->above[i]);
    else
        put_members(&w, b, kind, param);
    array_end(&w);
}

void batch_params(const struct batch *b, enum op_kind kind, int32_t instance,
                  struct batch_hints hints, struct link_params *p)
{
    link_params_clear(p);
    link_param_int4(p, instance);
    for (const enum param *param = kinds[kind].params; *param != P_END; param++) {
        if (*param == P_CAREFUL || *param == P_CROWDED) {
            link_param_bool(p, *param == P_CAREFUL ? hints.careful : hints.crowded);
            continue;
        }
        link_param_open(p);
        put_array(b, kind, *param, &p->bytes);
        link_param_close(p);
    }
}

/* --- from the database --- */

/* The fields of an answer; those that its function does not have are empty. */
static bool open_answer(enum op_kind kind, const struct link_rows *rows,
                        struct array_reader columns[COLUMNS])
{
    struct record_reader record;
    const void *value;
    int length;
    memset(columns, 0, COLUMNS * sizeof(columns[0]));
    value = link_bytes(rows, 0, 0, &length);
    if (!record_open(&record, value, length))
        return false;
    for (const enum answer *answer = kinds[kind].answers; *answer != COLUMNS; answer++)
        if (!record_next(&record, &value, &length) || !array_open(&columns[*answer], value, length))
            return false;
    return true;
}

/* Without items all were granted, in their order. A kind that has no answers at all is done. */
static bool take_items(struct batch *b, enum op_kind kind, struct array_reader columns[COLUMNS])
{
    bool answers = kinds[kind].answers[0] == COL_ITEM, in_order = columns[COL_ITEM].left == 0;
    int64_t item = 0, status = OP_DONE, number = 0;
    size_t n = 0;
    list_for_each(at, &b->ops[kind]) b->items[n++] = container_of(at, struct op, link);
    if (answers && (size_t)columns[COL_NUMBER].left != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (in_order)
            item = (int64_t)i + 1;
        else if (!array_next_int(&columns[COL_ITEM], &item) ||
                 !array_next_int(&columns[COL_STATUS], &status))
            return false;
        if (answers && !array_next_int(&columns[COL_NUMBER], &number))
            return false;
        if (item < 1 || (size_t)item > n)
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

static void take_news(struct array_reader columns[COLUMNS], struct batch_news *news)
{
    int64_t request, token, instance;
    struct str resource;
    while (array_next_int(&columns[COL_GRANT_REQUEST], &request) &&
           array_next_text(&columns[COL_GRANT_RESOURCE], &resource) &&
           array_next_int(&columns[COL_GRANT_TOKEN], &token)) {
        struct batch_grant grant = {(uint64_t)request, token, news->names.len};
        buf_put(&news->names, resource.p, resource.n);
        buf_putc(&news->names, '\0');
        buf_put(&news->grants, &grant, sizeof(grant));
    }
    while (array_next_int(&columns[COL_WAKE], &instance)) {
        int32_t wake = (int32_t)instance;
        buf_put(&news->wakes, &wake, sizeof(wake));
    }
    while (array_next_text(&columns[COL_PENDING], &resource)) {
        buf_put(&news->pending, resource.p, resource.n);
        buf_putc(&news->pending, '\0');
    }
}

bool batch_answer(struct batch *b, enum op_kind kind, const struct link_rows *rows,
                  struct batch_news *news)
{
    struct array_reader columns[COLUMNS];
    if (link_rows_count(rows) != 1 || !open_answer(kind, rows, columns) ||
        !take_items(b, kind, columns))
        return false;
    take_news(columns, news);
    return true;
}
