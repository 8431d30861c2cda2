#include "server/tls.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/metrics.h"
#include "base/xalloc.h"

/*
 * TLS 1.2 and 1.3, keys agreed upon anew for each connection, ciphers that authenticate; what else
 * TLS 1.2 knows is left out.
 */
static const char policy[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:"
    "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD:%SERVER_PRECEDENCE";

/* One reading of the files. Sessions hold the one they began with. */
struct credentials {
    unsigned holders;
    gnutls_certificate_credentials_t x509;
    gnutls_certificate_request_t ask_client;
    int name_from;
};

struct tls {
    struct credentials *now;
    gnutls_priority_t priorities;
};

struct tls_session {
    gnutls_session_t tls;
    struct credentials *credentials;
    size_t unsent; /* bytes that the library has taken and not sent */
    enum tls_step failed;
    const char *error;
};

/* See tls_http_callback(). */
static struct tls *for_http;

/* --- the files --- */

static void credentials_let_go(struct credentials *c)
{
    if (c == NULL || --c->holders > 0)
        return;
    if (c->x509)
        gnutls_certificate_free_credentials(c->x509);
    free(c);
}

/* A key that every user of the machine can read is none. */
static bool check_key_file(const char *path, struct buf *err)
{
    struct stat st;

    if (stat(path, &st) != 0)
        buf_printf(err, "cannot read tls_key %s: %s", path, strerror(errno));
    else if (st.st_mode & S_IRWXO)
        buf_printf(err, "tls_key %s is open to every user of this machine: chmod o= it", path);
    return err->len == 0;
}

static bool load_pair(struct credentials *c, const struct settings *s, struct buf *err)
{
    if (!check_key_file(s->tls_key, err))
        return false;
    int r = gnutls_certificate_set_x509_key_file2(c->x509, s->tls_cert, s->tls_key,
                                                  GNUTLS_X509_FMT_PEM, NULL, 0);
    if (r >= 0)
        return true;
    buf_printf(err, "cannot use tls_cert %s with tls_key %s: %s", s->tls_cert, s->tls_key,
               gnutls_strerror(r));
    return false;
}

static bool load_client_ca(struct credentials *c, const struct settings *s, struct buf *err)
{
    if (s->tls_client_ca == NULL)
        return true;
    int r = gnutls_certificate_set_x509_trust_file(c->x509, s->tls_client_ca, GNUTLS_X509_FMT_PEM);
    c->ask_client = s->tls_client_cert == SETTINGS_TLS_CLIENT_REQUIRED ? GNUTLS_CERT_REQUIRE
                                                                       : GNUTLS_CERT_REQUEST;
    if (r > 0)
        return true;
    buf_printf(err, "cannot use tls_client_ca %s: %s", s->tls_client_ca,
               r == 0 ? "there is no certificate in it" : gnutls_strerror(r));
    return false;
}

static struct credentials *load(const struct settings *s, struct buf *err)
{
    struct credentials *c = xcalloc(1, sizeof(*c));

    *c = (struct credentials){
        .holders = 1, .ask_client = GNUTLS_CERT_IGNORE, .name_from = s->tls_name_from};
    if (gnutls_certificate_allocate_credentials(&c->x509) != 0)
        c->x509 = NULL;
    if (c->x509 && load_pair(c, s, err) && load_client_ca(c, s, err))
        return c;
    credentials_let_go(c);
    return NULL;
}

static void show_end_of_certificate(const struct credentials *c)
{
    gnutls_x509_crt_t *chain;
    unsigned n;

    if (gnutls_certificate_get_x509_crt(c->x509, 0, &chain, &n) != 0)
        return;
    metric_set(M_TLS_NOT_AFTER, (int64_t)gnutls_x509_crt_get_expiration_time(chain[0]) * 1000000);
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
}

struct tls *tls_open(const struct settings *settings, struct buf *err)
{
    struct credentials *c = load(settings, err);
    struct tls *tls;

    if (c == NULL)
        return NULL;
    tls = xcalloc(1, sizeof(*tls));
    tls->now = c;
    int r = gnutls_priority_init(&tls->priorities, policy, NULL);
    if (r != 0) {
        buf_printf(err, "cannot use TLS: %s", gnutls_strerror(r));
        credentials_let_go(c);
        free(tls);
        return NULL;
    }
    show_end_of_certificate(c);
    for_http = tls;
    return tls;
}

bool tls_reload(struct tls *tls, const struct settings *settings, struct buf *err)
{
    struct credentials *c = load(settings, err);

    if (c == NULL)
        return false;
    credentials_let_go(tls->now);
    tls->now = c;
    show_end_of_certificate(c);
    return true;
}

void tls_close(struct tls *tls)
{
    if (tls == NULL)
        return;
    for_http = NULL;
    credentials_let_go(tls->now);
    gnutls_priority_deinit(tls->priorities);
    free(tls);
}

/* --- sessions --- */

/* 0: the client may come in. It may not be required to show a certificate at all. */
static int on_verify(gnutls_session_t tls)
{
    struct tls_session *s = gnutls_session_get_ptr(tls);
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned n, status;

    if (gnutls_certificate_get_peers(tls, &n) == NULL || n == 0)
        return 0;
    if (gnutls_certificate_verify_peers(tls, &purpose, 1, &status) == 0 && status == 0)
        return 0;
    s->failed = TLS_NOT_TRUSTED;
    s->error = status & GNUTLS_CERT_EXPIRED            ? "its certificate has expired"
               : status & GNUTLS_CERT_PURPOSE_MISMATCH ? "its certificate is not for clients"
                                                       : "its certificate is not of a CA in "
                                                         "tls_client_ca";
    return -1;
}

struct tls_session *tls_session_new(struct tls *tls, int fd)
{
    struct tls_session *s = xcalloc(1, sizeof(*s));

    s->failed = TLS_FAILED;
    s->credentials = tls->now;
    s->credentials->holders++;
    if (gnutls_init(&s->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0 ||
        gnutls_priority_set(s->tls, tls->priorities) != 0 ||
        gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, s->credentials->x509) != 0) {
        tls_session_free(s);
        return NULL;
    }
    gnutls_session_set_ptr(s->tls, s);
    gnutls_certificate_server_set_request(s->tls, s->credentials->ask_client);
    gnutls_session_set_verify_function(s->tls, on_verify);
    gnutls_handshake_set_timeout(s->tls, 0); /* the connection has its own */
    gnutls_transport_set_int(s->tls, fd);
    return s;
}

void tls_session_free(struct tls_session *s)
{
    if (s == NULL)
        return;
    if (s->tls)
        gnutls_deinit(s->tls);
    credentials_let_go(s->credentials);
    free(s);
}

/* Nothing was lost, and the call may be made again. */
static bool is_passing(ssize_t r)
{
    return r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED;
}

enum tls_step tls_handshake(struct tls_session *s)
{
    int r;

    do
        r = gnutls_handshake(s->tls);
    while (is_passing(r) || r == GNUTLS_E_GOT_APPLICATION_DATA);
    if (r == GNUTLS_E_SUCCESS)
        return TLS_DONE;
    if (r == GNUTLS_E_AGAIN)
        return TLS_AGAIN;
    if (r == GNUTLS_E_NO_CERTIFICATE_FOUND || r == GNUTLS_E_CERTIFICATE_REQUIRED) {
        s->failed = TLS_NOT_TRUSTED;
        s->error = "it showed no certificate";
    }
    if (s->error == NULL)
        s->error = r == GNUTLS_E_FATAL_ALERT_RECEIVED
                       ? gnutls_alert_get_name(gnutls_alert_get(s->tls))
                       : gnutls_strerror(r);
    gnutls_alert_send_appropriate(s->tls, r);
    return s->failed;
}

bool tls_wants_write(const struct tls_session *s)
{
    return gnutls_record_get_direction(s->tls) == 1;
}

const char *tls_error(const struct tls_session *s)
{
    return s->error ? s->error : "no reason known";
}

/*
 * A client that closes without saying so in TLS is at its end all the same: the lines themselves
 * show where one was cut off. One that wants to negotiate anew is not served.
 */
ssize_t tls_recv(struct tls_session *s, char *into, size_t n)
{
    ssize_t r;

    do
        r = gnutls_record_recv(s->tls, into, n);
    while (is_passing(r));
    if (r >= 0)
        return r;
    if (r == GNUTLS_E_PREMATURE_TERMINATION)
        return 0;
    errno = r == GNUTLS_E_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

/* What the library has taken it sends first, and it is told so without looking at the bytes. */
ssize_t tls_send(struct tls_session *s, const char *from, size_t n)
{
    ssize_t r;

    do
        r = s->unsent > 0 ? gnutls_record_send(s->tls, NULL, 0)
                          : gnutls_record_send(s->tls, from, n);
    while (is_passing(r));
    if (r >= 0) {
        s->unsent = 0;
        return r;
    }
    s->unsent = n;
    errno = r == GNUTLS_E_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

void tls_end(struct tls_session *s)
{
    gnutls_bye(s->tls, GNUTLS_SHUT_WR);
}

/* --- who it is --- */

static bool alternative_name(gnutls_x509_crt_t crt, gnutls_x509_subject_alt_name_t wanted,
                             struct buf *name)
{
    char text[256];
    int type = 0;

    for (unsigned i = 0; type != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE; i++) {
        size_t n = sizeof(text);
        type = gnutls_x509_crt_get_subject_alt_name(crt, i, text, &n, NULL);
        if (type != (int)wanted)
            continue;
        buf_put(name, text, n);
        return true;
    }
    return false;
}

static bool common_name(gnutls_x509_crt_t crt, struct buf *name)
{
    char text[256];
    size_t n = sizeof(text);

    if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &n) != 0)
        return false;
    buf_put(name, text, n);
    return true;
}

bool tls_peer_name(const struct tls_session *s, struct buf *name)
{
    static const gnutls_x509_subject_alt_name_t kinds[] = {
        [SETTINGS_TLS_NAME_DNS] = GNUTLS_SAN_DNSNAME,
        [SETTINGS_TLS_NAME_EMAIL] = GNUTLS_SAN_RFC822NAME,
        [SETTINGS_TLS_NAME_URI] = GNUTLS_SAN_URI,
    };
    int from = s->credentials->name_from;
    gnutls_x509_crt_t crt;
    unsigned n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(s->tls, &n);

    if (chain == NULL || n == 0 || gnutls_x509_crt_init(&crt) != 0)
        return false;
    bool found = gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
                 (from == SETTINGS_TLS_NAME_CN ? common_name(crt, name)
                                               : alternative_name(crt, kinds[from], name));
    gnutls_x509_crt_deinit(crt);
    return found;
}

/* --- HTTP --- */

/* Copies, which the library frees: those of a handshake that takes long survive a reload. */
static int give_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                            gnutls_pcert_st **chain, unsigned *chain_length,
                            gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length,
                            gnutls_privkey_t *key, unsigned *flags)
{
    gnutls_x509_crt_t *crts;
    gnutls_x509_privkey_t x509_key;

    (void)session, (void)info;
    *ocsp = NULL;
    *ocsp_length = 0;
    *flags = GNUTLS_CERT_RETR_DEINIT_ALL;
    if (for_http == NULL ||
        gnutls_certificate_get_x509_crt(for_http->now->x509, 0, &crts, chain_length) != 0)
        return -1;
    *chain = gnutls_calloc(*chain_length, sizeof(**chain));
    int failed = *chain == NULL ||
                 gnutls_pcert_import_x509_list(*chain, crts, chain_length, 0) != 0 ||
                 gnutls_privkey_init(key) != 0 ||
                 gnutls_certificate_get_x509_key(for_http->now->x509, 0, &x509_key) != 0 ||
                 gnutls_privkey_import_x509(*key, x509_key, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
    for (unsigned i = 0; i < *chain_length; i++)
        gnutls_x509_crt_deinit(crts[i]);
    gnutls_free(crts);
    return failed ? -1 : 0;
}

void *tls_http_callback(void)
{
    gnutls_certificate_retrieve_function3 *callback = give_certificate;
    void *pointer;

    memcpy(&pointer, &callback, sizeof(pointer));
    return pointer;
}

const char *tls_http_priorities(void)
{
    return policy;
}
