#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/metrics_process.h"
#include "base/metrics_text.h"

#include "unit.h"

enum { VERB_LOCK, VERB_HIDDEN, VERB_PING };
static const char *const verbs[] = {"LOCK", NULL, "PING"};
static const char *const statuses[] = {"OK", "BUSY"};

static void register_names(void)
{
    metrics_label_names(LABEL_VERB, verbs, 3);
    metrics_label_names(LABEL_STATUS, statuses, 2);
}

/* The whole rendering; the caller frees it. */
static char *render(void)
{
    struct buf out = {0};
    char *text;

    metrics_put_text(&out, METRICS_PROMETHEUS);
    text = strdup(buf_cstr(&out));
    ck_assert_uint_eq(strlen(text), out.len);
    buf_free(&out);
    return text;
}

/* The lines of one metric, its head included; "" when it is absent. The caller frees it. */
static char *family(const char *name)
{
    char *all = render();
    char head[128];
    char *start;
    char *end;
    char *result;

    snprintf(head, sizeof(head), "# HELP %s ", name);
    start = strstr(all, head);
    if (!start) {
        free(all);
        return strdup("");
    }
    end = strstr(start + 1, "# HELP ");
    result = end ? strndup(start, (size_t)(end - start)) : strdup(start);
    free(all);
    return result;
}

static void expect_family(const char *name, const char *expected)
{
    char *text = family(name);

    ck_assert_str_eq(text, expected);
    free(text);
}

static void expect_line(const char *text, const char *line)
{
    char framed[256];

    snprintf(framed, sizeof(framed), "\n%s\n", line);
    ck_assert_msg(strstr(text, framed), "no line \"%s\" in\n%s", line, text);
}

START_TEST(counters_with_two_labels)
{
    register_names();
    metric_add2(M_REQUESTS, VERB_LOCK, 1, 3);
    metric_add2(M_REQUESTS, VERB_LOCK, 1, 4);
    metric_add2(M_REQUESTS, VERB_HIDDEN, 0, 9);
    metric_add2(M_REQUESTS, VERB_PING, 0, 1);
    expect_family("pglockd_requests_total",
                  "# HELP pglockd_requests_total Requests of the line protocol that were answered, "
                  "by verb and status\n"
                  "# TYPE pglockd_requests_total counter\n"
                  "pglockd_requests_total{verb=\"LOCK\",status=\"OK\"} 0\n"
                  "pglockd_requests_total{verb=\"LOCK\",status=\"BUSY\"} 7\n"
                  "pglockd_requests_total{verb=\"PING\",status=\"OK\"} 1\n"
                  "pglockd_requests_total{verb=\"PING\",status=\"BUSY\"} 0\n");
    ck_assert_int_eq(metric_total(M_REQUESTS), 17);
}
END_TEST

START_TEST(counting_before_names_are_registered)
{
    metric_add2(M_REQUESTS, VERB_PING, 0, 1);
    expect_family("pglockd_requests_total",
                  "# HELP pglockd_requests_total Requests of the line protocol that were answered, "
                  "by verb and status\n"
                  "# TYPE pglockd_requests_total counter\n");
    register_names();
    char *text = family("pglockd_requests_total");
    expect_line(text, "pglockd_requests_total{verb=\"PING\",status=\"OK\"} 1");
    free(text);
}
END_TEST

/* Neighbours in the array must not touch each other: every corner of every metric is its own. */
START_TEST(cells_do_not_overlap)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_info *info = &metric_table[m];
        int64_t *first = metric_cell((enum metric)m, 0, 0);
        int64_t *last = metric_cell((enum metric)m, info->capacity[0] - 1, info->capacity[1] - 1) +
                        (info->width - 1);

        ck_assert_int_eq(last - first + 1,
                         (int64_t)info->capacity[0] * info->capacity[1] * info->width);
        for (int64_t *cell = first; cell <= last; cell++) {
            ck_assert_int_eq(*cell, 0);
            *cell = 1;
        }
    }
}
END_TEST

