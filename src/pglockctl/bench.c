#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/xalloc.h"
#include "pglockctl/bench_engine.h"
#include "pglockctl/ctl.h"
#include "wire/duration.h"

static struct {
    int64_t clients, threads, keys, leases, writers, server_pid;
    int64_t duration_ms, warmup_ms, hold_ms, ttl_ms;
    const char *prefix;
} o = {
    .clients = 64,
    .threads = 1,
    .keys = 100000,
    .leases = 100000,
    .writers = 1,
    .duration_ms = 10000,
    .warmup_ms = 1000,
    .ttl_ms = 30000,
};

static const struct opt options[] = {
    {.letter = 'c',
     .name = "clients",
     .kind = OPT_NUMBER,
     .into = &o.clients,
     .min = 1,
     .max = 100000,
     .value = "N",
     .help = "connections, one request in flight each (default 64)"},
    {.letter = 'd',
     .name = "duration",
     .kind = OPT_DURATION,
     .into = &o.duration_ms,
     .min = 100,
     .max = 86400000,
     .value = "TIME",
     .help = "how long to measure (default 10s)"},
    {.name = "warmup",
     .kind = OPT_DURATION,
     .into = &o.warmup_ms,
     .max = 3600000,
     .value = "TIME",
     .help = "load before the measurement (default 1s)"},
    {.name = "threads",
     .kind = OPT_NUMBER,
     .into = &o.threads,
     .min = 1,
     .max = 64,
     .value = "N",
     .help = "threads that make the load (default 1)"},
    {.name = "keys",
     .kind = OPT_NUMBER,
     .into = &o.keys,
     .min = 1,
     .max = 100000000,
     .value = "N",
     .help = "resources of uncontended and held (default 100000)"},
    {.name = "hold",
     .kind = OPT_DURATION,
     .into = &o.hold_ms,
     .max = 3600000,
     .value = "TIME",
     .help = "time between grant and release (default 0ms)"},
    {.name = "ttl",
     .kind = OPT_DURATION,
     .into = &o.ttl_ms,
     .min = 1,
     .max = 86400000,
     .value = "TIME",
     .help = "TTL of every lock (default 30s; held: 10m)"},
    {.name = "writers",
     .kind = OPT_NUMBER,
     .into = &o.writers,
     .min = 1,
     .max = 100000,
     .value = "N",
     .help = "clients of readers that lock exclusively (default 1)"},
    {.name = "leases",
     .kind = OPT_NUMBER,
     .into = &o.leases,
     .min = 1,
     .max = 100000000,
     .value = "N",
     .help = "leases that held holds (default 100000)"},
    {.name = "prefix",
     .kind = OPT_STRING,
     .into = &o.prefix,
     .value = "TEXT",
     .help = "what resources begin with (default bench-RANDOM-)"},
    {.name = "server-pid",
     .kind = OPT_NUMBER,
     .into = &o.server_pid,
     .min = 1,
     .max = 4194304,
     .value = "PID",
     .help = "also measure the CPU time of this process and its children"},
};

struct workload {
    const char *name;
    int (*main)(const struct ctl *ctl, struct bench_engine *e, const char *prefix);
};

/* ---- report ---- */

static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
enum { QUANTILES = sizeof(quantiles) / sizeof(quantiles[0]) };

static void put_hist_json(struct json *j, const char *key, const struct hist *h)
{
    json_key(j, key);
    json_begin_object(j);
    for (size_t i = 0; i < QUANTILES; i++)
        json_put_int(j, quantiles[i].name, hist_quantile(h, quantiles[i].q) / 1000);
    json_put_int(j, "max", h->max / 1000);
    json_end_object(j);
}

static void put_real(struct json *j, const char *key, double value, int digits)
{
    char text[64];
    snprintf(text, sizeof(text), "%.*f", digits, value);
    json_key(j, key);
    json_raw(j, str_of(text));
}

static double per_1000(double seconds, const struct bench_result *r)
{
    return r->pairs > 0 ? seconds * 1000 / (double)r->pairs : 0;
}

