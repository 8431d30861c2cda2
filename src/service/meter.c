#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/xalloc.h"
#include "pg/array.h"
#include "service/samples.h"
#include "service/state.h"

/*
 * What the daemon tells of itself in the database, and what it asks it for its metrics, over a
 * connection of its own on which nothing else waits: samples of all metrics, and where this daemon
 * is the janitor, gauges of the state that all share, the partitions of samples and of history, and
 * what of history and events is forgotten; so that no tick waits for that. One statement at a time,
 * so that a slow server gets no more of them.
 */

enum {
    BEAT_MS = 1000,    /* between looks at what is due, at most */
    GAUGES_MS = 10000, /* between counts of the shared state; metrics_flush where that is shorter */
    PARTITIONS_MS = 600000,
    FORGET_MS = 5000,
    FORGET_PROOFS_MAX = 10000, /* in one statement */
    FLUSH_SAMPLES_MAX = 10,    /* in one statement */
};

enum work { WORK_NONE, WORK_GAUGES, WORK_PARTITIONS, WORK_FORGET, WORK_LAYOUT, WORK_FLUSH };

struct meter {
    struct service *s;
    struct link *link;
    ev_timer beat;
    enum work work;  /* on its way */
    int64_t sent_us; /* when it was sent */
    struct link_params params;
    struct samples samples;
    int64_t sample_due_us;
    int64_t gauges_due_us; /* clock_mono_us(), as the others */
    int64_t partitions_due_us;
    int64_t forget_due_us;
    bool missed_proof;  /* it was said that history has none */
    int64_t violations; /* as last counted */
    bool clock_known;
    int64_t clock_offset_us; /* the database's clock minus clock_mono_us() */
    int64_t oldest_xmin;     /* of the last gauges; 0: there was none */
    int64_t oldest_since_us;
    void (*finished)(void *arg); /* set once: the daemon stops */
    void *finished_arg;
};

static const char session_sql[] =
    "set search_path = pg_catalog, pg_temp; set default_transaction_isolation = 'read committed';"
    "set synchronous_commit = off; set jit = off; set lock_timeout = '1s';"
    "set statement_timeout = '10s'; set client_min_messages = warning";

static const struct link_statement gauges_statement = {
    "gauges",
    "select locks_held, sessions, waiters, oldest_wait_us, oldest_xmin, xmin_age, dead_leases,"
    " dead_waiters, violations from pglockd.gauges()",
    false};
static const struct link_statement partitions_statement = {
    "partitions",
    "select m.o_made + h.o_made, m.o_dropped + h.o_dropped, pglockd.add_proof()"
    " from pglockd.metric_partitions($1) m, pglockd.day_partitions('lease_history', $2) h",
    false};
static const struct link_statement forget_statement = {
    "forget", "select pglockd.forget_events($1), pglockd.forget_proofs($2)", false};
static const struct link_statement layout_statement = {
    "layout", "select o_layout, o_now_us from pglockd.metric_layout($1::text::jsonb)", false};
static const struct link_statement flush_statement = {
    "flush", "select pglockd.metric_flush($1, $2, $3, $4, $5, $6)", false};

/* --- labels --- */

enum { TABLE_LEASE, TABLE_WAITER, TABLES };

static const char *const table_names[TABLES] = {"lease", "waiter"};

static const char *const flush_end_names[] = {[LINK_COMMITTED] = "committed",
                                              [LINK_REFUSED] = "refused",
                                              [LINK_UNREPLICATED] = NULL, /* commits do not wait */
                                              [LINK_UNKNOWN] = "lost"};

void meter_register_metrics(void)
{
    metrics_label_names(LABEL_TABLE, table_names, TABLES);
    metrics_label_names(LABEL_FLUSH_END, flush_end_names, LINK_UNKNOWN + 1);
}

static void pump(struct meter *m);

static int64_t flush_ms(const struct meter *m) /* 0: off */
{
    return m->s->o.settings->metrics_flush_ms;
}

static bool leads(const struct meter *m)
{
    return service_is_janitor(m->s);
}

/* --- gauges of the shared state: of the janitor's daemon only, so that a sum is right --- */

/*
 * How old the oldest snapshot is, PostgreSQL says to its owner only. That its xmin has not moved
 * while the janitor's own ticks moved the next one is the same.
 */