START_TEST(numbers_are_exact)
{
    metric_add(M_SENT, INT64_C(9007199254740993));
    metric_add(M_SENT, 0);
    metric_set(M_POSTGRES_UP, 1);
    metric_add(M_CONNECTIONS, 5);
    metric_add(M_CONNECTIONS, -7);
    char *text = render();
    expect_line(text, "pglockd_sent_bytes_total 9007199254740993");
    expect_line(text, "pglockd_postgres_up 1");
    expect_line(text, "pglockd_connections -2");
    expect_line(text, "pglockd_received_bytes_total 0");
    free(text);
}
END_TEST

static const struct {
    int64_t us;
    const char *shown;
} seconds[] = {
    {0, "0"},       {1, "0.000001"},  {-1, "-0.000001"},  {250000, "0.25"},
    {1000000, "1"}, {10000000, "10"}, {-1500000, "-1.5"}, {1764000000123456, "1764000000.123456"},
};

START_TEST(seconds_are_kept_in_microseconds)
{
    char line[128];
    char *text;

    metric_set(M_OLDEST_WAIT, seconds[_i].us);
    snprintf(line, sizeof(line), "pglockd_oldest_wait_seconds %s", seconds[_i].shown);
    text = family("pglockd_oldest_wait_seconds");
    expect_line(text, line);
    free(text);
}
END_TEST

START_TEST(shared_gauges_are_absent_until_set)
{
    expect_family("pglockd_locks_held", "");
    metric_set(M_LOCKS_HELD, 0);
    expect_family("pglockd_locks_held",
                  "# HELP pglockd_locks_held Leases held in the whole service\n"
                  "# TYPE pglockd_locks_held gauge\n"
                  "pglockd_locks_held 0\n");
    expect_family("pglockd_waiters", "");
    metric_set_absent(M_LOCKS_HELD);
    expect_family("pglockd_locks_held", "");
    metric_set(M_LOCKS_HELD, 12);
    char *text = family("pglockd_locks_held");
    expect_line(text, "pglockd_locks_held 12");
    free(text);
}
END_TEST

START_TEST(histogram_of_sizes)
{
    metric_observe(M_BATCH_REQUESTS, 0);
    metric_observe(M_BATCH_REQUESTS, 1);
    metric_observe(M_BATCH_REQUESTS, 2);
    metric_observe(M_BATCH_REQUESTS, 3);
    metric_observe(M_BATCH_REQUESTS, 4096);
    metric_observe(M_BATCH_REQUESTS, 4097);
    expect_family("pglockd_batch_requests", "# HELP pglockd_batch_requests Requests in one batch\n"
                                            "# TYPE pglockd_batch_requests histogram\n"
                                            "pglockd_batch_requests_bucket{le=\"1.0\"} 2\n"
                                            "pglockd_batch_requests_bucket{le=\"2.0\"} 3\n"
                                            "pglockd_batch_requests_bucket{le=\"4.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"8.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"16.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"32.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"64.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"128.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"256.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"512.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"1024.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"2048.0\"} 4\n"
                                            "pglockd_batch_requests_bucket{le=\"4096.0\"} 5\n"
                                            "pglockd_batch_requests_bucket{le=\"+Inf\"} 6\n"
                                            "pglockd_batch_requests_sum 8199\n"
                                            "pglockd_batch_requests_count 6\n");
    ck_assert_int_eq(metric_total(M_BATCH_REQUESTS), 6);
}
END_TEST

