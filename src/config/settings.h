#ifndef PGLOCKD_CONFIG_SETTINGS_H
#define PGLOCKD_CONFIG_SETTINGS_H

/*
 * The settings of the daemon: one table, from which the struct, the parsers, --help, --show-config
 * and the manual page derive. A value comes from the strongest source that names it:
 *     default < configuration file < environment (PGLOCKD_NAME) < command line (--name value)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct setting_list {
    char **items;
    size_t n;
};

/* Values of auth, and of what is no or yes. */
enum { SETTINGS_AUTH_OFF, SETTINGS_AUTH_ON };
enum { SETTINGS_NO, SETTINGS_YES };

/* Values of tls_client_cert and of tls_name_from. */
enum { SETTINGS_TLS_CLIENT_OPTIONAL, SETTINGS_TLS_CLIENT_REQUIRED };
enum {
    SETTINGS_TLS_NAME_CN,
    SETTINGS_TLS_NAME_DNS,
    SETTINGS_TLS_NAME_EMAIL,
    SETTINGS_TLS_NAME_URI
};

/* Values of socket_mode. */
enum { SETTINGS_SOCKET_AUTO, SETTINGS_SOCKET_OWNER, SETTINGS_SOCKET_GROUP, SETTINGS_SOCKET_ALL };

/* Values of migrate. */
enum { SETTINGS_MIGRATE_AUTO, SETTINGS_MIGRATE_CHECK, SETTINGS_MIGRATE_OFF };
/* Values of history. */
enum { SETTINGS_HISTORY_OFF, SETTINGS_HISTORY_CONTENDED, SETTINGS_HISTORY_ALL };

/* The C type of each kind of setting. */
typedef char *setting_STRING;                 /* NULL: not set */
typedef char *setting_CONNINFO;               /* the same; may hold a password */
typedef char *setting_HTTP;                   /* [tls://]HOST:PORT; NULL: off */
typedef struct setting_list setting_LISTEN;   /* [tls://]HOST:PORT or unix:PATH */
typedef struct setting_list setting_NAMES;    /* host names */
typedef struct setting_list setting_PREFIXES; /* wire/prefix.h */
typedef struct setting_list setting_PEERS;    /* USER:NAME */
typedef int64_t setting_DURATION;             /* milliseconds */
typedef size_t setting_SIZE;
typedef int setting_CHOICE; /* which word of the row's value column */

#define SETTINGS_SECOND INT64_C(1000)
#define SETTINGS_HOUR (3600 * SETTINGS_SECOND)

/*
 * X(field, name, kind, default, min, max, reloadable, value, help)
 * min and max bound a duration (ms), a size, the bytes of a string, or the items of a list. The
 * default is text as a user would write it; NULL: none, or the help says what it depends on.
 */
