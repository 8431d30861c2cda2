#include "wire/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

static const char *parse_unix(struct str path, struct address *out)
{
    if (path.n == 0)
        return "a path is missing after unix:";
    if (path.n > ADDRESS_PATH_MAX)
        return "the path of a Unix socket has at most 107 bytes";
    if (memchr(path.p, '\0', path.n))
        return "the path of a Unix socket must not contain a NUL";
    out->is_unix = true;
    memcpy(out->path, path.p, path.n);
    out->path[path.n] = '\0';
    return NULL;
}

static const char *parse_port(struct str s, uint16_t *port)
{
    static const char message[] = "a port is a number from 0 to 65535 (0: any free port)";
    unsigned value = 0;

    if (s.n == 0 || s.n > 5)
        return message;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return message;
        value = value * 10 + (unsigned)(s.p[i] - '0');
    }
    if (value > UINT16_MAX)
        return message;
    *port = (uint16_t)value;
    return NULL;
}

/* The host is copied before it is checked: inet_pton() wants it terminated. */
static const char *parse_host(struct str s, bool bracketed, struct address *out)
{
    struct in6_addr ignored;

    if (s.n == 0)
        return "a host is missing before the port, such as 127.0.0.1:7432";
    if (s.n > ADDRESS_HOST_MAX)
        return "a host name has at most 253 bytes";
    memcpy(out->host, s.p, s.n);
    out->host[s.n] = '\0';
    if (bracketed)
        return inet_pton(AF_INET6, out->host, &ignored) == 1
                   ? NULL
                   : "an IPv6 address belongs between the brackets, such as [::1]:7432";
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == ':')
            return "an IPv6 address stands in brackets, such as [::1]:7432";
        if (!is_host_char(s.p[i]))
            return "a host is a name or an IP address, such as 127.0.0.1:7432 or [::1]:7432";
    }
    return NULL;
}

const char *address_parse(struct str s, struct address *out)
{
    const char *colon;
    struct str host, port;
    const char *error;
    bool bracketed;

    *out = (struct address){0};
    if (s.n >= 5 && memcmp(s.p, "unix:", 5) == 0)
        return parse_unix((struct str){s.p + 5, s.n - 5}, out);
    if (s.n >= 6 && memcmp(s.p, "tls://", 6) == 0) {
        out->tls = true;
        s = (struct str){s.p + 6, s.n - 6};
    }
    colon = s.n > 0 ? memrchr(s.p, ':', s.n) : NULL;
    if (!colon || s.p[s.n - 1] == ']')
        return "an address is HOST:PORT, tls://HOST:PORT or unix:PATH, such as 127.0.0.1:7432";
    host = (struct str){s.p, (size_t)(colon - s.p)};
    port = (struct str){colon + 1, s.n - host.n - 1};
    bracketed = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (bracketed)
        host = (struct str){host.p + 1, host.n - 2};
    error = parse_host(host, bracketed, out);
    return error ? error : parse_port(port, &out->port);
}

bool address_is_local(const struct address *a)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (a->is_unix || str_is_nocase(str_of(a->host), "localhost"))
        return true;
    if (inet_pton(AF_INET, a->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, a->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
