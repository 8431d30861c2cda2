#include "base/metrics_process.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"

static int64_t cpu_us(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0)
        return 0;
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Reads a small file of /proc as a string; "" when it cannot be read. */
static void read_proc(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

/* Sizes as /proc/self/statm begins with them, in pages: all, and what is resident of it. */
static void set_memory(void)
{
    char text[128];
    char *end;
    int64_t page = sysconf(_SC_PAGESIZE);

    read_proc("/proc/self/statm", text, sizeof(text));
    metric_set(M_PROCESS_VSIZE, strtoll(text, &end, 10) * page);
    metric_set(M_PROCESS_RSS, strtoll(end, NULL, 10) * page);
}

/* One more than the highest descriptor that this process has ever had. */
static long fd_table_size(void)
{
    char text[4096];
    const char *line;

    read_proc("/proc/self/status", text, sizeof(text));
    line = strstr(text, "\nFDSize:");
    return line ? strtol(line + strlen("\nFDSize:"), NULL, 10) : 0;
}

/* How many of the descriptors first .. first + n - 1 are open. */
static int64_t open_fds_in(long first, long n, struct pollfd *fds)
{
    int64_t open = 0;

    for (long i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = (int)(first + i)};
    if (poll(fds, (nfds_t)n, 0) < 0)
        return 0;
    for (long i = 0; i < n; i++)
        open += !(fds[i].revents & POLLNVAL);
    return open;
}

int64_t metrics_process_fds_by_poll(void)
{
    enum { CHUNK = 64 }; /* poll() takes no more than the soft limit allows */
    struct pollfd fds[CHUNK];
    long size = fd_table_size();
    int64_t open = 0;

    for (long first = 0; first < size; first += CHUNK)
        open += open_fds_in(first, CHUNK, fds);
    return open;
}

/* Since Linux 6.2 the size of /proc/self/fd is their number; listing it takes 20 ms for 20000. */
static int64_t open_fds(void)
{
    struct stat st;

    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return st.st_size;
    return metrics_process_fds_by_poll();
}

static void refresh(void *arg)
{
    struct rlimit limit;

    (void)arg;
    metric_set(M_PROCESS_CPU, cpu_us());
    set_memory();
    metric_set(M_PROCESS_FDS, open_fds());
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        metric_set(M_PROCESS_MAX_FDS, (int64_t)limit.rlim_cur);
}

void metrics_process_start(const char *version)
{
    static const char *versions[1];

    versions[0] = version;
    metrics_label_names(LABEL_VERSION, versions, 1);
    metric_set1(M_BUILD_INFO, 0, 1);
    metric_set(M_PROCESS_START, clock_wall_us());
    metrics_on_refresh(refresh, NULL);
}
