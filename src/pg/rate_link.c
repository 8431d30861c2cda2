#include "pg/rate_link.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "pg/array.h"

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set default_transaction_isolation = 'read committed';"
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off;"
    "set enable_mergejoin = off; set jit = off; set synchronous_commit = on;"
    "set lock_timeout = '1s'; set statement_timeout = '10s';"
    "set idle_in_transaction_session_timeout = '10s'; set client_min_messages = warning;"
    "listen pglockd_rate";

static const struct link_statement decide_statement = {
    "rate_decide",
    "select o_epoch, o_now_ns, o_status, o_granted, o_over, o_tat_ns from pglockd.rate_decide("
    "$1, false, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    false};
static const struct link_statement refund_statement = {
    "rate_refund", "select pglockd.rate_refund($1, $2, $3)", false};
static const struct link_statement policies_statement = {
    "rate_policies", "select * from pglockd.rate_policies()", false};
static const struct link_statement epoch_statement = {
    "rate_epoch", "select epoch from pglockd.rate_epoch where one", false};

struct rate_link {
    struct rate_link_options o;
    struct link *link;
    struct link_params params;
    struct rate_batch *batch; /* of the open round; NULL: it has none */
    int64_t epoch;
    bool answered;
    bool malformed;
};

/* --- batches --- */

/* Room for one more in an array that grows by powers of two. */
static void *grow(void *items, size_t n, size_t size)
{
    return (n & (n - 1)) == 0 ? xrealloc(items, (n ? 2 * n : 1) * size) : items;
}

struct rate_counter *rate_batch_counter(struct rate_batch *b)
{
    b->counters = grow(b->counters, b->ncounters, sizeof(*b->counters));
    struct rate_counter *c = &b->counters[b->ncounters++];
    *c = (struct rate_counter){0};
    return c;
}

struct rate_request *rate_batch_request(struct rate_batch *b)
{
    b->requests = grow(b->requests, b->nrequests, sizeof(*b->requests));
    struct rate_request *r = &b->requests[b->nrequests++];
    *r = (struct rate_request){.first = b->nindexes};
    return r;
}

void rate_batch_index(struct rate_batch *b, size_t counter)
{
    b->indexes = grow(b->indexes, b->nindexes, sizeof(*b->indexes));
    b->indexes[b->nindexes++] = (int32_t)counter;
}

void rate_batch_clear(struct rate_batch *b)
{
    b->ncounters = b->nrequests = b->nindexes = 0;
}

void rate_batch_free(struct rate_batch *b)
{
    free(b->counters);
    free(b->requests);
    free(b->indexes);
    *b = (struct rate_batch){0};
}

/* --- parameters: one array for each field of the structs --- */

#define PUT_ARRAY(p, type, count, item, put)                                                       \
    do {                                                                                           \
        struct array_writer w;                                                                     \
        link_param_open(p);                                                                        \
        array_begin(&w, &(p)->bytes, type);                                                        \
        for (size_t i = 0; i < (count); i++)                                                       \
            put(&w, item);                                                                         \
        array_end(&w);                                                                             \
        link_param_close(p);                                                                       \
    } while (0)

static void put_text_or_null(struct array_writer *w, struct str s)
{
    if (s.p == NULL)
        array_put_null(w);
    else
        array_put_text(w, s);
}

static void put_counters(struct link_params *p, const struct rate_batch *b)
{
    const struct rate_counter *c = b->counters;
    PUT_ARRAY(p, PG_TEXT, b->ncounters, c[i].key, array_put_text);
    PUT_ARRAY(p, PG_TEXT, b->ncounters, c[i].rule, array_put_text);
    PUT_ARRAY(p, PG_INT8, b->ncounters, c[i].quota, array_put_int8);
    PUT_ARRAY(p, PG_INT8, b->ncounters, c[i].period_ns, array_put_int8);
    PUT_ARRAY(p, PG_INT8, b->ncounters, c[i].burst, array_put_int8);
    PUT_ARRAY(p, PG_INT8, b->ncounters, c[i].burst_ns, array_put_int8);
    PUT_ARRAY(p, PG_BOOL, b->ncounters, c[i].shadow, array_put_bool);
}

/* Which counters each request is about. */
static void put_indexes(struct link_params *p, const struct rate_batch *b)
{
    const struct rate_request *r = b->requests;
    /* SQL counts from 1, and wants to know where the last one ends. */
    PUT_ARRAY(p, PG_INT4, b->nrequests + 1,
              (int32_t)(i < b->nrequests ? r[i].first : b->nindexes) + 1, array_put_int4);
    PUT_ARRAY(p, PG_INT4, b->nindexes, b->indexes[i] + 1, array_put_int4);
}

static void put_requests(struct link_params *p, const struct rate_batch *b)
{
    const struct rate_request *r = b->requests;
    PUT_ARRAY(p, PG_INT8, b->nrequests, r[i].want, array_put_int8);
    PUT_ARRAY(p, PG_INT8, b->nrequests, r[i].due, array_put_int8);
    PUT_ARRAY(p, PG_INT8, b->nrequests, r[i].step, array_put_int8);
    PUT_ARRAY(p, PG_INT8, b->nrequests, r[i].life_ns, array_put_int8);
    PUT_ARRAY(p, PG_BOOL, b->nrequests, r[i].peek, array_put_bool);
    PUT_ARRAY(p, PG_TEXT, b->nrequests, r[i].id, put_text_or_null);
    PUT_ARRAY(p, PG_TEXT, b->nrequests, r[i].identity, array_put_text);
}

/* --- answers --- */

static bool open_column(const struct link_rows *rows, int column, struct array_reader *r)
{
    int length;
    const void *value = link_bytes(rows, 0, column, &length);
    return array_open(r, value, length);
}

static bool read_answer(struct rate_batch *b, const struct link_rows *rows)
{
    struct array_reader status, granted, over, tat;
    if (!open_column(rows, 2, &status) || !open_column(rows, 3, &granted) ||
        !open_column(rows, 4, &over) || !open_column(rows, 5, &tat))
        return false;
    b->now_ns = link_int(rows, 0, 1);
    for (size_t i = 0; i < b->nrequests; i++) {
        struct rate_request *r = &b->requests[i];
        int64_t letter;
        if (!array_next_int(&status, &letter) || !array_next_int(&granted, &r->granted) ||
            !array_next_int(&over, &r->over))
            return false;
        r->status = (enum rate_status)letter;
    }
    for (size_t i = 0; i < b->ncounters; i++)
        if (!array_next_int(&tat, &b->counters[i].tat_ns))
            return false;
    return true;
}

static void on_decided(void *arg, int call, const struct link_rows *rows)
{
    struct rate_link *l = arg;
    (void)call;
    l->epoch = link_int(rows, 0, 0);
    l->answered = !link_is_null(rows, 0, 2);
    l->malformed = l->answered && !read_answer(l->batch, rows);
}

static void on_refunded(void *arg, int call, const struct link_rows *rows)
{
    struct rate_link *l = arg;
    struct array_reader r;
    int64_t index;
    (void)call;
    l->answered = true;
    for (size_t i = 0; i < l->batch->nrequests; i++)
        l->batch->requests[i].status = RATE_LOCKED;
    if (open_column(rows, 0, &r))
        while (array_next_int(&r, &index))
            l->batch->requests[index - 1].status = RATE_DECIDED;
}

static void on_policies(void *arg, int call, const struct link_rows *rows)
{
    struct rate_link *l = arg;
    (void)call;
    for (int i = 0; i < link_rows_count(rows); i++) {
        l->epoch = link_int(rows, i, 0);
        if (link_is_null(rows, i, 1))
            continue;
        struct rate_policy_row row = {
            .name = link_text(rows, i, 1),
            .for_lock = link_int(rows, i, 2) != 0,
            .prefix = link_int(rows, i, 3) != 0,
            .pattern = link_text(rows, i, 4),
            .counter = link_text(rows, i, 5),
            .quota = link_int(rows, i, 6),
            .period_ns = link_int(rows, i, 7),
            .burst = link_int(rows, i, 8),
            .shadow = link_int(rows, i, 9) != 0,
            .away = link_text(rows, i, 10),
            .away_percent = link_int(rows, i, 11),
            .on_grant = link_int(rows, i, 12) != 0,
            .borrow = link_int(rows, i, 13) != 0,
        };
        l->o.policy(l->o.arg, &row);
    }
}

static void on_epoch(void *arg, int call, const struct link_rows *rows)
{
    struct rate_link *l = arg;
    (void)call;
    if (link_rows_count(rows) == 1)
        l->epoch = link_int(rows, 0, 0);
}

static void on_end(void *arg, const struct link_outcome *outcome)
{
    struct rate_link *l = arg;
    struct link_outcome end = *outcome;
    if (l->malformed)
        end.end = LINK_UNKNOWN;
    bool committed = end.end == LINK_COMMITTED;
    l->batch = NULL;
    l->o.done(l->o.arg, &end, committed ? l->epoch : 0, committed && l->answered);
    if (l->malformed)
        link_reset(l->link, "an answer about rate limits could not be read");
}

static void send_round(struct rate_link *l, const struct link_statement *s, link_rows_fn *rows,
                       struct rate_batch *b)
{
    l->batch = b;
    l->epoch = 0;
    l->answered = l->malformed = false;
    link_call(l->link, s, &l->params);
    link_send(l->link, rows, on_end, l);
}

/* --- the interface --- */

static void on_up(void *arg)
{
    struct rate_link *l = arg;
    l->o.state_changed(l->o.arg, true);
}

static void on_down(void *arg)
{
    struct rate_link *l = arg;
    l->o.state_changed(l->o.arg, false);
}

static void on_notified(void *arg, const char *channel, const char *payload)
{
    struct rate_link *l = arg;
    (void)channel, (void)payload; /* it listens for one */
    l->o.notified(l->o.arg);
}

struct rate_link *rate_link_create(const struct rate_link_options *options)
{
    static const struct link_statement *const statements[] = {
        &decide_statement, &refund_statement, &policies_statement, &epoch_statement};
    struct rate_link *l = xcalloc(1, sizeof(*l));
    l->o = *options;
    struct link_options link = {.loop = options->loop,
                                .conninfo = options->conninfo,
                                .seen = options->seen,
                                .label = "rate",
                                .session = session_sql,
                                .statements = statements,
                                .nstatements = 4,
                                .up = on_up,
                                .down = on_down,
                                .notified = on_notified,
                                .arg = l};
    l->link = link_create(&link);
    return l;
}

void rate_link_destroy(struct rate_link *l)
{
    if (l == NULL)
        return;
    link_destroy(l->link);
    link_params_free(&l->params);
    free(l);
}

bool rate_link_is_free(const struct rate_link *l)
{
    return link_is_up(l->link) && link_open_rounds(l->link) == 0;
}

void rate_link_reset(struct rate_link *l, const char *why)
{
    link_reset(l->link, why);
}

void rate_link_decide(struct rate_link *l, int64_t epoch, struct rate_batch *b)
{
    link_params_clear(&l->params);
    link_param_int8(&l->params, epoch);
    put_counters(&l->params, b);
    put_indexes(&l->params, b);
    put_requests(&l->params, b);
    send_round(l, &decide_statement, on_decided, b);
}

void rate_link_refund(struct rate_link *l, struct rate_batch *b)
{
    link_params_clear(&l->params);
    PUT_ARRAY(&l->params, PG_TEXT, b->nindexes, b->counters[b->indexes[i]].key, array_put_text);
    PUT_ARRAY(&l->params, PG_TEXT, b->nindexes, b->counters[b->indexes[i]].rule, array_put_text);
    PUT_ARRAY(&l->params, PG_INT8, b->nrequests, b->requests[i].want, array_put_int8);
    send_round(l, &refund_statement, on_refunded, b);
}

void rate_link_ask_policies(struct rate_link *l)
{
    link_params_clear(&l->params);
    send_round(l, &policies_statement, on_policies, NULL);
}

void rate_link_ask_epoch(struct rate_link *l)
{
    link_params_clear(&l->params);
    send_round(l, &epoch_statement, on_epoch, NULL);
}
