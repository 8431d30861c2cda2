#include "service/identities.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/state.h"

enum {
    LOOK_MS = 100,
    POLL_US = 300000,      /* how often the version is asked for */
    FRESH_US = 800000,     /* how old a confirmation may be; LOOK_MS come on top at most */
    USED_US = 10 * 1000000 /* how often the use of keys is written down */
};

enum round { ROUND_NONE, ROUND_ALL, ROUND_EPOCH, ROUND_USED };

struct identities {
    struct service *s;
    struct link *link;
    struct identity_store store;
    int64_t epoch;        /* of what is in the store; 0: nothing is */
    int64_t read_epoch;   /* what the round saw; 0: nothing */
    int64_t confirmed_us; /* when a round was sent that saw our epoch */
    int64_t sent_us;      /* the last round that looks */
    int64_t used_us;      /* the last round that wrote down the use of keys */
    enum round round;
    bool stale; /* there is something else to be read */
    bool news;  /* came while it was being read */
    enum identities_state told;
    ev_timer look;
    struct link_params params;
    void (*changed)(void *arg);
    void *arg;
};

/* Columns of pglockd.identity_list(). */
enum { C_EPOCH, C_NAME, C_RIGHTS, C_KEYS, C_EXPIRES_MS };

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set default_transaction_isolation = 'read committed';"
    "set plan_cache_mode = force_generic_plan; set jit = off; set synchronous_commit = off;"
    "set lock_timeout = '1s'; set statement_timeout = '5s'; set client_min_messages = warning;"
    "listen pglockd_identity";

static const struct link_statement list_statement = {
    "identity_list", "select * from pglockd.identity_list()", false};
static const struct link_statement epoch_statement = {
    "identity_epoch", "select epoch from pglockd.identity_epoch where one", false};
static const struct link_statement used_statement = {"keys_used", "select pglockd.keys_used($1)",
                                                     true};

/* --- the state --- */

enum identities_state identities_state(const struct identities *i, int64_t now_us)
{
    int64_t age_us = now_us - i->confirmed_us;
    if (age_us <= FRESH_US && !i->stale)
        return IDENTITIES_CONFIRMED;
    if (age_us <= FRESH_US + 1000 * i->s->o.settings->request_timeout_ms)
        return IDENTITIES_WAIT;
    return IDENTITIES_AWAY;
}

static void tell(struct identities *i, bool anyway)
{
    enum identities_state state = identities_state(i, clock_mono_us());
    if (state == i->told && !anyway)
        return;
    if (state == IDENTITIES_AWAY && i->told != state)
        log_warn("identities_unconfirmed", "age_ms=%" PRId64,
                 (clock_mono_us() - i->confirmed_us) / 1000);
    i->told = state;
    if (i->changed)
        i->changed(i->arg);
}

/* --- reading --- */

