#include "base/metrics_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codepoint.h"
#include "base/metrics.h"

/* --- pieces --- */

/*
 * Text as the formats ask: backslash and line feed are escaped, and the quote where quotes is true.
 * Bytes that are not UTF-8 become U+FFFD, since one of them would lose the whole scrape.
 */
static void put_escaped(struct buf *out, struct str s, bool quotes)
{
    while (s.n > 0) {
        uint32_t cp;
        size_t n = codepoint_decode(s.p, s.n, &cp);

        if (n == 0)
            buf_puts(out, "\xef\xbf\xbd");
        else if (*s.p == '\n')
            buf_puts(out, "\\n");
        else if (*s.p == '\\')
            buf_puts(out, "\\\\");
        else if (*s.p == '"' && quotes)
            buf_puts(out, "\\\"");
        else
            buf_put(out, s.p, n);
        n += n == 0;
        s.p += n;
        s.n -= n;
    }
}

/* Exact: microseconds as seconds with as many decimals as it takes. */
static void put_value(struct buf *out, enum metric_unit unit, int64_t v)
{
    char text[32];
    int n;

    if (unit != UNIT_SECONDS) {
        buf_put_int(out, v);
        return;
    }
    n = snprintf(text, sizeof(text), "%s%" PRId64 ".%06d", v < 0 ? "-" : "",
                 v < 0 ? -(v / 1000000) : v / 1000000, abs((int)(v % 1000000)));
    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    buf_put(out, text, (size_t)n);
}

/* The value of le, a decimal always: OpenMetrics asks for it, and a label must not differ. */
static void put_bound(struct buf *out, enum metric_unit unit, int64_t bound)
{
    size_t start = out->len;

    put_value(out, unit, bound);
    if (!memchr(out->data + start, '.', out->len - start))
        buf_puts(out, ".0");
}

/* --- samples --- */

struct rendering {
    struct buf *out;
    enum metrics_format format;
    const struct metric_series *series;
    struct buf labels; /* of the series, as they stand between the braces */
};

/* name_suffix{labels}, up to the space before the value */
static void put_head(struct rendering *r, const char *suffix)
{
    buf_puts(r->out, r->series->info->name);
    buf_puts(r->out, suffix);
    if (r->labels.len > 0) {
        buf_putc(r->out, '{');
        buf_put(r->out, r->labels.data, r->labels.len);
        buf_putc(r->out, '}');
    }
    buf_putc(r->out, ' ');
}

static void put_bucket(struct rendering *r, const int64_t *bound, int64_t cumulative)
{
    const struct metric_info *info = r->series->info;

    buf_puts(r->out, info->name);
    buf_puts(r->out, "_bucket{");
    buf_put(r->out, r->labels.data, r->labels.len);
    buf_puts(r->out, r->labels.len > 0 ? ",le=\"" : "le=\"");
    if (bound)
        put_bound(r->out, info->unit, *bound);
    else
        buf_puts(r->out, "+Inf");
    buf_puts(r->out, "\"} ");
    buf_put_int(r->out, cumulative);
    buf_putc(r->out, '\n');
}

static void put_histogram(struct rendering *r)
{
    const struct metric_info *info = r->series->info;
    int64_t cumulative = 0;
    size_t nbounds;
    const int64_t *bounds = metric_bounds(info, &nbounds);

    for (size_t i = 0; i <= nbounds; i++) {
        cumulative += r->series->cells[i];
        put_bucket(r, i < nbounds ? &bounds[i] : NULL, cumulative);
    }
    put_head(r, "_sum");
    put_value(r->out, info->unit, r->series->cells[info->width - 1]);
    buf_putc(r->out, '\n');
    put_head(r, "_count");
    buf_put_int(r->out, cumulative);
    buf_putc(r->out, '\n');
}

static void put_labels(struct rendering *r)
{
    buf_clear(&r->labels);
    for (size_t i = 0; i < r->series->npairs; i++) {
        const struct metric_pair *pair = &r->series->pairs[i];
        if (i > 0)
            buf_putc(&r->labels, ',');
        buf_put(&r->labels, pair->key.p, pair->key.n);
        buf_puts(&r->labels, "=\"");
        put_escaped(&r->labels, pair->name, true);
        buf_putc(&r->labels, '"');
    }
}

