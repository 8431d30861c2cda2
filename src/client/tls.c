#include "client/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char policy[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:"
    "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD";

struct tls {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    size_t unsent; /* bytes that the library has taken and not sent */
    bool alerted;
};

/* --- what was chosen --- */

static bool copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from == NULL || *to != NULL;
}

bool tls_choice_copy(struct tls_choice *to, const struct tls_choice *from)
{
    *to = (struct tls_choice){0};
    if (copy_text(&to->ca_file, from->ca_file) && copy_text(&to->cert_file, from->cert_file) &&
        copy_text(&to->key_file, from->key_file) && copy_text(&to->server_name, from->server_name))
        return true;
    tls_choice_free(to);
    return false;
}

void tls_choice_free(struct tls_choice *choice)
{
    free(choice->ca_file);
    free(choice->cert_file);
    free(choice->key_file);
    free(choice->server_name);
    *choice = (struct tls_choice){0};
}

/* --- the beginning --- */

static bool load(struct tls *t, const struct tls_choice *choice, char *error, size_t size)
{
    int r = choice->ca_file ? gnutls_certificate_set_x509_trust_file(
                                  t->credentials, choice->ca_file, GNUTLS_X509_FMT_PEM)
                            : gnutls_certificate_set_x509_system_trust(t->credentials);
    if (r <= 0) {
        snprintf(error, size, "there is no certificate of a CA in %s%s%s",
                 choice->ca_file ? choice->ca_file : "the system's store", r < 0 ? ": " : "",
                 r < 0 ? gnutls_strerror(r) : "");
        return false;
    }
    if (choice->cert_file == NULL)
        return true;
    const char *key = choice->key_file ? choice->key_file : choice->cert_file;
    r = gnutls_certificate_set_x509_key_file(t->credentials, choice->cert_file, key,
                                             GNUTLS_X509_FMT_PEM);
    if (r >= 0)
        return true;
    snprintf(error, size, "cannot use the certificate %s with the key %s: %s", choice->cert_file,
             key, gnutls_strerror(r));
    return false;
}

static bool is_ip_literal(const char *name)
{
    unsigned char address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

static int begin(struct tls *t, int fd, const char *name)
{
    int r = gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (r == 0)
        r = gnutls_priority_set_direct(t->session, policy, NULL);
    if (r == 0)
        r = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    if (r == 0 && !is_ip_literal(name)) /* an address is no server name of the protocol */
        r = gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, name, strlen(name));
    if (r != 0)
        return r;
    gnutls_session_set_verify_cert(t->session, name, 0);
    gnutls_handshake_set_timeout(t->session, 0); /* whoever waits has a time of its own */
    gnutls_transport_set_int(t->session, fd);
    return 0;
}

struct tls *tls_new(int fd, const char *name, const struct tls_choice *choice, char *error,
                    size_t error_size)
{
    struct tls *t = calloc(1, sizeof(*t));
    const char *expected = choice->server_name ? choice->server_name : name;

    if (t && gnutls_certificate_allocate_credentials(&t->credentials) != 0) {
        free(t);
        t = NULL;
    }
    if (t == NULL) {
        snprintf(error, error_size, "no memory is left");
        return NULL;
    }
    if (!load(t, choice, error, error_size)) {
        tls_free(t);
        return NULL;
    }
    int r = begin(t, fd, expected);
    if (r == 0)
        return t;
    snprintf(error, error_size, "cannot use TLS: %s", gnutls_strerror(r));
    tls_free(t);
    return NULL;
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    if (t->session)
        gnutls_deinit(t->session);
    gnutls_certificate_free_credentials(t->credentials);
    free(t);
}

/* What was wrong with the daemon's certificate, as far as that is known. */
static void put_verdict(const struct tls *t, char *error, size_t size)
{
    unsigned status = gnutls_session_get_verify_cert_status(t->session);
    gnutls_datum_t text = {0};

    if (gnutls_certificate_verification_status_print(
            status, gnutls_certificate_type_get(t->session), &text, 0) != 0) {
        snprintf(error, size, "the daemon's certificate is not trusted");
        return;
    }
    snprintf(error, size, "the daemon's certificate is not trusted: %s", (const char *)text.data);
    gnutls_free(text.data);
    for (size_t n = strlen(error); n > 0 && (error[n - 1] == ' ' || error[n - 1] == '.'); n--)
        error[n - 1] = '\0';
}

static bool is_passing(ssize_t r)
{
    return r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED;
}

int tls_handshake(struct tls *t, char *error, size_t error_size)
{
    int r;

    do
        r = gnutls_handshake(t->session);
    while (is_passing(r));
    if (r == GNUTLS_E_SUCCESS)
        return 1;
    if (r == GNUTLS_E_AGAIN)
        return 0;
    if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        put_verdict(t, error, error_size);
    else if (r == GNUTLS_E_FATAL_ALERT_RECEIVED)
        snprintf(error, error_size, "the daemon refused TLS: %s",
                 gnutls_alert_get_name(gnutls_alert_get(t->session)));
    else
        snprintf(error, error_size, "TLS failed: %s", gnutls_strerror(r));
    gnutls_alert_send_appropriate(t->session, r);
    return -1;
}

/* --- lines --- */

ssize_t tls_recv(struct tls *t, char *into, size_t n)
{
    ssize_t r;

    do
        r = gnutls_record_recv(t->session, into, n);
    while (is_passing(r));
    if (r >= 0)
        return r;
    t->alerted = r == GNUTLS_E_FATAL_ALERT_RECEIVED;
    errno = r == GNUTLS_E_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

/* What the library has taken it sends first, and it is told so without looking at the bytes. */
ssize_t tls_send(struct tls *t, const char *from, size_t n)
{
    ssize_t r;

    do
        r = t->unsent > 0 ? gnutls_record_send(t->session, NULL, 0)
                          : gnutls_record_send(t->session, from, n);
    while (is_passing(r));
    if (r >= 0) {
        t->unsent = 0;
        return r;
    }
    t->unsent = n;
    errno = r == GNUTLS_E_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

short tls_events(const struct tls *t)
{
    return gnutls_record_get_direction(t->session) == 1 ? POLLOUT : POLLIN;
}

const char *tls_alert(const struct tls *t)
{
    return t->alerted ? gnutls_alert_get_name(gnutls_alert_get(t->session)) : NULL;
}