static void print_json(const char *name, const struct bench_result *r)
{
    struct buf out = {0};
    struct json j = json_to(&out);

    json_begin_object(&j);
    json_put_string(&j, "workload", str_of(name));
    json_put_int(&j, "clients", o.clients);
    json_put_int(&j, "threads", o.threads);
    put_real(&j, "seconds", r->seconds, 3);
    json_put_int(&j, "pairs", (int64_t)r->pairs);
    put_real(&j, "pairs_per_second", (double)r->pairs / r->seconds, 1);
    json_put_int(&j, "reads", (int64_t)r->reads);
    json_put_int(&j, "writes", (int64_t)r->writes);
    put_hist_json(&j, "acquire_us", &r->acquire);
    if (r->renew.count > 0)
        put_hist_json(&j, "renew_us", &r->renew);
    put_hist_json(&j, "release_us", &r->release);
    if (r->write_acquire.count > 0)
        put_hist_json(&j, "write_acquire_us", &r->write_acquire);
    if (r->queued) {
        put_real(&j, "handoffs_per_second", (double)r->handoffs / r->seconds, 1);
        put_real(&j, "jain", r->jain, 4);
    }
    json_put_int(&j, "busy", (int64_t)r->busy);
    json_put_int(&j, "lost", (int64_t)r->lost);
    json_put_int(&j, "errors", (int64_t)r->errors);
    json_put_int(&j, "violations", (int64_t)r->violations);
    json_put_int(&j, "token_regressions", (int64_t)r->regressions);
    put_real(&j, "client_cpu_seconds_per_1000", per_1000(r->client_cpu_seconds, r), 4);
    if (r->server_cpu_seconds >= 0)
        put_real(&j, "server_cpu_seconds_per_1000", per_1000(r->server_cpu_seconds, r), 4);
    json_end_object(&j);
    puts(buf_cstr(&out));
    buf_free(&out);
}

static void print_hist(const char *name, const struct hist *h)
{
    if (h->count == 0)
        return;
    printf("  %-14s", name);
    for (size_t i = 0; i < QUANTILES; i++)
        printf("%s %.3f ms   ", quantiles[i].name, (double)hist_quantile(h, quantiles[i].q) / 1e6);
    printf("max %.3f ms\n", (double)h->max / 1e6);
}

static void print_text(const char *name, const struct bench_result *r)
{
    printf("%s: %" PRId64 " clients, %.1f s\n", name, o.clients, r->seconds);
    printf("  %-14s%.1f/s (%" PRIu64 ")\n", "pairs", (double)r->pairs / r->seconds, r->pairs);
    if (r->reads > 0)
        printf("  %-14s%.1f/s reads, %.1f/s writes\n", "of these", (double)r->reads / r->seconds,
               (double)r->writes / r->seconds);
    print_hist("acquire", &r->acquire);
    print_hist("acquire excl.", &r->write_acquire);
    print_hist("renew", &r->renew);
    print_hist("release", &r->release);
    if (r->queued)
        printf("  %-14s%.1f/s hand-overs, Jain index %.4f\n", "fairness",
               (double)r->handoffs / r->seconds, r->jain);
    printf("  %-14s%" PRIu64 " busy, %" PRIu64 " lost, %" PRIu64 " errors, %" PRIu64
           " violations, %" PRIu64 " token regressions\n",
           "outcomes", r->busy, r->lost, r->errors, r->violations, r->regressions);
    printf("  %-14s%.4f s per 1000 pairs (%.0f %% of one core)\n", "client CPU",
           per_1000(r->client_cpu_seconds, r), 100 * r->client_cpu_seconds / r->seconds);
    if (r->server_cpu_seconds >= 0)
        printf("  %-14s%.4f s per 1000 pairs\n", "server CPU", per_1000(r->server_cpu_seconds, r));
}

static int report(const struct ctl *ctl, const char *name, const struct bench_result *r)
{
    if (ctl->json)
        print_json(name, r);
    else
        print_text(name, r);
    if (r->violations > 0 || r->regressions > 0 || r->lost > 0) {
        ctl_error("%s: locks overlapped, went backwards or were lost", name);
        return CTL_LOST;
    }
    if (r->errors > 0) {
        ctl_error("%s: %s", name, r->first_error);
        return CTL_UNREACHABLE;
    }
    return CTL_OK;
}

/* ---- workloads ---- */

static struct bench_phase pairs_phase(const char *prefix)
{
    return (struct bench_phase){
        .step = BENCH_PAIRS,
        .prefix = prefix,
        .keys = o.keys,
        .ttl_ms = o.ttl_ms,
        .hold_ms = o.hold_ms,
        .warmup_ms = o.warmup_ms,
        .duration_ms = o.duration_ms,
        .server_pid = (int)o.server_pid,
    };
}