#define SETTINGS_TABLE(X)                                                                          \
    X(config, "config", STRING, "/etc/pglockd/pglockd.ini", 1, 4095, false, "PATH",                \
      "The configuration file. Only the default may be missing. Not for use in the file itself.")  \
    X(listen, "listen", LISTEN, "127.0.0.1:7432", 1, 64, false, "[tls://]HOST:PORT|unix:PATH",     \
      "Where the line protocol is served; a list. Port 0 takes any free port; behind tls:// it "   \
      "speaks TLS. Off loopback it takes auth and TLS, or auth and plaintext_auth, or "            \
      "auth_off_on_network.")                                                                      \
    X(socket_mode, "socket_mode", CHOICE, "auto", 0, 0, false, "auto|0600|0660|0666",              \
      "Who may connect to Unix sockets: the user that pglockd runs as, its group too, or every "   \
      "user of the machine. auto: 0666 where auth is on, else 0600.")                              \
    X(user, "user", STRING, NULL, 1, 255, false, "NAME",                                           \
      "The user that pglockd becomes, for good, when root starts it; before it opens a port or "   \
      "runs PostgreSQL, behind tls_key. It must be able to read all other files that are named "   \
      "here, and on SIGHUP tls_key, too.")                                                         \
    X(core_dumps, "core_dumps", CHOICE, "no", 0, 0, false, "no|yes",                               \
      "Whether a crash may leave a core file, which holds private keys and connection strings.")   \
    X(http, "http", HTTP, "127.0.0.1:7433", 1, 4095, false, "[tls://]HOST:PORT|off",               \
      "Where metrics, health and the status page are served, with tls:// as HTTPS. Off loopback "  \
      "it takes what listen takes.")                                                               \
    X(http_hosts, "http_hosts", NAMES, "", 0, 64, true, "NAME",                                    \
      "Host names that HTTP requests may use beside localhost and IP addresses; a list.")          \
    X(tls_cert, "tls_cert", STRING, NULL, 1, 4095, true, "PATH",                                   \
      "The certificate of tls:// addresses and those above it up to the CA's, as PEM. It and the " \
      "other TLS files are read at start and on SIGHUP.")                                          \
    X(tls_key, "tls_key", STRING, NULL, 1, 4095, true, "PATH",                                     \
      "The private key of tls_cert, as PEM. The file must not be open to every user.")             \
    X(tls_client_ca, "tls_client_ca", STRING, NULL, 1, 4095, true, "PATH",                         \
      "Certificates of the CAs, as PEM, whose certificates clients of the line protocol may "      \
      "show. "                                                                                     \
      "Clients that show others are turned away.")                                                 \
    X(tls_client_cert, "tls_client_cert", CHOICE, "optional", 0, 0, true, "optional|required",     \
      "Whether clients on tls:// addresses of the line protocol must show a certificate, where "   \
      "tls_client_ca is set.")                                                                     \
    X(tls_name_from, "tls_name_from", CHOICE, "cn", 0, 0, true, "cn|dns|email|uri",                \
      "What of a client's certificate is its name: the common name, or the first alternative "     \
      "name "                                                                                      \
      "of that kind.")                                                                             \
    X(auth, "auth", CHOICE, "off", 0, 0, false, "off|on",                                          \
      "on: clients show who they are, by a key or as a user of this machine, and may do what "     \
      "their name has rights to. off: everybody who can connect may do everything but FORCE, "     \
      "which then works over Unix sockets only.")                                                  \
    X(auth_off_on_network, "auth_off_on_network", CHOICE, "no", 0, 0, false, "no|yes",             \
      "yes: addresses off loopback are served although auth is off, to everybody who gets there.") \
    X(plaintext_auth, "plaintext_auth", CHOICE, "no", 0, 0, false, "no|yes",                       \
      "yes: addresses off loopback are served without TLS although auth is on. Whoever reads the " \
      "network then reads the keys.")                                                              \
    X(peer_names, "peer_names", PEERS, "", 0, 1024, true, "USER:NAME",                             \
      "Which users of this machine are which names when they connect over a Unix socket, where "   \
      "auth is on; a list. USER is a login name or a number.")                                     \
    X(dsn, "dsn", CONNINFO, NULL, 1, 65535, false, "CONNINFO",                                     \
      "The PostgreSQL server to use, as a connection string or URI. One of dsn, dsn_file and "     \
      "embedded is needed. A password is refused on the command line.")                            \
    X(dsn_file, "dsn_file", STRING, NULL, 1, 4095, false, "PATH",                                  \
      "A file whose first line is the connection string, read at every start.")                    \
    X(embedded, "embedded", STRING, NULL, 1, 4095, false, "DIR",                                   \
      "Make (once) and run a private PostgreSQL cluster in this directory.")                       \
    X(pg_bindir, "pg_bindir", STRING, NULL, 1, 4095, false, "DIR",                                 \
      "Where initdb and postgres are, for embedded. Default: found.")                              \
    X(migrate, "migrate", CHOICE, NULL, 0, 0, false, "auto|check|off",                             \
      "auto brings the schema up to date at start, check refuses to start on a schema that this "  \
      "program cannot use, off does not look. Default: auto with embedded, else check.")           \
    X(ttl_ms, "ttl", DURATION, "30s", 1, 24 * SETTINGS_HOUR, true, "DURATION",                     \
      "How long a lease lives without renewal where the request names no TTL.")                    \
    X(ttl_min_ms, "ttl_min", DURATION, "100ms", 1, 24 * SETTINGS_HOUR, true, "DURATION",           \
      "The shortest TTL that a request may name.")                                                 \
    X(ttl_max_ms, "ttl_max", DURATION, "10m", 1, 24 * SETTINGS_HOUR, true, "DURATION",             \
      "The longest TTL that a request may name. After a failover that may have lost commits "      \
      "nothing is granted for the longest that was named.")                                        \
    X(request_timeout_ms, "request_timeout", DURATION, "2s", 100, SETTINGS_HOUR, true, "DURATION", \
      "How long a request may wait for PostgreSQL before it is answered with an error.")           \
    X(drain_timeout_ms, "drain_timeout", DURATION, "30s", 0, SETTINGS_HOUR, true, "DURATION",      \
      "How long a stop may take to finish what is in flight.")                                     \
    X(grace, "grace", PREFIXES, "", 0, 64, true, "PREFIX=DURATION",                                \
      "How long a resource stays closed after a lease of it has expired, where LOCK says no "      \
      "grace=: a list; the longest prefix that covers the resource counts.")                       \
    X(set_max, "set_max", SIZE, "64", 1, 128, true, "NUMBER", "Resources that one LOCK may name.") \
    X(requeue_grace_ms, "requeue_grace", DURATION, "30s", 0, SETTINGS_HOUR, true, "DURATION",      \
      "How long a waiter with an id keeps its place in the queue after its connection is lost.")   \
    X(line_max, "line_max", SIZE, "65536", 1024, 1048576, false, "BYTES",                          \
      "The longest request line, without its line end.")                                           \
    X(max_connections, "max_connections", SIZE, "20000", 1, 1000000, true, "NUMBER",               \
      "Client connections at a time, within the hard limit of open files.")                        \
    X(max_connections_per_address, "max_connections_per_address", SIZE, "0", 0, 1000000, true,     \
      "NUMBER",                                                                                    \
      "Client connections at a time from one IPv4 address or IPv6 network of 64 bits. 0: as many " \
      "as max_connections.")                                                                       \
    X(auth_timeout_ms, "auth_timeout", DURATION, "10s", 100, SETTINGS_HOUR, true, "DURATION",      \
      "How long a client may take for the TLS handshake and, where auth is on, until it has "      \
      "shown who "                                                                                 \
      "it is.")                                                                                    \
    X(idle_timeout_ms, "idle_timeout", DURATION, "0s", 0, 24 * SETTINGS_HOUR, true, "DURATION",    \
      "A client that has sent nothing for so long and waits for nothing is disconnected. 0s: "     \
      "not.")                                                                                      \
    X(max_request_rate, "max_request_rate", SIZE, "0", 0, 1000000, true, "NUMBER",                 \
      "Requests a second of one connection; a second's worth may come at once. 0: any number.")    \
    X(max_request_rate_per_name, "max_request_rate_per_name", SIZE, "0", 0, 1000000, true,         \
      "NUMBER",                                                                                    \
      "Requests a second of all connections of this daemon with one name; those without a name "   \
      "count as one. 0: any number.")                                                              \
    X(max_inflight, "max_inflight", SIZE, "1024", 1, 65536, true, "NUMBER",                        \
      "Requests in flight on one connection; past it reading pauses.")                             \
    X(max_input, "max_input", SIZE, "262144", 1024, 67108864, true, "BYTES",                       \
      "Input queued on one connection; past it reading pauses. At least line_max.")                \
    X(max_output, "max_output", SIZE, "1048576", 65536, 1073741824, true, "BYTES",                 \
      "Replies that a client may leave unread before it is disconnected.")                         \
    X(max_waiters, "max_waiters", SIZE, "100000", 1, 10000000, true, "NUMBER",                     \
      "Requests that may wait for a lock in this daemon.")                                         \
    X(max_waiters_per_resource, "max_waiters_per_resource", SIZE, "0", 0, 10000000, true,          \
      "NUMBER", "Requests that may wait for one resource in this daemon. 0: any number.")          \
    X(max_waiters_per_owner, "max_waiters_per_owner", SIZE, "0", 0, 10000000, true, "NUMBER",      \
      "Requests of one owner that may wait for a lock in this daemon. 0: any number.")             \
    X(max_leases_per_owner, "max_leases_per_owner", SIZE, "0", 0, 1000000, true, "NUMBER",         \
      "Resources that one owner may hold and wait for, over all daemons that have this limit. 0: " \
      "any number.")                                                                               \
    X(max_sessions_per_owner, "max_sessions_per_owner", SIZE, "0", 0, 1000000, true, "NUMBER",     \
      "Sessions that one owner may have open, over all daemons. 0: any number.")                   \
    X(list_max, "list_max", SIZE, "1000", 1, 1000, true, "NUMBER",                                 \
      "Leases that one LIST may ask for.")                                                         \
    X(rate_keys_max, "rate_keys_max", SIZE, "100000", 1, 10000000, true, "NUMBER",                 \
      "Keys of rate limits that this daemon remembers; a forgotten one costs a question to "       \
      "PostgreSQL.")                                                                               \
    X(rate_idle_ms, "rate_idle", DURATION, "10m", 1, 366 * 24 * SETTINGS_HOUR, true, "DURATION",   \
      "How long after a counter of a rate limit is full again its row is kept.")                   \
    X(history, "history", CHOICE, "contended", 0, 0, false, "off|contended|all",                   \
      "Which leases are kept in pglockd.history when they end: those that had waited, that "       \
      "somebody waited for, or that ended against their holder's will; or all, with a proof that " \
      "none overlapped. For SQL callers: alter database … set pglockd.history.")                   \
    X(history_retention_ms, "history_retention", DURATION, "7d", SETTINGS_HOUR,                    \
      3650 * 24 * SETTINGS_HOUR, true, "DURATION",                                                 \
      "How long leases are kept in pglockd.history, in whole days; the daemon that is the "        \
      "janitor drops older ones.")                                                                 \
    X(watch_keep_ms, "watch_keep", DURATION, "5m", 60 * SETTINGS_SECOND, 24 * SETTINGS_HOUR, true, \
      "DURATION",                                                                                  \
      "How long after an event a WATCH can still resume from it, and after the last of its "       \
      "connections is gone a prefix is watched.")                                                  \
    X(max_watches, "max_watches", SIZE, "1000", 1, 100000, true, "NUMBER",                         \
      "Prefixes that may be watched through this daemon, those watched twice counted twice.")      \
    X(lanes, "lanes", SIZE, "1", 1, 8, false, "NUMBER",                                            \
      "Connections to PostgreSQL that decide about locks, parted by first path segment.")          \
    X(batch_max, "batch_max", SIZE, "512", 1, 4096, false, "NUMBER",                               \
      "Requests that one call to PostgreSQL may carry.")                                           \
    X(slow_request_ms, "slow_request", DURATION, "1s", 0, SETTINGS_HOUR, true, "DURATION",         \
      "Requests that took this long are logged; time in a queue does not count. 0s: none.")        \
    X(metrics_flush_ms, "metrics_flush", DURATION, "10s", 0, SETTINGS_HOUR, true, "DURATION",      \
      "How often the daemon writes its metrics into the database. 0s: not at all.")                \
    X(metrics_retention_ms, "metrics_retention", DURATION, "7d", SETTINGS_HOUR,                    \
      366 * 24 * SETTINGS_HOUR, true, "DURATION",                                                  \
      "How long metrics are kept in the database, in whole days; the daemon that is the janitor "  \
      "drops older ones.")                                                                         \
    X(metrics_buffer, "metrics_buffer", SIZE, "60", 2, 1000, true, "NUMBER",                       \
      "Samples of the metrics that are kept while PostgreSQL is away. Past it every second one "   \
      "is "                                                                                        \
      "dropped.")                                                                                  \
    X(log_level, "log_level", CHOICE, "info", 0, 0, true, "error|warn|info|debug",                 \
      "The least important messages that are logged.")

