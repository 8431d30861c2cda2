#include "pg/embedded_parts.h"

#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where packages put the programs of each version: Debian, and Red Hat. */
static const char *const version_dirs[][2] = {
    {"/usr/lib/postgresql/", "/bin"},
    {"/usr/pgsql-", "/bin"},
};

#define MAJOR_TESTED 15
#define MAJOR_MIN 14
#define MAJOR_MAX 40 /* how far up to look */

static bool has_program(const char *dir, const char *name)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof(path) && access(path, X_OK) == 0;
}

static bool try_dir(const char *dir, struct buf *bindir)
{
    if (!*dir || !has_program(dir, "initdb") || !has_program(dir, "postgres"))
        return false;
    buf_puts(bindir, dir);
    return true;
}

static bool try_major(int major, struct buf *bindir)
{
    char dir[256];
    for (size_t i = 0; i < sizeof(version_dirs) / sizeof(version_dirs[0]); i++) {
        snprintf(dir, sizeof(dir), "%s%d%s", version_dirs[i][0], major, version_dirs[i][1]);
        if (try_dir(dir, bindir))
            return true;
    }
    return false;
}

static bool try_newest(struct buf *bindir)
{
    for (int major = MAJOR_MAX; major >= MAJOR_MIN; major--)
        if (try_major(major, bindir))
            return true;
    return false;
}

/* Links are followed: a directory of links, such as /usr/local/bin, lacks the libraries. */
static bool try_path(struct buf *bindir)
{
    const char *path = getenv("PATH");
    char dir[4096], *real;
    for (; path && *path; path += strcspn(path, ":"), path += *path == ':') {
        int n = snprintf(dir, sizeof(dir), "%.*s/postgres", (int)strcspn(path, ":"), path);
        if (n < 0 || (size_t)n >= sizeof(dir) || !(real = realpath(dir, NULL)))
            continue;
        *strrchr(real, '/') = '\0';
        bool found = try_dir(real, bindir);
        free(real);
        if (found)
            return true;
    }
    return false;
}

static bool find_dir(const char *setting, int wanted_major, struct buf *bindir, struct buf *err)
{
    if (setting && *setting) {
        if (try_dir(setting, bindir))
            return true;
        buf_printf(err, "pg_bindir is %s, and there are no programs initdb and postgres in it",
                   setting);
        return false;
    }
    if (wanted_major > 0 && try_major(wanted_major, bindir))
        return true;
    if (try_dir(PG_BINDIR, bindir) || try_major(MAJOR_TESTED, bindir) || try_newest(bindir) ||
        try_path(bindir))
        return true;
    buf_puts(err, "PostgreSQL is not installed here (no initdb and postgres in "
                  "/usr/lib/postgresql/*/bin or PATH): install it, such as with apt-get install "
                  "postgresql-15, or set pg_bindir");
    return false;
}

/* Reads what `postgres --version` says, such as "postgres (PostgreSQL) 15.6 (Debian ...)". */
static bool read_version(const char *postgres, const struct run_as *who, char *out, size_t size)
{
    const char *const argv[] = {postgres, "--version", NULL};
    int fd = memfd_create("version", MFD_CLOEXEC); /* no directory need be writable */
    FILE *said = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!said) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = run_as_wait(who, argv, fileno(said)) == 0;
    rewind(said);
    ok = fgets(out, (int)size, said) != NULL && ok;
    out[strcspn(out, "\n")] = '\0';
    fclose(said);
    return ok;
}

static bool find_major(const char *dir, const struct run_as *who, int *major, struct buf *err)
{
    char postgres[4096], said[256] = "";
    snprintf(postgres, sizeof(postgres), "%s/postgres", dir);
    bool ok = read_version(postgres, who, said, sizeof(said));
    const char *number = strstr(said, "(PostgreSQL) ");
    *major = ok && number ? (int)strtol(number + strlen("(PostgreSQL) "), NULL, 10) : 0;
    if (*major >= MAJOR_MIN)
        return true;
    if (*major > 0)
        buf_printf(err, "%s is of version %d, and pglockd needs PostgreSQL %d or newer", postgres,
                   *major, MAJOR_MIN);
    else
        buf_printf(err, "user %s cannot run %s%s%s", who->name, postgres, *said ? ": " : "", said);
    return false;
}

bool programs_find(const char *setting, int wanted_major, const struct run_as *who,
                   struct buf *bindir, int *major, struct buf *err)
{
    return find_dir(setting, wanted_major, bindir, err) &&
           find_major(buf_cstr(bindir), who, major, err);
}