static int run_and_report(const struct ctl *ctl, struct bench_engine *e, const char *name,
                          const struct bench_phase *phase)
{
    struct bench_result *r = xcalloc(1, sizeof(*r));
    bench_run(e, phase, r);
    int status = report(ctl, name, r);
    free(r);
    return status;
}

static int uncontended(const struct ctl *ctl, struct bench_engine *e, const char *prefix)
{
    struct bench_phase phase = pairs_phase(prefix);
    return run_and_report(ctl, e, "uncontended", &phase);
}

static int contended(const struct ctl *ctl, struct bench_engine *e, const char *prefix)
{
    struct bench_phase phase = pairs_phase(prefix);
    phase.keys = 1;
    phase.wait = true;
    return run_and_report(ctl, e, "contended", &phase);
}

static int readers(const struct ctl *ctl, struct bench_engine *e, const char *prefix)
{
    struct bench_phase phase = pairs_phase(prefix);
    if (o.writers >= o.clients)
        return ctl_usage_error("readers needs more clients than writers");
    phase.keys = 1;
    phase.wait = true;
    phase.readers = (int)(o.clients - o.writers);
    return run_and_report(ctl, e, "readers", &phase);
}

/* Pairs with nothing held, then with the leases held, and their renewal: the ratios are what
 * matters. */
static int held(const struct ctl *ctl, struct bench_engine *e, const char *prefix)
{
    struct buf others = {0};
    struct bench_phase pairs = pairs_phase(prefix);
    int status = run_and_report(ctl, e, "held: none yet", &pairs), worse;

    buf_printf(&others, "%sheld-", prefix);
    struct bench_phase fill = {
        .step = BENCH_FILL,
        .prefix = buf_cstr(&others),
        .keys = o.leases,
        .ttl_ms = o.ttl_ms > 30000 ? o.ttl_ms : 600000,
        .server_pid = (int)o.server_pid,
    };
    if (status == CTL_OK)
        status = run_and_report(ctl, e, "held: taking the leases", &fill);
    if (status == CTL_OK)
        status = run_and_report(ctl, e, "held: pairs beside them", &pairs);
    fill.step = BENCH_RENEW;
    if (status == CTL_OK)
        status = run_and_report(ctl, e, "held: renewing the leases", &fill);
    fill.step = BENCH_DRAIN;
    worse = run_and_report(ctl, e, "held: releasing the leases", &fill);
    buf_free(&others);
    return status ? status : worse;
}

static const struct workload workloads[] = {
    {"uncontended", uncontended},
    {"contended", contended},
    {"readers", readers},
    {"held", held},
};

static const struct workload *find_workload(const char *name)
{
    for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

static int bench_main(struct ctl *ctl, const struct opt_words *words)
{
    struct buf prefix = {0}, err = {0};
    const struct workload *w = words->nwords == 1 ? find_workload(words->words[0]) : NULL;

    if (!w || words->dashes)
        return ctl_usage_error("bench takes one of uncontended, contended, readers and held");
    struct bench_engine *e =
        bench_open(ctl->connect && *ctl->connect ? ctl->connect : "127.0.0.1:7432", ctl_key(ctl),
                   (int)o.clients, (int)o.threads, &err);
    if (!e) {
        ctl_error("%s", buf_cstr(&err));
        buf_free(&err);
        return CTL_UNREACHABLE;
    }
    if (o.prefix)
        buf_puts(&prefix, o.prefix);
    else
        buf_printf(&prefix, "bench-%lx%x-", (unsigned long)time(NULL), (unsigned)getpid());
    int status = w->main(ctl, e, buf_cstr(&prefix));
    bench_close(e);
    buf_free(&prefix);
    buf_free(&err);
    return status;
}

const struct command command_bench = {
    .name = "bench",
    .synopsis = "uncontended|contended|readers|held",
    .summary = "Measure throughput and latency of a daemon",
    .details = "\n  uncontended  lock and release random resources\n"
               "  contended    all clients wait for one resource\n"
               "  readers      shared locks of one resource, and writers that wait for it\n"
               "  held         uncontended before and while many other leases are held, and\n"
               "               each of them renewed\n"
               "\nClients are spread over the addresses. Grants are checked while they are held:\n"
               "one that overlaps another, or a token that does not grow, is a violation.\n",
    .options = options,
    .noptions = sizeof(options) / sizeof(options[0]),
    .main = bench_main,
};
