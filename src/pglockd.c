/*
 * The daemon: start and stop order, nothing else.
 *
 *   settings ▶ PostgreSQL (embedded or not) ▶ schema ▶ HTTP ▶ service ▶ lines ▶ "ready"
 *   SIGTERM: no new connections ▶ waits end ▶ what is in flight is finished ▶ service ▶ PostgreSQL
 */

#include "config.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/metrics_process.h"
#include "base/process.h"
#include "config/settings.h"
#include "pg/connect.h"
#include "pg/embedded.h"
#include "pg/migrate.h"
#include "pg/sqlstate.h"
#include "server/http.h"
#include "server/loop_lag.h"
#include "server/notify.h"
#include "server/overview.h"
#include "server/server.h"
#include "server/status_page.h"
#include "server/tls.h"
#include "service/service.h"
#include "wire/address.h"

enum {
    EXIT_UNAVAILABLE = 69,         /* EX_UNAVAILABLE of sysexits.h: PostgreSQL, or an address */
    EXIT_CONFIG = 78,              /* EX_CONFIG */
    SPARE_FDS = 64 + HTTP_FDS_MAX, /* descriptors that are not for clients */
    DRAIN_LOOK_MS = 20,
    PRUNE_LOGS_S = 60,
};

static struct daemon {
    struct ev_loop *loop;
    struct settings settings;
    struct buf conninfo;
    struct buf name;
    struct embedded *embedded;
    struct service *service;
    struct server *server;
    struct overview *overview;
    struct http *http;
    struct tls *tls;
    size_t connections_max;
    char socket_path[ADDRESS_PATH_MAX + 32]; /* of an embedded daemon */
    ev_signal on_term, on_int, on_hup;
    ev_child postgres;
    ev_timer respawn, prune, drain_look, drain_end;
    bool stopping;
    bool retiring;
    int status;
} d;

/* --- PostgreSQL --- */

static void watch_postgres(void);

static void on_respawn(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)w, (void)revents;
    if (embedded_respawn(d.embedded))
        watch_postgres();
    else
        ev_timer_start(d.loop, &d.respawn);
}

static void on_postgres_exit(struct ev_loop *loop, ev_child *w, int revents)
{
    (void)revents;
    ev_child_stop(loop, w);
    if (d.stopping && d.retiring)
        return;
    int delay_ms = embedded_exited(d.embedded, w->rstatus);
    ev_timer_set(&d.respawn, delay_ms / 1000.0, 0.);
    ev_timer_start(loop, &d.respawn);
}

static void watch_postgres(void)
{
    ev_child_init(&d.postgres, on_postgres_exit, embedded_pid(d.embedded), 0);
    ev_child_start(d.loop, &d.postgres);
}

static void on_prune(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop, (void)w, (void)revents;
    embedded_prune_logs(d.embedded);
}

/* Exit status, 0 when the database is there and its schema fits. */
static int prepare_schema(struct buf *err)
{
    int wanted = d.settings.migrate;
    struct pg_conn *conn = pg_connect_blocking(buf_cstr(&d.conninfo), err);
    if (conn == NULL)
        return EXIT_UNAVAILABLE;
    int status = 0;
    if (wanted == SETTINGS_MIGRATE_AUTO && !migrate_up(conn, err))
        status = EXIT_CONFIG;
    if (status == 0 && wanted != SETTINGS_MIGRATE_OFF && migrate_check(conn, err) != MIGRATE_OK)
        status = EXIT_CONFIG;
    pg_close(conn);
    if (status == 0 && err->len > 0) {
        log_warn("schema", "message=%s", log_quote(buf_str(err)));
        buf_clear(err);
    }
    return status;
}

static int start_postgres(struct buf *err)
{
    if (d.settings.embedded == NULL)
        return settings_read_dsn(&d.settings, &d.conninfo, err) &&
                       pg_conninfo_is_valid(buf_cstr(&d.conninfo), err)
                   ? 0
                   : EXIT_CONFIG;
    if (!embedded_start(d.settings.embedded, d.settings.pg_bindir, &d.embedded, &d.conninfo, err))
        return EXIT_CONFIG;
    snprintf(d.socket_path, sizeof(d.socket_path), "%s/pglockd.sock", embedded_dir(d.embedded));
    ev_init(&d.respawn, on_respawn);
    ev_timer_init(&d.prune, on_prune, PRUNE_LOGS_S, PRUNE_LOGS_S);
    ev_timer_start(d.loop, &d.prune);
    watch_postgres();
    return 0;
}