START_TEST(histogram_of_seconds)
{
    int64_t sum;
    char *text;

    metric_observe_us(M_LOCK_WAIT, -5);
    metric_observe_us(M_LOCK_WAIT, 100);
    metric_observe_us(M_LOCK_WAIT, 101);
    metric_observe_us(M_LOCK_WAIT, 1500000);
    metric_observe_us(M_LOCK_WAIT, INT64_C(604800000000));
    metric_observe_us(M_LOCK_WAIT, INT64_C(604800000001));
    text = family("pglockd_lock_wait_seconds");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"0.0001\"} 2");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"0.00025\"} 3");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"1.0\"} 3");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"2.5\"} 4");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"259200.0\"} 4");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"604800.0\"} 5");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"+Inf\"} 6");
    expect_line(text, "pglockd_lock_wait_seconds_sum 1209601.500202");
    expect_line(text, "pglockd_lock_wait_seconds_count 6");
    free(text);
    ck_assert_int_eq(metric_observations(M_LOCK_WAIT, 0, &sum), 6);
    ck_assert_int_eq(sum, INT64_C(1209601500202));
}
END_TEST

START_TEST(labelled_histogram_shows_only_what_was_observed)
{
    char *text;

    register_names();
    metric_observe1_us(M_REQUEST_DURATION, VERB_PING, 300);
    text = family("pglockd_request_duration_seconds");
    expect_line(text, "pglockd_request_duration_seconds_bucket{verb=\"PING\",le=\"0.00025\"} 0");
    expect_line(text, "pglockd_request_duration_seconds_bucket{verb=\"PING\",le=\"0.0005\"} 1");
    expect_line(text, "pglockd_request_duration_seconds_sum{verb=\"PING\"} 0.0003");
    expect_line(text, "pglockd_request_duration_seconds_count{verb=\"PING\"} 1");
    ck_assert_ptr_null(strstr(text, "LOCK"));
    free(text);
}
END_TEST

START_TEST(hostile_names_are_escaped)
{
    static const char *const hostile[] = {
        "a\"} 1\nevil 2", "back\\slash\\", "caf\xc3\xa9", "bad\xff\xc3 utf8", "", "\\n",
    };
    metrics_label_names(LABEL_CLOSE, hostile, 6);
    expect_family(
        "pglockd_connections_closed_total",
        "# HELP pglockd_connections_closed_total Connections closed, by reason\n"
        "# TYPE pglockd_connections_closed_total counter\n"
        "pglockd_connections_closed_total{reason=\"a\\\"} 1\\nevil 2\"} 0\n"
        "pglockd_connections_closed_total{reason=\"back\\\\slash\\\\\"} 0\n"
        "pglockd_connections_closed_total{reason=\"caf\xc3\xa9\"} 0\n"
        "pglockd_connections_closed_total{reason=\"bad\xef\xbf\xbd\xef\xbf\xbd utf8\"} 0\n"
        "pglockd_connections_closed_total{reason=\"\"} 0\n"
        "pglockd_connections_closed_total{reason=\"\\\\n\"} 0\n");
}
END_TEST

static void count_call(void *arg)
{
    metric_set(M_JANITOR_LEADER, ++*(int *)arg);
}

START_TEST(hooks_run_before_each_rendering)
{
    int calls = 0;
    int others = 10;
    char *text;

    metrics_on_refresh(count_call, &others);
    metrics_on_refresh(count_call, &calls);
    text = render();
    expect_line(text, "pglockd_janitor_leader 1");
    free(text);
    metrics_off_refresh(count_call, &others);
    free(render());
    metrics_off_refresh(count_call, &calls);
    free(render());
    ck_assert_int_eq(calls, 2);
    ck_assert_int_eq(others, 11);
}
END_TEST

static double value_of(const char *text, const char *name)
{
    char key[128];
    const char *at;

    snprintf(key, sizeof(key), "\n%s ", name);
    at = strstr(text, key);
    ck_assert_msg(at, "%s is missing", name);
    return strtod(at + strlen(key), NULL);
}