static void look_at_xmin(struct meter *m, int64_t xmin)
{
    int64_t now_us = clock_mono_us();
    if (xmin != m->oldest_xmin)
        m->oldest_since_us = now_us;
    m->oldest_xmin = xmin;
    metric_set(M_XMIN_STUCK, xmin != 0 ? now_us - m->oldest_since_us : 0);
}

static void count_violations(struct meter *m, int64_t violations)
{
    if (violations > m->violations)
        log_error("violation",
                  "count=%" PRId64 " message=\"leases overlapped: see "
                  "pglockd.violation\"",
                  violations);
    m->violations = violations;
    metric_set(M_VIOLATIONS, violations);
}

static void on_gauges(struct meter *m, const struct link_rows *rows)
{
    if (!leads(m))
        return;
    metric_set(M_LOCKS_HELD, link_int(rows, 0, 0));
    metric_set(M_SESSIONS, link_int(rows, 0, 1));
    metric_set(M_WAITERS, link_int(rows, 0, 2));
    metric_set(M_OLDEST_WAIT, link_int(rows, 0, 3));
    look_at_xmin(m, link_int(rows, 0, 4));
    metric_set(M_XMIN_AGE, link_int(rows, 0, 5));
    metric_set1(M_DEAD_ROWS, TABLE_LEASE, link_int(rows, 0, 6));
    metric_set1(M_DEAD_ROWS, TABLE_WAITER, link_int(rows, 0, 7));
    count_violations(m, link_int(rows, 0, 8));
}

static void refresh(void *arg)
{
    const struct meter *m = arg;
    metric_set(M_SAMPLES_BUFFERED, (int64_t)m->samples.count);
    if (leads(m))
        return;
    for (int i = 0; i < METRIC_COUNT; i++)
        if (metric_table[i].kind == METRIC_SHARED)
            metric_set_absent((enum metric)i);
}

void meter_elected(struct meter *m)
{
    m->gauges_due_us = m->partitions_due_us = m->forget_due_us = 0;
    m->oldest_xmin = m->violations = 0;
    pump(m);
}

/* --- what is kept for days --- */

static void say_proof(struct meter *m, bool there)
{
    bool missing = !there && m->s->o.settings->history == SETTINGS_HISTORY_ALL;
    if (missing && !m->missed_proof)
        log_warn("history_without_proof",
                 "message=\"an administrator must run: create extension btree_gist\"");
    m->missed_proof = missing;
}

static void on_partitions(struct meter *m, const struct link_rows *rows)
{
    int made = (int)link_int(rows, 0, 0), dropped = (int)link_int(rows, 0, 1);
    if (made + dropped > 0)
        log_info("partitions", "made=%d dropped=%d", made, dropped);
    say_proof(m, link_int(rows, 0, 2) != 0);
}

static void on_forgotten(struct meter *m, const struct link_rows *rows)
{
    if (link_int(rows, 0, 0) != 0 || link_int(rows, 0, 1) != 0) /* there is more */
        m->forget_due_us = 0;
}

/* --- samples --- */

static void take_sample(struct meter *m, int64_t now_us)
{
    size_t dropped = samples_take(&m->samples, now_us, m->s->o.settings->metrics_buffer);
    metric_add(M_SAMPLES_DROPPED, (int64_t)dropped);
}

static void learn_clock(struct meter *m, int64_t now_us)
{
    m->clock_known = true;
    m->clock_offset_us = now_us - clock_mono_us();
}

static void put_times(struct meter *m, size_t n)
{
    struct array_writer w;
    link_param_open(&m->params);
    array_begin(&w, &m->params.bytes, PG_INT8);
    for (size_t i = 0; i < n; i++) {
        struct sample *one = m->samples.list[i];
        if (one->at_us == 0) /* as first sent: sent again, it is known as the same */
            one->at_us = one->taken_us + m->clock_offset_us;
        array_put_int8(&w, one->at_us);
    }
    array_end(&w);
    link_param_close(&m->params);
}

