/* Samples of the metrics on their way into the database: what is in them, and which are dropped. */

#include <cjson/cJSON.h>
#include <stdio.h>

#include "base/metrics.h"
#include "service/samples.h"

#include "unit.h"

static const char *const verbs[] = {"lock", NULL, "a\"b"};
static const char *const statuses[] = {"OK", "BUSY"};

static struct samples samples;

static void set_up(void)
{
    metrics_label_names(LABEL_VERB, verbs, 3);
    metrics_label_names(LABEL_STATUS, statuses, 2);
}

static void tear_down(void)
{
    samples_free(&samples);
}

/* When each of them was taken, as text. */
static const char *times(void)
{
    static char text[256];
    size_t n = 0;

    text[0] = '\0';
    for (size_t i = 0; i < samples.count; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%d ", (int)samples.list[i]->taken_us);
    return text;
}

static const cJSON *find_family(const cJSON *families, const char *name, int64_t *first)
{
    const cJSON *family;

    *first = 0;
    cJSON_ArrayForEach(family, families)
    {
        int bounds = cJSON_GetArraySize(cJSON_GetObjectItem(family, "bounds"));
        int width = bounds > 0 ? bounds + 2 : 1;

        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(family, "name")), name) == 0)
            return family;
        *first += (int64_t)width * cJSON_GetArraySize(cJSON_GetObjectItem(family, "series"));
    }
    ck_abort_msg("no family %s", name);
    return NULL;
}

/* Who reads the layout finds each value where it lies, as pglockd.metric_layout() does. */
START_TEST(layout_says_where_values_are)
{
    const struct sample *one;
    cJSON *families;
    const cJSON *family, *series;
    int64_t first;

    metric_add2(M_REQUESTS, 2, 1, 77);
    metric_observe_us(M_LOCK_WAIT, 101);
    metric_observe_us(M_LOCK_WAIT, 50);
    metric_add(M_SENT, 5);
    ck_assert_uint_eq(samples_take(&samples, 1, 10), 0);
    one = samples.list[0];
    families = cJSON_Parse(buf_cstr(&one->layout->families));
    ck_assert_int_eq(cJSON_GetArraySize(families), METRIC_COUNT);

    family = find_family(families, "pglockd_requests_total", &first);
    series = cJSON_GetObjectItem(family, "series");
    ck_assert_int_eq(cJSON_GetArraySize(series), 4);
    series = cJSON_GetArrayItem(series, 3);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(series, "verb")), "a\"b");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(series, "status")), "BUSY");
    ck_assert_int_eq(one->cells[first + 3], 77);

    family = find_family(families, "pglockd_lock_wait_seconds", &first);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(family, "kind")), "histogram");
    ck_assert_int_eq(cJSON_GetObjectItem(family, "per_unit")->valueint, 1000000);
    ck_assert_int_eq(one->cells[first], 1);
    ck_assert_int_eq(one->cells[first + 1], 1);
    ck_assert_int_eq(
        one->cells[first + cJSON_GetArraySize(cJSON_GetObjectItem(family, "bounds")) + 1], 151);

    find_family(families, "pglockd_sent_bytes_total", &first);
    ck_assert_int_eq(one->cells[first], 5);
    cJSON_Delete(families);
}
END_TEST

START_TEST(hidden_gauges_have_no_value)
{
    cJSON *families;
    int64_t first;

    samples_take(&samples, 1, 10);
    metric_set(M_LOCKS_HELD, 3);
    samples_take(&samples, 2, 10);
    families = cJSON_Parse(buf_cstr(&samples.list[0]->layout->families));
    find_family(families, "pglockd_locks_held", &first);
    ck_assert_int_eq(samples.list[0]->cells[first], SAMPLE_NULL);
    ck_assert_int_eq(samples.list[1]->cells[first], 3);
    ck_assert_ptr_eq(samples.list[0]->layout, samples.list[1]->layout);
    cJSON_Delete(families);
}
END_TEST

START_TEST(new_names_make_a_new_layout)
{
    static const char *const policies[] = {"one", "two"};

    samples_take(&samples, 1, 10);
    samples_take(&samples, 2, 10);
    metrics_label_names(LABEL_POLICY, policies, 2);
    samples_take(&samples, 3, 10);
    ck_assert_uint_gt(samples.list[2]->layout->width, samples.list[1]->layout->width);
    ck_assert_uint_eq(samples_alike(&samples, 10), 2);
    ck_assert_uint_eq(samples_alike(&samples, 1), 1);
    samples_send(&samples, 2);
    samples_arrived(&samples);
    ck_assert_uint_eq(samples_alike(&samples, 10), 1);
    ck_assert_str_eq(times(), "3 ");
}
END_TEST

START_TEST(too_many_are_thinned_out)
{
    size_t dropped = 0;

    for (int i = 1; i <= 4; i++)
        dropped += samples_take(&samples, i, 4);
    ck_assert_uint_eq(dropped, 0);
    ck_assert_uint_eq(samples_take(&samples, 5, 4), 2);
    ck_assert_str_eq(times(), "1 3 5 ");
    for (int i = 6; i <= 1000; i++)
        dropped += samples_take(&samples, i, 4);
    ck_assert_uint_le(samples.count, 4);
    ck_assert_uint_eq(samples.count + dropped + 2, 1000);
    /* The first and the last are always there. */
    ck_assert_int_eq(samples.list[0]->taken_us, 1);
    ck_assert_int_eq(samples.list[samples.count - 1]->taken_us, 1000);
}
END_TEST

START_TEST(what_is_sent_is_not_dropped)
{
    for (int i = 1; i <= 4; i++)
        samples_take(&samples, i, 4);
    samples_send(&samples, 3);
    ck_assert_uint_eq(samples_take(&samples, 5, 4), 0);
    ck_assert_uint_eq(samples_take(&samples, 6, 4), 1);
    ck_assert_str_eq(times(), "1 2 3 4 6 ");
    samples_returned(&samples);
    ck_assert_str_eq(times(), "1 2 3 4 6 ");
    samples_send(&samples, 3);
    samples_arrived(&samples);
    ck_assert_str_eq(times(), "4 6 ");
}
END_TEST

UNIT_MAIN_WITH("samples", set_up, tear_down, layout_says_where_values_are,
               hidden_gauges_have_no_value, new_names_make_a_new_layout, too_many_are_thinned_out,
               what_is_sent_is_not_dropped)