struct settings {
#define SETTINGS_FIELD(field, name, kind, def, min, max, reloadable, value, help)                  \
    setting_##kind field;
    SETTINGS_TABLE(SETTINGS_FIELD)
#undef SETTINGS_FIELD
    struct settings_origin *origin; /* where each value came from; private */
};

enum setting_kind {
    SETTING_STRING,
    SETTING_CONNINFO,
    SETTING_HTTP,
    SETTING_LISTEN,
    SETTING_NAMES,
    SETTING_PREFIXES,
    SETTING_PEERS,
    SETTING_DURATION,
    SETTING_SIZE,
    SETTING_CHOICE,
};

/* A row of the table, for those who print it. */
struct setting {
    const char *name;
    enum setting_kind kind;
    const char *default_text; /* may be NULL */
    int64_t min;
    int64_t max;
    bool reloadable;
    const char *value;
    const char *help;
    size_t offset; /* of the field in struct settings */
};

enum {
#define SETTINGS_INDEX(field, ...) SETTING_INDEX_##field,
    SETTINGS_TABLE(SETTINGS_INDEX)
#undef SETTINGS_INDEX
        SETTINGS_COUNT
};
extern const struct setting settings_table[SETTINGS_COUNT];

enum settings_result {
    SETTINGS_RUN,        /* *s is filled in */
    SETTINGS_EXIT_OK,    /* --help, --version, --check-config or --show-config said it on stdout */
    SETTINGS_BAD_CONFIG, /* err has one sentence; the exit status is 78 */
};