static void put_cells(struct meter *m, size_t n)
{
    struct array_writer w;
    link_param_open(&m->params);
    array_begin(&w, &m->params.bytes, PG_INT8);
    for (size_t i = 0; i < n; i++) {
        const struct sample *one = m->samples.list[i];
        for (size_t k = 0; k < one->layout->width; k++) {
            if (one->cells[k] == SAMPLE_NULL)
                array_put_null(&w);
            else
                array_put_int8(&w, one->cells[k]);
        }
    }
    array_end(&w);
    link_param_close(&m->params);
}

static void call_flush(struct meter *m)
{
    size_t n = samples_alike(&m->samples, FLUSH_SAMPLES_MAX);
    link_param_int4(&m->params, m->s->instance);
    link_param_text(&m->params, str_of(m->s->o.name));
    link_param_int8(&m->params, *metric_cell(M_PROCESS_START, 0, 0));
    link_param_int4(&m->params, m->samples.list[0]->layout->id);
    put_times(m, n);
    put_cells(m, n);
    link_call(m->link, &flush_statement, &m->params);
    samples_send(&m->samples, n);
}

static void on_flushed(struct meter *m, const struct link_rows *rows)
{
    if (!link_is_null(rows, 0, 0)) {
        learn_clock(m, link_int(rows, 0, 0));
        return;
    }
    /* The layout was forgotten, because nothing came with it for long. */
    m->samples.list[0]->layout->id = 0;
}

static void end_flush(struct meter *m, enum link_end end)
{
    bool arrived = end == LINK_COMMITTED && m->samples.list[0]->layout->id != 0;
    metric_add1(M_FLUSHES, end, 1);
    if (end == LINK_COMMITTED)
        metric_observe_us(M_FLUSH_DURATION, clock_mono_us() - m->sent_us);
    if (arrived)
        samples_arrived(&m->samples);
    else
        samples_returned(&m->samples);
}

/* --- rounds --- */

static void on_rows(void *arg, int call, const struct link_rows *rows)
{
    struct meter *m = arg;
    (void)call;
    switch (m->work) {
    case WORK_GAUGES:
        on_gauges(m, rows);
        break;
    case WORK_PARTITIONS:
        on_partitions(m, rows);
        break;
    case WORK_FORGET:
        on_forgotten(m, rows);
        break;
    case WORK_LAYOUT:
        m->samples.list[0]->layout->id = (int32_t)link_int(rows, 0, 0);
        learn_clock(m, link_int(rows, 0, 1));
        break;
    case WORK_FLUSH:
        on_flushed(m, rows);
        break;
    default:
        break;
    }
}

static void finish(struct meter *m)
{
    void (*finished)(void *) = m->finished;
    m->finished = NULL;
    if (finished)
        finished(m->finished_arg);
}

static void on_end(void *arg, const struct link_outcome *outcome)
{
    struct meter *m = arg;
    enum work work = m->work;
    m->work = WORK_NONE;
    if (outcome->end == LINK_REFUSED)
        log_warn("metrics_refused", "sqlstate=%s message=%s", outcome->sqlstate,
                 log_quote(str_of(outcome->message)));
    if (work == WORK_FLUSH)
        end_flush(m, outcome->end);
    /* After a failure the next beat is soon enough. */
    if (outcome->end == LINK_COMMITTED)
        pump(m);
    if (m->work == WORK_NONE)
        finish(m);
}

static enum work next_work(struct meter *m, int64_t now_us)
{
    if (m->s->instance == 0)
        return WORK_NONE;
    if (leads(m) && now_us >= m->partitions_due_us && !m->finished)
        return WORK_PARTITIONS;
    if (leads(m) && now_us >= m->gauges_due_us && !m->finished)
        return WORK_GAUGES;
    if (leads(m) && now_us >= m->forget_due_us && !m->finished)
        return WORK_FORGET;
    if (m->samples.count == 0)
        return WORK_NONE;
    return m->samples.list[0]->layout->id == 0 || !m->clock_known ? WORK_LAYOUT : WORK_FLUSH;
}

static int64_t gauges_step_us(const struct meter *m)
{
    return 1000 * (flush_ms(m) > 0 && flush_ms(m) < GAUGES_MS ? flush_ms(m) : GAUGES_MS);
}

