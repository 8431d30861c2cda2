#include "pglockctl/proc_cpu.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"

struct process {
    int pid;
    int parent;
    unsigned long long ticks;
};

struct process_list {
    struct process *items;
    size_t n;
};

static bool read_stat(const char *pid, struct process *p)
{
    char path[64], text[1024];
    unsigned long long utime, stime, cutime, cstime;

    snprintf(path, sizeof(path), "/proc/%.32s/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    /* The name may hold anything, also parentheses: the fields begin after the last one. */
    const char *fields = strrchr(text, ')');
    if (!fields || /* The kernel's numbers fit. NOLINTNEXTLINE(cert-err34-c) */
        sscanf(fields, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu",
               &p->parent, &utime, &stime, &cutime, &cstime) != 5)
        return false;
    p->pid = (int)strtol(pid, NULL, 10);
    p->ticks = utime + stime + cutime + cstime;
    return true;
}

static struct process_list read_all(void)
{
    struct process_list list = {0};
    DIR *dir = opendir("/proc");
    const struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL) {
        struct process p;
        if (strspn(entry->d_name, "0123456789") == 0 || !read_stat(entry->d_name, &p))
            continue;
        list.items = xrealloc(list.items, (list.n + 1) * sizeof(p));
        list.items[list.n++] = p;
    }
    if (dir)
        closedir(dir);
    return list;
}

/* Is pid the root or beneath it? */
static bool descends(const struct process_list *list, int pid, int root)
{
    for (int depth = 0; pid > 1 && depth < 64; depth++) {
        if (pid == root)
            return true;
        int parent = 0;
        for (size_t i = 0; i < list->n; i++)
            if (list->items[i].pid == pid)
                parent = list->items[i].parent;
        pid = parent;
    }
    return false;
}

double proc_cpu_seconds(int pid)
{
    unsigned long long ticks = 0;

    if (pid == 0)
        return 0;
    struct process_list list = read_all();
    for (size_t i = 0; i < list.n; i++)
        if (descends(&list, list.items[i].pid, pid))
            ticks += list.items[i].ticks;
    free(list.items);
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}
