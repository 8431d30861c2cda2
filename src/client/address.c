#include "client/address.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "client/pglockd.h"

static void address_free(struct address *a)
{
    free(a->text);
    free(a->host);
    free(a->port);
    free(a->path);
}

void address_list_free(struct address_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        address_free(&list->items[i]);
    free(list->items);
    *list = (struct address_list){0};
}

static bool valid_port(const char *port)
{
    char *end;
    long n = strtol(port, &end, 10);
    return *port >= '0' && *port <= '9' && *end == '\0' && n >= 1 && n <= 65535;
}

static const char *parse_unix(struct address *a, const char *path)
{
    if (!*path)
        return "has no path: write unix:PATH";
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return "has a path that is too long for a Unix socket (107 bytes)";
    a->path = strdup(path);
    return a->path ? NULL : "does not fit into memory";
}

static const char *parse_tcp(struct address *a, const char *s)
{
    const char *colon = strrchr(s, ':');
    if (!colon || !valid_port(colon + 1))
        return "has no port from 1 to 65535: write tcp://HOST:PORT, tls://HOST:PORT or unix:PATH";
    const char *host = s;
    size_t len = (size_t)(colon - s);
    if (*s == '[' && len >= 2 && s[len - 1] == ']') {
        host++;
        len -= 2;
    } else if (memchr(s, ':', len)) {
        return "is ambiguous: write an IPv6 address in brackets, [::1]:7432";
    }
    if (len == 0 || memchr(host, '/', len))
        return "has no valid host: write tcp://HOST:PORT, tls://HOST:PORT or unix:PATH";
    a->host = strndup(host, len);
    a->port = strdup(colon + 1);
    return a->host && a->port ? NULL : "does not fit into memory";
}

static const char *parse_one(struct address *a)
{
    const char *s = a->text;
    if (strncmp(s, "unix:", 5) == 0)
        return parse_unix(a, s + 5);
    a->tls = strncmp(s, "tls://", 6) == 0;
    if (a->tls)
        return parse_tcp(a, s + 6);
    if (strncmp(s, "tcp://", 6) == 0)
        return parse_tcp(a, s + 6);
    return parse_tcp(a, s);
}

int address_list_parse(const char *text, struct address_list *list, char *error, size_t error_size)
{
    *list = (struct address_list){0};
    for (;;) {
        size_t len = strcspn(text, ",");
        struct address a = {.text = strndup(text, len)};
        struct address *items = realloc(list->items, (list->count + 1) * sizeof(*items));
        const char *problem = "does not fit into memory";

        if (items)
            list->items = items;
        if (items && a.text)
            problem = len == 0 ? "is empty" : parse_one(&a);
        if (problem) {
            snprintf(error, error_size, "the address \"%s\" %s", a.text ? a.text : "", problem);
            address_free(&a);
            address_list_free(list);
            return -1;
        }
        list->items[list->count++] = a;
        if (!text[len])
            return 0;
        text += len + 1;
    }
}

/* ---- resolving ---- */

/* Shared by the asking thread and the resolving one; whoever leaves last frees it. */
struct lookup {
    pthread_mutex_t mutex;
    pthread_cond_t done_cond;
    int users;
    bool done;
    int result;
    struct addrinfo *list;
    char *host;
    char *port;
};

static const struct addrinfo stream_hints = {
    .ai_family = AF_UNSPEC,
    .ai_socktype = SOCK_STREAM,
};

/* Called with the mutex held, which it releases. */
static void lookup_leave(struct lookup *l)
{
    bool last = --l->users == 0;
    pthread_mutex_unlock(&l->mutex);
    if (!last)
        return;
    if (l->list)
        freeaddrinfo(l->list);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->done_cond);
    free(l->host);
    free(l->port);
    free(l);
}

static void *lookup_main(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo *list = NULL;
    int result = getaddrinfo(l->host, l->port, &stream_hints, &list);

    pthread_mutex_lock(&l->mutex);
    l->done = true;
    l->result = result;
    l->list = result == 0 ? list : NULL;
    pthread_cond_signal(&l->done_cond);
    lookup_leave(l);
    return NULL;
}

static struct lookup *lookup_new(const char *host, const char *port)
{
    struct lookup *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->host = strdup(host);
    l->port = strdup(port);
    if (!l->host || !l->port) {
        free(l->host);
        free(l->port);
        free(l);
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->done_cond, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&l->mutex, NULL);
    l->users = 1;
    return l;
}

/* The program's signals are not for this thread. */
static int lookup_start(struct lookup *l)
{
    sigset_t all, old;
    pthread_t thread;

    l->users++;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&thread, NULL, lookup_main, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed)
        l->users--;
    else
        pthread_detach(thread);
    return failed;
}

static void lookup_wait(struct lookup *l, int64_t until_us)
{
    struct timespec ts;
    int64_t left_us = until_us - pglockd_now_us();

    if (left_us < 0)
        left_us = 0;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + left_us % 1000000 * 1000;
    ts.tv_sec += left_us / 1000000 + ns / 1000000000;
    ts.tv_nsec = ns % 1000000000;
    while (!l->done && pthread_cond_timedwait(&l->done_cond, &l->mutex, &ts) == 0)
        ;
}

static int resolve_name(const char *host, const char *port, int64_t until_us,
                        struct addrinfo **list, char *error, size_t error_size)
{
    struct lookup *l = lookup_new(host, port);
    if (!l) {
        snprintf(error, error_size, "no memory is left to resolve \"%s\"", host);
        return -1;
    }
    int failed = lookup_start(l);
    pthread_mutex_lock(&l->mutex);
    if (failed)
        snprintf(error, error_size, "cannot start a thread to resolve \"%s\"", host);
    else
        lookup_wait(l, until_us);
    if (!failed && !l->done)
        snprintf(error, error_size, "resolving \"%s\" took too long", host);
    else if (!failed && l->result != 0)
        snprintf(error, error_size, "cannot resolve \"%s\": %s", host, gai_strerror(l->result));
    *list = l->list;
    l->list = NULL;
    lookup_leave(l);
    return *list ? 0 : -1;
}

int address_resolve(const char *host, const char *port, int64_t until_us, struct addrinfo **list,
                    char *error, size_t error_size)
{
    struct addrinfo hints = stream_hints;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    if (getaddrinfo(host, port, &hints, list) == 0)
        return 0;
    return resolve_name(host, port, until_us, list, error, error_size);
}