static void pump(struct meter *m)
{
    if (!link_is_up(m->link) || m->work != WORK_NONE)
        return;
    int64_t now_us = clock_mono_us();
    link_params_clear(&m->params);
    m->work = next_work(m, now_us);
    switch (m->work) {
    case WORK_NONE:
        return;
    case WORK_GAUGES:
        m->gauges_due_us = now_us + gauges_step_us(m);
        link_call(m->link, &gauges_statement, &m->params);
        break;
    case WORK_PARTITIONS:
        m->partitions_due_us = now_us + 1000 * (int64_t)PARTITIONS_MS;
        link_param_int8(&m->params, m->s->o.settings->metrics_retention_ms);
        link_param_int8(&m->params, m->s->o.settings->history_retention_ms);
        link_call(m->link, &partitions_statement, &m->params);
        break;
    case WORK_FORGET:
        m->forget_due_us = now_us + 1000 * (int64_t)FORGET_MS;
        link_param_int8(&m->params, m->s->o.settings->watch_keep_ms);
        link_param_int4(&m->params, FORGET_PROOFS_MAX);
        link_call(m->link, &forget_statement, &m->params);
        break;
    case WORK_LAYOUT:
        link_param_text(&m->params, buf_str(&m->samples.list[0]->layout->families));
        link_call(m->link, &layout_statement, &m->params);
        break;
    case WORK_FLUSH:
        call_flush(m);
        break;
    }
    m->sent_us = now_us;
    link_send(m->link, on_rows, on_end, m);
}

/* --- time --- */

/* Takes a sample when it is time. The setting may have been reloaded since the last look. */
static void look_at_clock(struct meter *m, int64_t now_us)
{
    int64_t step_us = 1000 * flush_ms(m);
    if (step_us == 0)
        return;
    if (m->sample_due_us > now_us + step_us)
        m->sample_due_us = now_us + step_us;
    if (now_us < m->sample_due_us)
        return;
    take_sample(m, now_us);
    m->sample_due_us += step_us;
    if (m->sample_due_us < now_us)
        m->sample_due_us = now_us + step_us;
}

static void on_beat(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct meter *m = w->data;
    (void)revents;
    look_at_clock(m, clock_mono_us());
    w->repeat = (flush_ms(m) > 0 && flush_ms(m) < BEAT_MS ? (double)flush_ms(m) : BEAT_MS) / 1000.0;
    ev_timer_again(loop, w);
    pump(m);
}

void meter_finish(struct meter *m, void (*finished)(void *arg), void *arg)
{
    if (flush_ms(m) > 0)
        take_sample(m, clock_mono_us());
    m->finished = finished;
    m->finished_arg = arg;
    pump(m);
    if (m->work == WORK_NONE)
        finish(m);
}

/* --- the interface --- */

static void on_up(void *arg)
{
    pump(arg);
}

static void on_down(void *arg)
{
    struct meter *m = arg;
    m->clock_known = false;
}

struct meter *meter_create(struct service *s)
{
    static const struct link_statement *const statements[] = {
        &gauges_statement, &partitions_statement, &forget_statement, &layout_statement,
        &flush_statement};
    struct meter *m = xcalloc(1, sizeof(*m));
    m->s = s;
    /* At once: nothing is counted yet, so from this sample on all is an increase. */
    look_at_clock(m, clock_mono_us());
    ev_init(&m->beat, on_beat);
    m->beat.data = m;
    m->beat.repeat = BEAT_MS / 1000.0;
    ev_set_priority(&m->beat, EV_MINPRI + 1);
    ev_timer_again(s->o.loop, &m->beat);
    metrics_on_refresh(refresh, m);
    struct link_options options = {.loop = s->o.loop,
                                   .conninfo = s->o.conninfo,
                                   .seen = &s->seen,
                                   .label = "metrics",
                                   .session = session_sql,
                                   .statements = statements,
                                   .nstatements = 5,
                                   .up = on_up,
                                   .down = on_down,
                                   .arg = m};
    m->link = link_create(&options);
    return m;
}

void meter_destroy(struct meter *m)
{
    if (m == NULL)
        return;
    metrics_off_refresh(refresh, m);
    ev_timer_stop(m->s->o.loop, &m->beat);
    link_destroy(m->link);
    link_params_free(&m->params);
    samples_free(&m->samples);
    free(m);
}
