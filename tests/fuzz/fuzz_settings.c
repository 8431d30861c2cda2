#include <sys/mman.h>
#include <unistd.h>

#include "config/settings.h"
#include "fuzz.h"

/* A file of the bytes, in memory; its path goes to the loader as a user would give it. */
static int make_file(const uint8_t *data, size_t size, char *path, size_t path_size)
{
    int fd = memfd_create("pglockd.ini", MFD_CLOEXEC);
    FUZZ_PROMISE(fd >= 0);
    FUZZ_PROMISE(write(fd, data, size) == (ssize_t)size);
    snprintf(path, path_size, "--config=/proc/self/fd/%d", fd);
    return fd;
}

int fuzz_settings(const uint8_t *data, size_t size)
{
    char program[] = "pglockd", path[64], embedded[] = "--embedded=/nowhere";
    int fd = make_file(data, size, path, sizeof(path));
    char *argv[] = {program, path, embedded, NULL};
    struct settings s;
    struct buf err = {0}, values = {0};
    enum settings_result result = settings_load(&s, 3, argv, &err);
    FUZZ_PROMISE(result == SETTINGS_RUN || result == SETTINGS_BAD_CONFIG);
    FUZZ_PROMISE((result == SETTINGS_BAD_CONFIG) == (err.len > 0));
    if (result == SETTINGS_RUN) {
        FUZZ_PROMISE(s.ttl_min_ms <= s.ttl_ms && s.ttl_ms <= s.ttl_max_ms);
        settings_put_values(&s, &values);
        FUZZ_PROMISE(settings_reload(&s, &err)); /* the same file is as good the second time */
    }
    settings_free(&s);
    buf_free(&err);
    buf_free(&values);
    close(fd);
    return 0;
}