static bool open_column(const struct link_rows *rows, int row, int column, struct array_reader *r)
{
    int length;
    const void *value = link_bytes(rows, row, column, &length);
    return array_open(r, value, length);
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* As PostgreSQL's encode(…, 'hex') writes it. */
static bool read_digest(struct str hex, unsigned char out[static SHA256_BYTES])
{
    if (hex.n != (size_t)2 * SHA256_BYTES)
        return false;
    for (size_t k = 0; k < SHA256_BYTES; k++)
        out[k] = (unsigned char)(hex_digit(hex.p[2 * k]) << 4 | hex_digit(hex.p[2 * k + 1]));
    return true;
}

static void take_keys(struct identities *i, struct identity *who, const struct link_rows *rows,
                      int row)
{
    struct array_reader keys, expires;
    struct str hex;
    int64_t ms;
    unsigned char sha256[SHA256_BYTES];
    if (!open_column(rows, row, C_KEYS, &keys) || !open_column(rows, row, C_EXPIRES_MS, &expires))
        return;
    while (array_next_text(&keys, &hex) && array_next_int(&expires, &ms))
        if (read_digest(hex, sha256))
            identity_store_put_key(&i->store, who, sha256,
                                   ms < 0 ? INT64_MAX : i->sent_us + 1000 * ms);
}

/* A right that this program does not know is no right. */
static void take_rights(struct identity *who, const struct link_rows *rows, int row)
{
    struct array_reader rights;
    struct str right;
    if (!open_column(rows, row, C_RIGHTS, &rights))
        return;
    while (array_next_text(&rights, &right))
        if (!identity_store_put_right(who, right))
            log_warn("right_unknown", "name=%s right=%s", log_quote(who->name), log_quote(right));
}

/* All rows are here, of one snapshot: what they say is in force at once, as a whole. */
static void on_list(void *arg, int call, const struct link_rows *rows)
{
    struct identities *i = arg;
    (void)call;
    identity_store_begin(&i->store);
    for (int row = 0; row < link_rows_count(rows); row++) {
        i->read_epoch = link_int(rows, row, C_EPOCH);
        if (link_is_null(rows, row, C_NAME))
            continue;
        struct identity *who = identity_store_put(&i->store, link_text(rows, row, C_NAME));
        take_rights(who, rows, row);
        take_keys(i, who, rows, row);
    }
    identity_store_end(&i->store, clock_mono_us());
}

static void on_epoch(void *arg, int call, const struct link_rows *rows)
{
    struct identities *i = arg;
    (void)call;
    if (link_rows_count(rows) == 1)
        i->read_epoch = link_int(rows, 0, 0);
}

/* --- rounds --- */

static void pump(struct identities *i);

static void take_list(struct identities *i)
{
    bool first = i->epoch == 0;
    i->stale = i->news;
    i->epoch = i->read_epoch;
    i->confirmed_us = i->sent_us;
    log_info("identities", "epoch=%" PRId64 " names=%zu keys=%zu", i->epoch, i->store.nidentities,
             i->store.nkeys);
    tell(i, true);
    if (first)
        service_check_ready(i->s);
}

static void on_round_end(void *arg, const struct link_outcome *outcome)
{
    struct identities *i = arg;
    enum round round = i->round;
    i->round = ROUND_NONE;
    if (outcome->end == LINK_REFUSED)
        log_warn("identities_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    bool read = outcome->end == LINK_COMMITTED && i->read_epoch != 0;
    if (read && round == ROUND_ALL)
        take_list(i);
    else if (read && i->read_epoch == i->epoch)
        i->confirmed_us = i->sent_us;
    else if (read)
        i->stale = true;
    tell(i, false);
    if (outcome->end == LINK_COMMITTED)
        pump(i);
}

static void send_round(struct identities *i, enum round round, const struct link_statement *s,
                       link_rows_fn *rows)
{
    i->round = round;
    i->read_epoch = 0;
    if (round != ROUND_USED)
        i->sent_us = clock_mono_us();
    link_call(i->link, s, &i->params);
    link_send(i->link, rows, on_round_end, i);
}

static void put_used(void *arg, const unsigned char *sha256)
{
    char id[KEY_ID_DIGITS + 1];
    array_put_text(arg, str_of(secret_key_id(sha256, id)));
}

static void send_used(struct identities *i, int64_t now_us)
{
    struct array_writer w;
    i->used_us = now_us;
    link_param_open(&i->params);
    array_begin(&w, &i->params.bytes, PG_TEXT);
    identity_store_take_used(&i->store, put_used, &w);
    array_end(&w);
    link_param_close(&i->params);
    if (w.count > 0)
        send_round(i, ROUND_USED, &used_statement, NULL);
}

static void pump(struct identities *i)
{
    int64_t now_us = clock_mono_us();
    if (i->round != ROUND_NONE || !link_is_up(i->link))
        return;
    link_params_clear(&i->params);
    if (i->stale) {
        i->news = false;
        send_round(i, ROUND_ALL, &list_statement, on_list);
    } else if (now_us - i->sent_us >= POLL_US) {
        send_round(i, ROUND_EPOCH, &epoch_statement, on_epoch);
    } else if (now_us - i->used_us >= USED_US) {
        send_used(i, now_us);
    }
}

/* Until what is new has been read, nothing is decided by what was. */
static void on_news(struct identities *i)
{
    int64_t before_us = clock_mono_us() - FRESH_US - 1;
    i->stale = i->news = true;
    if (i->confirmed_us > before_us)
        i->confirmed_us = before_us;
    tell(i, false);
    pump(i);
}

static void on_notified(void *arg, const char *channel, const char *payload)
{
    (void)channel, (void)payload; /* it listens for one */
    on_news(arg);
}

static void on_up(void *arg)
{
    on_news(arg); /* what changed meanwhile was not heard */
}

static void on_down(void *arg)
{
    struct identities *i = arg;
    i->round = ROUND_NONE;
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct identities *i = w->data;
    (void)loop, (void)revents;
    bool expired = identity_store_expire(&i->store, clock_mono_us());
    tell(i, expired);
    pump(i);
}

/* --- the interface --- */

struct identities *identities_create(struct service *s)
{
    static const struct link_statement *const statements[] = {&list_statement, &epoch_statement,
                                                              &used_statement};
    struct identities *i = xcalloc(1, sizeof(*i));
    i->s = s;
    i->stale = true;
    i->told = IDENTITIES_AWAY;
    ev_timer_init(&i->look, on_look, LOOK_MS / 1000.0, LOOK_MS / 1000.0);
    i->look.data = i;
    ev_timer_start(s->o.loop, &i->look);
    struct link_options options = {.loop = s->o.loop,
                                   .conninfo = s->o.conninfo,
                                   .seen = &s->seen,
                                   .label = "identities",
                                   .session = session_sql,
                                   .statements = statements,
                                   .nstatements = 3,
                                   .up = on_up,
                                   .down = on_down,
                                   .notified = on_notified,
                                   .arg = i};
    i->link = link_create(&options);
    return i;
}

void identities_destroy(struct identities *i)
{
    if (i == NULL)
        return;
    ev_timer_stop(i->s->o.loop, &i->look);
    link_destroy(i->link);
    link_params_free(&i->params);
    identity_store_free(&i->store);
    free(i);
}

bool identities_are_loaded(const struct identities *i)
{
    return i->epoch != 0;
}

void identities_on_change(struct identities *i, void (*changed)(void *arg), void *arg)
{
    i->changed = changed;
    i->arg = arg;
}

struct identity *identities_find(const struct identities *i, struct str name)
{
    return identity_store_find(&i->store, name);
}

struct api_key *identities_find_key(const struct identities *i, struct str secret)
{
    return identity_store_find_key(&i->store, secret, clock_mono_us());
}
