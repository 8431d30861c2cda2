#include "pg/embedded_parts.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "pg/connect.h"

#define LOGS_KEPT 10
#define TAIL_BYTES 4096

static bool is_log_name(const char *name)
{
    size_t n = strlen(name);
    return strncmp(name, "postgres-", 9) == 0 && n > 4 && strcmp(name + n - 4, ".log") == 0;
}

static int newest_first(const void *a, const void *b)
{
    return strcmp(*(char *const *)b, *(char *const *)a);
}

/* The log files of a directory, newest first (the names hold the time). Free with free_names(). */
static char **list_logs(int log_fd, size_t *count)
{
    char **names = NULL;
    *count = 0;
    int fd = openat(log_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return NULL;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!is_log_name(entry->d_name))
            continue;
        names = xrealloc(names, (*count + 1) * sizeof(*names));
        names[(*count)++] = xstrdup(entry->d_name);
    }
    closedir(dir);
    if (names && *count > 1)
        qsort(names, *count, sizeof(*names), newest_first);
    return names;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

void logs_prune(int log_fd)
{
    size_t count;
    char **names = list_logs(log_fd, &count);
    for (size_t i = LOGS_KEPT; i < count; i++)
        unlinkat(log_fd, names[i], 0);
    free_names(names, count);
}

/* The end of a file as a string. The file may be another user's: never wait for a FIFO. */
static void read_tail(int dir_fd, const char *name, char out[TAIL_BYTES + 1])
{
    out[0] = '\0';
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        off_t from = st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
        ssize_t n = pread(fd, out, TAIL_BYTES, from);
        out[n > 0 ? n : 0] = '\0';
    }
    close(fd);
}

/* Where the last line that matters begins in text: after its FATAL or PANIC. NULL for none. */
static const char *last_fatal(const char *text)
{
    const char *last = NULL;
    for (const char *p = text; (p = strpbrk(p, "FP")); p++)
        if (strncmp(p, "FATAL:", 6) == 0 || strncmp(p, "PANIC:", 6) == 0)
            last = p + 6;
    return last;
}

static const char *last_line(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

static void put_line(struct buf *out, const char *line)
{
    char *copy = xstrndup(line, strcspn(line, "\n"));
    pg_put_one_line(out, copy);
    free(copy);
}

void logs_put_reason(int dir_fd, int log_fd, struct buf *out)
{
    char started[TAIL_BYTES + 1], logged[TAIL_BYTES + 1] = "";
    size_t count;
    char **names = list_logs(log_fd, &count);
    if (count > 0)
        read_tail(log_fd, names[0], logged);
    free_names(names, count);
    read_tail(dir_fd, START_LOG, started);

    /* Only after these words is what the log holds of this start. */
    bool redirected = strstr(started, "redirecting log output") != NULL;
    const char *line = last_fatal(started);
    if (!line)
        line = redirected ? last_fatal(logged) : last_line(started);
    if (line)
        put_line(out, line);
}
