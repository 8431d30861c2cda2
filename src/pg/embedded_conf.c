#include "pg/embedded_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/*
 * What a lock service asks of PostgreSQL: small durable transactions from few connections, tables
 * with few rows that change all the time.
 */
static const struct {
    const char *name, *value, *why;
} settings[] = {
    {"max_connections", "50", "the daemon has about ten; the rest is for people"},
    {"max_locks_per_transaction", "256", "a batch takes an advisory lock for each guard"},
    {"fsync", "on", "a lease that was granted is durable"},
    {"synchronous_commit", "on", "as above"},
    {"wal_level", "replica", "so that pg_basebackup and standbys work"},
    {"wal_buffers", "16MB", "a batch is written at once"},
    {"min_wal_size", "256MB", "files are used again rather than made anew"},
    {"max_wal_size", "2GB", "checkpoints come by time, not by volume"},
    {"checkpoint_timeout", "15min", "each checkpoint makes the next writes larger"},
    {"checkpoint_completion_target", "0.9", "spread over the time between"},
    {"random_page_cost", "1.1", "the tables are in memory"},
    {"jit", "off", "compiling costs more than these queries"},
    {"max_parallel_workers_per_gather", "0", "as does starting workers"},
    {"autovacuum_naptime", "5s", "lease rows are short-lived: dead ones slow lookups down"},
    {"autovacuum_vacuum_cost_limit", "2000", "as above"},
    {"autovacuum_vacuum_cost_delay", "1ms", "as above"},
    {"timezone", "'UTC'", "as in the daemon's log"},
    {"log_timezone", "'UTC'", "as in the daemon's log"},
    {"lc_messages", "'C'", "messages that can be searched for"},
    {"datestyle", "'iso, ymd'", "no local habits"},
    {"default_text_search_config", "'pg_catalog.simple'", "no local habits"},
    {"unix_socket_permissions", "0700", "the directory of the socket has this mode too"},
    {"logging_collector", "on", "the log is in log_directory"},
    {"log_filename", "'postgres-%Y%m%d-%H%M%S.log'", "pglockd removes the oldest files"},
    {"log_file_mode", "0600", "a log may show data"},
    {"log_rotation_size", "10MB", "bounds the log, as pglockd keeps ten files"},
    {"log_rotation_age", "1d", "a file a day where little happens"},
    {"log_line_prefix", "'%m [%p] %q%u@%d %a '", "who said it"},
};

#define SHARED_BUFFERS_MIN_MB 32
#define SHARED_BUFFERS_MAX_MB 256

/* An eighth of the machine's memory within bounds: the daemon's tables are small. */
static long shared_buffers_mb(void)
{
    long mb = sysconf(_SC_PHYS_PAGES) / 8 * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
    return mb < SHARED_BUFFERS_MIN_MB   ? SHARED_BUFFERS_MIN_MB
           : mb > SHARED_BUFFERS_MAX_MB ? SHARED_BUFFERS_MAX_MB
                                        : mb;
}

static bool write_all(int fd, struct str text)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text.p += n;
            text.n -= (size_t)n;
        }
    }
    return true;
}

/*
 * The directory may belong to who: as root, nothing that lies there already is followed or opened
 * for writing.
 */
bool conf_write_file(int dir_fd, const char *name, struct str text, const struct run_as *who)
{
    char temp[256];
    snprintf(temp, sizeof(temp), "%s.new", name);
    unlinkat(dir_fd, temp, 0);
    int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, text) && (!who->drop || fchown(fd, who->uid, who->gid) == 0) &&
              fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    return ok && renameat(dir_fd, temp, dir_fd, name) == 0;
}

bool conf_write_main(int pgdata_fd, const struct run_as *who)
{
    return conf_write_file(
        pgdata_fd, "postgresql.conf",
        STR_LIT("# Your own settings go to local.conf: pglockd writes pglockd.conf anew at every\n"
                "# start, and what local.conf says wins. The socket is set on the command line.\n"
                "include 'pglockd.conf'\n"
                "include_if_exists 'local.conf'\n"),
        who);
}

/* Single quotes are doubled, backslashes too. */
static void put_quoted(struct buf *out, const char *s)
{
    buf_putc(out, '\'');
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\')
            buf_putc(out, *s);
        buf_putc(out, *s);
    }
    buf_putc(out, '\'');
}

bool conf_write_tuned(int pgdata_fd, const char *log_dir, const struct run_as *who)
{
    struct buf b = {0};
    buf_puts(&b, "# Written by pglockd at every start. Your own settings go to local.conf.\n\n");
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        buf_printf(&b, "# %s\n%s = %s\n", settings[i].why, settings[i].name, settings[i].value);
    buf_printf(&b, "# an eighth of the memory, within bounds\nshared_buffers = %ldMB\n",
               shared_buffers_mb());
    buf_puts(&b, "# beside this directory\nlog_directory = ");
    put_quoted(&b, log_dir);
    buf_putc(&b, '\n');
    bool ok = conf_write_file(pgdata_fd, "pglockd.conf", buf_str(&b), who);
    buf_free(&b);
    return ok;
}