static void stop_postgres(void)
{
    if (d.embedded == NULL)
        return;
    ev_child_stop(d.loop, &d.postgres);
    ev_timer_stop(d.loop, &d.respawn);
    embedded_stop(d.embedded);
}

/* --- HTTP --- */

static struct http_ready on_ready_asked(void *arg)
{
    struct http_ready state = {.reason = "the daemon is starting"};
    (void)arg;
    if (d.service == NULL || d.server == NULL)
        return state;
    state.ready = service_can_renew(d.service, &state.reason);
    state.granting = state.ready && service_grants(d.service, &state.reason);
    return state;
}

static enum http_access on_authorize(void *arg, struct str header, const char *address,
                                     struct identity **who)
{
    (void)arg;
    return d.server ? server_authorize_http(d.server, header, address, who) : HTTP_UNCONFIRMED;
}

static void on_status_asked(void *arg, struct str prefix, struct identity *who,
                            struct http_later *later)
{
    (void)arg;
    status_page_answer(d.overview, prefix, who, later);
}

static bool start_http(struct buf *err)
{
    struct address a;
    if (d.settings.http == NULL)
        return true;
    const char *wrong = address_parse(str_of(d.settings.http), &a);
    if (wrong) {
        buf_printf(err, "http %s: %s", d.settings.http, wrong);
        return false;
    }
    struct http_options options = {
        .host = a.host,
        .port = a.port,
        .tls = a.tls,
        .hosts = d.settings.http_hosts.items,
        .nhosts = d.settings.http_hosts.n,
        .ready = on_ready_asked,
        .authorize = d.settings.auth ? on_authorize : NULL,
        .status = on_status_asked,
    };
    d.http = http_start(d.loop, &options, err);
    return d.http != NULL;
}

/* --- serving --- */

static void on_service_ready(void *arg)
{
    struct buf err = {0};
    struct server_options options = {
        .loop = d.loop,
        .settings = &d.settings,
        .service = d.service,
        .overview = d.overview,
        .version = PACKAGE_VERSION,
        .tls = d.tls,
        .connections_max = d.connections_max,
    };
    (void)arg;
    d.server = server_create(&options, d.embedded ? d.socket_path : NULL, &err);
    if (d.server == NULL) {
        fprintf(stderr, "pglockd: %s\n", buf_cstr(&err));
        buf_free(&err);
        d.status = EXIT_UNAVAILABLE;
        ev_break(d.loop, EVBREAK_ALL);
        return;
    }
    printf("ready line=%s http=%s\n", server_address(d.server),
           d.http ? http_address(d.http) : "off");
    fflush(stdout);
    log_info("ready", "line=%s http=%s instance=%d", server_address(d.server),
             d.http ? http_address(d.http) : "off", (int)service_instance(d.service));
    notify_ready(d.loop, server_address(d.server));
}

/* As many descriptors as the hard limit allows; what is left of them is for clients. */
static size_t raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1000;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > 2 * SPARE_FDS ? (size_t)limit.rlim_cur - SPARE_FDS : SPARE_FDS;
}

static void start_service(void)
{
    char host[64];
    gethostname(host, sizeof(host));
    host[sizeof(host) - 1] = '\0';
    buf_printf(&d.name, "%s/%d", host, (int)getpid());
    struct service_options options = {
        .loop = d.loop,
        .settings = &d.settings,
        .conninfo = buf_cstr(&d.conninfo),
        .name = buf_cstr(&d.name),
        .version = PACKAGE_VERSION,
        .ready = on_service_ready,
    };
    d.service = service_create(&options);
    d.overview = overview_create(d.loop, d.service, &d.settings, PACKAGE_VERSION);
}

/* --- signals --- */

static void on_retired(void *arg)
{
    (void)arg;
    ev_break(d.loop, EVBREAK_ALL);
}

static void on_drain_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    if (server_connections(d.server) > 0 || !service_is_idle(d.service))
        return;
    ev_timer_stop(loop, w);
    d.retiring = true;
    service_retire(d.service, on_retired, NULL);
}

static void on_drain_end(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)w, (void)revents;
    log_warn("drain_timeout", "connections=%zu", server_connections(d.server));
    ev_break(loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)revents;
    if (d.stopping || d.server == NULL) {
        log_info("stop_now", "signal=%d", w->signum);
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    log_info("stop", "signal=%d connections=%zu", w->signum, server_connections(d.server));
    d.stopping = true;
    notify_stopping(d.settings.drain_timeout_ms);
    service_drain(d.service);
    server_drain(d.server);
    ev_timer_init(&d.drain_look, on_drain_look, 0., DRAIN_LOOK_MS / 1000.0);
    ev_timer_start(loop, &d.drain_look);
    ev_timer_init(&d.drain_end, on_drain_end, (double)d.settings.drain_timeout_ms / 1000.0, 0.);
    ev_timer_start(loop, &d.drain_end);
}