static void put_series(void *arg, const struct metric_series *s)
{
    struct rendering *r = arg;

    if (s->info->kind == METRIC_HISTOGRAM && s->npairs > 0 && metric_series_count(s) == 0)
        return;
    r->series = s;
    put_labels(r);
    if (s->info->kind == METRIC_HISTOGRAM) {
        put_histogram(r);
        return;
    }
    put_head(r, "");
    put_value(r->out, s->info->unit, s->cells[0]);
    buf_putc(r->out, '\n');
}

/* --- families --- */

/* OpenMetrics counts a counter's _total to the sample, not to the family. */
static struct str family_name(const struct metric_info *info, enum metrics_format format)
{
    struct str name = str_of(info->name);

    if (format == METRICS_OPENMETRICS && info->kind == METRIC_COUNTER)
        name.n -= strlen("_total");
    return name;
}

static void put_comment(struct buf *out, const char *what, struct str family)
{
    buf_puts(out, "# ");
    buf_puts(out, what);
    buf_putc(out, ' ');
    buf_put(out, family.p, family.n);
    buf_putc(out, ' ');
}

static void put_family(struct rendering *r, const struct metric_info *info)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_SHARED] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };
    static const char *const units[] = {[UNIT_SECONDS] = "seconds", [UNIT_BYTES] = "bytes"};
    bool open = r->format == METRICS_OPENMETRICS;
    struct str family = family_name(info, r->format);

    put_comment(r->out, "HELP", family);
    put_escaped(r->out, str_of(info->help), open);
    buf_putc(r->out, '\n');
    put_comment(r->out, "TYPE", family);
    buf_puts(r->out, types[info->kind]);
    buf_putc(r->out, '\n');
    if (open && info->unit != UNIT_NONE) {
        put_comment(r->out, "UNIT", family);
        buf_puts(r->out, units[info->unit]);
        buf_putc(r->out, '\n');
    }
}

void metrics_put_text(struct buf *out, enum metrics_format format)
{
    struct rendering r = {.out = out, .format = format};

    metrics_refresh();
    for (int m = 0; m < METRIC_COUNT; m++) {
        if (!metric_is_shown((enum metric)m))
            continue;
        put_family(&r, &metric_table[m]);
        metrics_each((enum metric)m, put_series, &r);
    }
    if (format == METRICS_OPENMETRICS)
        buf_puts(out, "# EOF\n");
    buf_free(&r.labels);
}

/* --- Accept --- */

static struct str trim(struct str s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* The trimmed bytes up to the next separator; moves on behind it. */
static struct str next_word(struct str *rest, char separator)
{
    const char *end = rest->n > 0 ? memchr(rest->p, separator, rest->n) : NULL;
    struct str word = {rest->p, end ? (size_t)(end - rest->p) : rest->n};

    rest->p += word.n + (end != NULL);
    rest->n -= word.n + (end != NULL);
    return trim(word);
}

/* A weight (RFC 9110, 12.4.2) in thousandths; what is none counts as 0. */
static int weight(struct str text)
{
    int q = 0, unit = 1000;

    for (size_t i = 0; i < text.n && unit > 0; i++) {
        if (i == 1 && text.p[i] == '.')
            continue;
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        q += (text.p[i] - '0') * unit;
        unit /= 10;
    }
    return q <= 1000 ? q : 0;
}

/* The weight of a media range by its parameters; 0 for another version than the one named. */
static int range_weight(struct str parameters, const char *version)
{
    int q = 1000;

    while (parameters.n > 0) {
        struct str value = next_word(&parameters, ';');
        struct str key = next_word(&value, '=');

        if (str_is_nocase(key, "q"))
            q = q > 0 ? weight(value) : 0;
        else if (str_is_nocase(key, "version") && !str_is(value, version))
            q = 0;
    }
    return q;
}

enum metrics_format metrics_accepted(const char *accept)
{
    struct str rest = str_of(accept);
    int open = 0, plain = 0;

    while (rest.n > 0) {
        struct str parameters = next_word(&rest, ',');
        struct str type = next_word(&parameters, ';');

        if (str_is_nocase(type, "application/openmetrics-text")) {
            int q = range_weight(parameters, "1.0.0");
            open = q > open ? q : open;
        } else if (str_is_nocase(type, "text/plain")) {
            int q = range_weight(parameters, "0.0.4");
            plain = q > plain ? q : plain;
        }
    }
    return open > 0 && open >= plain ? METRICS_OPENMETRICS : METRICS_PROMETHEUS;
}