START_TEST(process_metrics)
{
    char *text;
    double open_before;
    int fds[3];

    metrics_process_start("1.2.3");
    text = render();
    expect_line(text, "pglockd_build_info{version=\"1.2.3\"} 1");
    ck_assert(value_of(text, "process_cpu_seconds_total") > 0);
    ck_assert(value_of(text, "process_resident_memory_bytes") > 100000);
    ck_assert(value_of(text, "process_max_fds") >= 64);
    ck_assert(fabs(value_of(text, "process_start_time_seconds") - (double)clock_wall_us() / 1e6) <
              60);
    open_before = value_of(text, "process_open_fds");
    ck_assert(open_before >= 3);
    free(text);
    for (int i = 0; i < 3; i++)
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    text = render();
    ck_assert(value_of(text, "process_open_fds") == open_before + 3);
    free(text);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}
END_TEST

/* The way for kernels before 6.2, whichever runs the test. */
START_TEST(fds_by_poll)
{
    int64_t before = metrics_process_fds_by_poll();
    int fds[300];

    ck_assert_int_ge(before, 3);
    for (int i = 0; i < 300; i++)
        ck_assert_int_ge(fds[i] = dup(STDERR_FILENO), 0);
    ck_assert_int_eq(metrics_process_fds_by_poll(), before + 300);
    for (int i = 0; i < 300; i += 2)
        close(fds[i]);
    ck_assert_int_eq(metrics_process_fds_by_poll(), before + 150);
    for (int i = 1; i < 300; i += 2)
        close(fds[i]);
    ck_assert_int_eq(metrics_process_fds_by_poll(), before);
}
END_TEST

static bool name_ok(const char *name)
{
    if (!islower((unsigned char)*name))
        return false;
    for (const char *p = name; *p; p++) {
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '_')
            return false;
    }
    return true;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s);
    size_t m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* --- OpenMetrics --- */

static char *render_open(void)
{
    struct buf out = {0};
    char *text;

    metrics_put_text(&out, METRICS_OPENMETRICS);
    text = strdup(buf_cstr(&out));
    buf_free(&out);
    return text;
}

START_TEST(openmetrics)
{
    static const char end[] = "\n# EOF\n";
    char *text;

    register_names();
    metric_add2(M_REQUESTS, VERB_LOCK, 1, 3);
    metric_set(M_PROCESS_CPU, 1500000);
    metric_observe_us(M_LOCK_WAIT, 2000000);
    text = render_open();
    expect_line(text, "# TYPE pglockd_requests counter");
    expect_line(text, "pglockd_requests_total{verb=\"LOCK\",status=\"BUSY\"} 3");
    expect_line(text, "# TYPE process_cpu_seconds counter");
    expect_line(text, "# UNIT process_cpu_seconds seconds");
    expect_line(text, "process_cpu_seconds_total 1.5");
    expect_line(text, "# UNIT pglockd_sent_bytes bytes");
    expect_line(text, "# UNIT pglockd_lock_wait_seconds seconds");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"2.5\"} 1");
    expect_line(text, "pglockd_lock_wait_seconds_bucket{le=\"1.0\"} 0");
    expect_line(text, "# TYPE pglockd_connections gauge");
    ck_assert_ptr_null(strstr(text, "_total counter"));
    ck_assert_str_eq(text + strlen(text) - strlen(end), end);
    free(text);
}
END_TEST

/* Whatever format a scraper speaks, its series are the same. */
START_TEST(both_formats_have_the_same_samples)
{
    char *plain, *open;
    char *save_plain, *save_open;
    char *a, *b;
    int samples = 0;

    register_names();
    for (int m = 0; m < METRIC_COUNT; m++) {
        if (metric_table[m].kind == METRIC_SHARED)
            metric_set((enum metric)m, 7);
        if (metric_table[m].kind == METRIC_HISTOGRAM)
            metric_cell((enum metric)m, 0, 0)[1] = 5;
    }
    plain = render();
    open = render_open();
    a = strtok_r(plain, "\n", &save_plain);
    b = strtok_r(open, "\n", &save_open);
    while (a || b) {
        while (a && *a == '#')
            a = strtok_r(NULL, "\n", &save_plain);
        while (b && *b == '#')
            b = strtok_r(NULL, "\n", &save_open);
        if (!a && !b)
            break;
        ck_assert_ptr_nonnull(a);
        ck_assert_ptr_nonnull(b);
        ck_assert_str_eq(a, b);
        samples++;
        a = strtok_r(NULL, "\n", &save_plain);
        b = strtok_r(NULL, "\n", &save_open);
    }
    ck_assert_int_gt(samples, 100);
    free(plain);
    free(open);
}
END_TEST