/* What was in force stays so where the new files are no good. */
static void reload_certificates(void)
{
    struct buf err = {0};
    if (d.tls && !tls_reload(d.tls, &d.settings, &err))
        log_error("certificate_reload_failed", "message=%s", log_quote(buf_str(&err)));
    buf_free(&err);
}

static void on_reload(struct ev_loop *loop, ev_signal *w, int revents)
{
    struct buf note = {0};
    (void)loop, (void)w, (void)revents;
    notify_reloading();
    if (!settings_reload(&d.settings, &note)) {
        log_error("reload_failed", "message=%s", log_quote(buf_str(&note)));
    } else {
        log_set_level((enum log_level)d.settings.log_level);
        if (d.http)
            http_set_hosts(d.http, d.settings.http_hosts.items, d.settings.http_hosts.n);
        if (d.server)
            server_reload(d.server);
        reload_certificates();
        log_info("reloaded", "note=%s", log_quote(buf_str(&note)));
    }
    notify_reloaded();
    buf_free(&note);
}

static void watch_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    ev_signal_init(&d.on_term, on_stop, SIGTERM);
    ev_signal_init(&d.on_int, on_stop, SIGINT);
    ev_signal_init(&d.on_hup, on_reload, SIGHUP);
    ev_signal_start(d.loop, &d.on_term);
    ev_signal_start(d.loop, &d.on_int);
    ev_signal_start(d.loop, &d.on_hup);
}

static bool open_tls(struct buf *err)
{
    if (!settings_want_tls(&d.settings))
        return true;
    d.tls = tls_open(&d.settings, err);
    return d.tls != NULL;
}

static bool drop_privileges(struct buf *err)
{
    const char *user = d.settings.user;
    if (user == NULL && geteuid() == 0)
        log_warn("runs_as_root", "note=\"name another user with the setting user\"");
    bool ok =
        user == NULL ||
        ((d.settings.embedded == NULL || process_give_directory(d.settings.embedded, user, err)) &&
         process_become(user, err));
    process_harden(d.settings.core_dumps == SETTINGS_YES);
    return ok;
}

static int start(struct buf *err)
{
    int status = open_tls(err) && drop_privileges(err) ? start_postgres(err) : EXIT_CONFIG;
    if (status == 0)
        status = prepare_schema(err);
    if (status == 0 && !start_http(err))
        status = EXIT_UNAVAILABLE;
    if (status == 0)
        start_service();
    return status;
}

/* The operator has asked for it by name, and is told all the same. */
static void warn_of_exposure(void)
{
    const char *address = settings_exposed(&d.settings);
    if (address && !d.settings.auth)
        log_warn("auth_off_on_network",
                 "address=%s note=\"everybody who can connect may do everything but FORCE\"",
                 log_quote(str_of(address)));
    else if (address)
        log_warn("plaintext_auth", "address=%s note=\"who reads the network reads the keys\"",
                 log_quote(str_of(address)));
}

int main(int argc, char **argv)
{
    struct buf err = {0};
    notify_init();
    metrics_process_start(PACKAGE_VERSION);
    switch (settings_load(&d.settings, argc, argv, &err)) {
    case SETTINGS_EXIT_OK:
        settings_free(&d.settings);
        return 0;
    case SETTINGS_BAD_CONFIG:
        fprintf(stderr, "pglockd: %s\n", buf_cstr(&err));
        settings_free(&d.settings);
        buf_free(&err);
        return EXIT_CONFIG;
    case SETTINGS_RUN:
        break;
    }
    log_set_level((enum log_level)d.settings.log_level);
    warn_of_exposure();
    sqlstate_register();
    service_register_metrics();
    server_register_metrics();
    d.connections_max = raise_file_limit();
    d.loop = ev_default_loop(EVFLAG_AUTO);
    watch_signals();
    loop_lag_start(d.loop);
    d.status = start(&err);
    if (d.status == 0)
        ev_run(d.loop, 0);
    else
        fprintf(stderr, "pglockd: %s\n", buf_cstr(&err));
    notify_end(d.loop);
    server_destroy(d.server);
    service_destroy(d.service);
    overview_destroy(d.overview);
    http_stop(d.http);
    tls_close(d.tls);
    stop_postgres();
    log_info("stopped", "status=%d", d.status);
    settings_free(&d.settings);
    buf_free(&d.conninfo);
    buf_free(&d.name);
    buf_free(&err);
    return d.status;
}
