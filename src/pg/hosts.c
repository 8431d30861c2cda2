#include "pg/hosts.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/xalloc.h"

/* Elements of a list that is parted by commas; an empty string is one empty element. */
static unsigned count_elements(const char *list)
{
    unsigned n = 1;
    for (; *list; list++)
        n += *list == ',';
    return n;
}

/* The list from its n-th element on, and then those before it. */
static char *rotate(const char *list, unsigned n)
{
    struct buf out = {0};
    const char *at = list;
    for (; n > 0; n--)
        at += strcspn(at, ",") + 1;
    buf_puts(&out, at);
    if (at > list) {
        buf_putc(&out, ',');
        buf_put(&out, list, (size_t)(at - list) - 1);
    }
    char *rotated = xstrdup(buf_cstr(&out));
    buf_free(&out);
    return rotated;
}

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && *options->val ? options->val : NULL;
    return NULL;
}

/* As libpq counts: by addresses where there are any. */
static unsigned count_hosts(const PQconninfoOption *options)
{
    const char *hostaddr = value_of(options, "hostaddr"), *host = value_of(options, "host");
    return hostaddr ? count_elements(hostaddr) : host ? count_elements(host) : 1;
}

/* NULL where it is not a list of n, such as one port for all hosts. */
static char *rotate_value(const PQconninfoOption *options, const char *keyword, unsigned n,
                          unsigned first)
{
    const char *value = value_of(options, keyword);
    return value && count_elements(value) == n ? rotate(value, first) : NULL;
}

unsigned hosts_count(const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    unsigned n = count_hosts(options);
    PQconninfoFree(options);
    return n;
}

struct hosts hosts_from(const char *conninfo, unsigned first)
{
    struct hosts h = {0};
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    unsigned n = count_hosts(options);
    if (n > 1 && first % n != 0) {
        h.host = rotate_value(options, "host", n, first % n);
        h.hostaddr = rotate_value(options, "hostaddr", n, first % n);
        h.port = rotate_value(options, "port", n, first % n);
    }
    PQconninfoFree(options);
    return h;
}

void hosts_free(struct hosts *h)
{
    free(h->host);
    free(h->hostaddr);
    free(h->port);
    *h = (struct hosts){0};
}