/*
 * Reads all sources. argv must live as long as *s, for settings_reload(). In every case
 * settings_free() may and should be called; *s need not be initialised before.
 */
enum settings_result settings_load(struct settings *s, int argc, char **argv, struct buf *err);

/*
 * Reads all sources again and takes over the reloadable settings. False: something is wrong, err
 * has one sentence, and nothing changed. True: done, and err may name settings that changed in the
 * file but need a restart. Strings and lists of reloadable settings are replaced, so that pointers
 * to the old ones dangle; those of other settings stay where they are.
 */
bool settings_reload(struct settings *s, struct buf *err);

/* An address off loopback that is to be served without auth or without TLS; NULL: there is none. */
const char *settings_exposed(const struct settings *s);

/* Does an address ask for TLS? */
bool settings_want_tls(const struct settings *s);

void settings_free(struct settings *s);

/*
 * Appends the connection string: dsn, or the first line of dsn_file without its line end. False and
 * one sentence in err when it cannot be had (also with embedded, which has none). It may hold a
 * password: never log it.
 */
bool settings_read_dsn(const struct settings *s, struct buf *out, struct buf *err);

/* Appends "from MIN to MAX" in the row's own unit (see SETTINGS_TABLE). */
void settings_put_range(const struct setting *row, struct buf *out);

/* What --help and --show-config print. Secrets are shown as "***". */
void settings_put_help(struct buf *out);
void settings_put_values(const struct settings *s, struct buf *out);

#endif
