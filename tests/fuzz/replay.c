/* Runs every target over its corpus, tests/fuzz/corpus/NAME, and says so in TAP. */

#include <dirent.h>
#include <limits.h>

#include "fuzz.h"

static const struct {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
} targets[] = {
#define X(name) {#name, fuzz_##name},
    FUZZ_TARGETS(X)
#undef X
};

enum { TARGETS = sizeof(targets) / sizeof(targets[0]) };

/* False: it is no file that can be read. */
static int replay_file(const char *path, int (*run)(const uint8_t *data, size_t size))
{
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    size_t n = fread(data, 1, sizeof(data), file);
    int bad = ferror(file);
    fclose(file);
    if (!bad)
        run(data, n);
    return !bad;
}

static int replay(const char *dir, int (*run)(const uint8_t *data, size_t size))
{
    int files = 0;
    DIR *d = opendir(dir);
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[PATH_MAX + NAME_MAX + 2];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        files += replay_file(path, run);
    }
    if (d != NULL)
        closedir(d);
    return files;
}

int main(void)
{
    const char *top = getenv("SRCDIR");
    printf("1..%d\n", TARGETS);
    for (int i = 0; i < TARGETS; i++) {
        char dir[PATH_MAX];
        snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", top ? top : ".", targets[i].name);
        int files = replay(dir, targets[i].run);
        printf("%sok %d - corpus of %s (%d files)\n", files > 0 ? "" : "not ", i + 1,
               targets[i].name, files);
        fflush(stdout);
    }
    return 0;
}