static const struct {
    const char *accept;
    enum metrics_format format;
} accepts[] = {
    {NULL, METRICS_PROMETHEUS},
    {"", METRICS_PROMETHEUS},
    {"*/*", METRICS_PROMETHEUS},
    {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", METRICS_PROMETHEUS},
    {"text/plain", METRICS_PROMETHEUS},
    {"application/openmetrics-text", METRICS_OPENMETRICS},
    {"Application/OpenMetrics-Text ; Version=1.0.0 ; charset=utf-8", METRICS_OPENMETRICS},
    /* Prometheus 2.42 */
    {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
     METRICS_OPENMETRICS},
    {"text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.95",
     METRICS_OPENMETRICS},
    {"text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.95",
     METRICS_PROMETHEUS},
    {"application/openmetrics-text;version=0.0.1", METRICS_PROMETHEUS},
    {"application/openmetrics-text;version=2.0.0,text/plain;q=0.1", METRICS_PROMETHEUS},
    {"application/openmetrics-text;q=0", METRICS_PROMETHEUS},
    {"application/openmetrics-text;q=0.000", METRICS_PROMETHEUS},
    {"application/openmetrics-text;q=0.001", METRICS_OPENMETRICS},
    {"application/openmetrics-text;q=9", METRICS_PROMETHEUS},
    {"application/openmetrics-text;q=", METRICS_PROMETHEUS},
    {"application/openmetrics-text;q=x", METRICS_PROMETHEUS},
    {"application/openmetrics-textual", METRICS_PROMETHEUS},
    {",;,=;;q=1,application/openmetrics-text", METRICS_OPENMETRICS},
};

START_TEST(accept_header)
{
    ck_assert_msg(metrics_accepted(accepts[_i].accept) == accepts[_i].format, "%s",
                  accepts[_i].accept);
}
END_TEST

/* --- series --- */

struct seen {
    int series;
    char text[1024];
};

static void see(void *arg, const struct metric_series *s)
{
    struct seen *seen = arg;
    size_t n = strlen(seen->text);

    seen->series++;
    for (size_t i = 0; i < s->npairs; i++) {
        snprintf(seen->text + n, sizeof(seen->text) - n, "%.*s=%.*s ", (int)s->pairs[i].key.n,
                 s->pairs[i].key.p, (int)s->pairs[i].name.n, s->pairs[i].name.p);
        n = strlen(seen->text);
    }
    snprintf(seen->text + n, sizeof(seen->text) - n, "%d\n", (int)s->cells[0]);
}

/* A dimension of several keys has as many labels. */
START_TEST(series_have_names_for_all_their_labels)
{
    static const char *const ends[] = {"allowed,local", NULL, "denied,database"};
    static const char *const policies[] = {"p"};
    struct seen seen = {0};
    unsigned before = metrics_names_version();

    metrics_each(M_RATE_DECISIONS, see, &seen);
    ck_assert_int_eq(seen.series, 0);
    metrics_label_names(LABEL_RATE_END, ends, 3);
    metrics_label_names(LABEL_POLICY, policies, 1);
    ck_assert_uint_ne(metrics_names_version(), before);
    metric_add2(M_RATE_DECISIONS, 0, 2, 9);
    metric_add2(M_RATE_DECISIONS, 0, 1, 5);
    metrics_each(M_RATE_DECISIONS, see, &seen);
    ck_assert_str_eq(seen.text, "policy=p result=allowed source=local 0\n"
                                "policy=p result=denied source=database 9\n");
    ck_assert_int_eq(seen.series, 2);
}
END_TEST

/* What promtool asks of names and helps, for every row of the table. */
START_TEST(every_declaration_is_sound)
{
    const struct metric_info *info = &metric_table[_i];

    ck_assert_msg(name_ok(info->name), "%s", info->name);
    ck_assert_msg(*info->help && !ends_with(info->help, "."), "%s: help", info->name);
    ck_assert_msg(ends_with(info->name, "_total") == (info->kind == METRIC_COUNTER), "%s",
                  info->name);
    ck_assert_msg(!!strstr(info->name, "_seconds") == (info->unit == UNIT_SECONDS), "%s",
                  info->name);
    ck_assert_msg(!!strstr(info->name, "_bytes") == (info->unit == UNIT_BYTES), "%s", info->name);
    ck_assert_msg((info->buckets != BUCKETS_NONE) == (info->kind == METRIC_HISTOGRAM), "%s",
                  info->name);
    /* OpenMetrics wants the unit last in the name of the family. */
    if (info->unit != UNIT_NONE)
        ck_assert_msg(ends_with(info->name, info->unit == UNIT_SECONDS ? "_seconds" : "_bytes") ||
                          ends_with(info->name,
                                    info->unit == UNIT_SECONDS ? "_seconds_total" : "_bytes_total"),
                      "%s", info->name);
    ck_assert_msg(info->labels[0] != LABEL_NONE || info->labels[1] == LABEL_NONE, "%s", info->name);
    for (int other = 0; other < _i; other++)
        ck_assert_str_ne(metric_table[other].name, info->name);
}
END_TEST

START_TEST(bucket_bounds_ascend)
{
    char *text;
    double last = -1;
    int bounds = 0;

    if (metric_table[_i].kind != METRIC_HISTOGRAM || metric_table[_i].labels[0] != LABEL_NONE)
        return;
    text = family(metric_table[_i].name);
    for (const char *p = text; (p = strstr(p, "le=\"")); bounds++) {
        double bound = strtod(p + 4, NULL);
        ck_assert(bound > last);
        last = bound;
        p += 4;
    }
    ck_assert_int_gt(bounds, 2);
    ck_assert(isinf(last));
    free(text);
}
END_TEST

/* One more than the capacity must not write beyond the array. */
START_TEST(an_index_beyond_the_capacity_aborts)
{
    metric_add1(M_LANE_QUEUE, metric_table[M_LANE_QUEUE].capacity[0], 1);
}
END_TEST

START_TEST(counting_a_histogram_aborts)
{
    metric_add(M_LOCK_WAIT, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tc, counters_with_two_labels);
    tcase_add_test(tc, counting_before_names_are_registered);
    tcase_add_test(tc, cells_do_not_overlap);
    tcase_add_test(tc, numbers_are_exact);
    tcase_add_loop_test(tc, seconds_are_kept_in_microseconds, 0, (int)COUNT(seconds));
    tcase_add_test(tc, shared_gauges_are_absent_until_set);
    tcase_add_test(tc, histogram_of_sizes);
    tcase_add_test(tc, histogram_of_seconds);
    tcase_add_test(tc, labelled_histogram_shows_only_what_was_observed);
    tcase_add_test(tc, hostile_names_are_escaped);
    tcase_add_test(tc, hooks_run_before_each_rendering);
    tcase_add_test(tc, process_metrics);
    tcase_add_test(tc, fds_by_poll);
    tcase_add_test(tc, openmetrics);
    tcase_add_test(tc, both_formats_have_the_same_samples);
    tcase_add_loop_test(tc, accept_header, 0, (int)COUNT(accepts));
    tcase_add_test(tc, series_have_names_for_all_their_labels);
    tcase_add_loop_test(tc, every_declaration_is_sound, 0, METRIC_COUNT);
    tcase_add_loop_test(tc, bucket_bounds_ascend, 0, METRIC_COUNT);
    tcase_add_test_raise_signal(tc, an_index_beyond_the_capacity_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, counting_a_histogram_aborts, SIGABRT);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
