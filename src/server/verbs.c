#include <ctype.h>
#include <stdio.h>

#include "base/metrics.h"
#include "server/internal.h"

/*
 * The verbs, once: how they are called, what they may be given, who answers them. HELP, the checks
 * of arguments and keys, and the metric label all derive from this table.
 */

typedef void verb_fn(struct request *r, const struct wire_request *w);

struct verb {
    const char *name;
    verb_fn *run;
    size_t args_min;
    size_t args_max;
    const char *keys; /* known keys, parted by spaces */
    const char *many; /* those that may come more than once */
    const char *usage;
    const char *help;
    int needs; /* where auth is on: an enum right, or one of enum less_than_right */
};

static void verb_hello(struct request *r, const struct wire_request *w);
static void verb_ping(struct request *r, const struct wire_request *w);
static void verb_quit(struct request *r, const struct wire_request *w);
static void verb_help(struct request *r, const struct wire_request *w);

enum { VERB_BAD_LINE, VERB_UNKNOWN };

static const struct verb verbs[] = {
    /* What is counted for lines that name no verb; never found by name. */
    [VERB_BAD_LINE] = {"(bad line)", NULL, 0, 0, "", "", NULL, NULL, NEEDS_NOTHING},
    [VERB_UNKNOWN] = {"(unknown)", NULL, 0, 0, "", "", NULL, NULL, NEEDS_NOTHING},
    {"HELLO", verb_hello, 0, 0, "name protocol events key", "",
     "HELLO [name=NAME] [key=KEY] [protocol=1] [events=on|off]",
     "Names this connection, shows who it is, and tells what the server is.", NEEDS_NOTHING},
    {"PING", verb_ping, 0, 0, "", "", "PING", "Answers OK.", NEEDS_NOTHING},
    {"HELP", verb_help, 0, 1, "", "", "HELP [VERB]", "Lists the verbs, or explains one.",
     NEEDS_NOTHING},
    {"STATS", verb_stats, 0, 0, "", "", "STATS", "Counts of this daemon since it started.",
     NEEDS_NAME},
    {"STATUS", verb_status, 0, 0, "prefix", "", "STATUS [prefix=P]",
     "The whole service at a glance: locks, queue, sessions, rate limits, daemons.", RIGHT_READ},
    {"QUIT", verb_quit, 0, 0, "", "", "QUIT", "Answers what was asked, then closes.",
     NEEDS_NOTHING},
    {"LOCK", verb_lock, 0, WIRE_ARGS_MAX,
     "mode scope ttl wait id owner note bind grace session secret limit weight token",
     "shared exclusive shared-tree exclusive-tree",
     "LOCK RESOURCE... [mode=exclusive|shared] [scope=node|tree] [limit=N [weight=1]] "
     "[shared=RES | exclusive=RES | shared-tree=RES | exclusive-tree=RES]... [ttl=30s] "
     "[wait=0s|5s|inf] [id=KEY] [session=ID [secret=S]] [owner=NAME] [note=TEXT] [grace=0s] "
     "[bind=lease|connection] | LOCK RESOURCE token=T mode=exclusive|shared",
     "Takes leases of all that it names, or waits for them; with a token it changes a mode.",
     RIGHT_LOCK},
    {"UNLOCK", verb_unlock, 0, 1, "token id owner", "",
     "UNLOCK RESOURCE token=T | UNLOCK id=KEY [owner=NAME]", "Ends a lease, or all of a LOCK.",
     RIGHT_LOCK},
    {"RENEW", verb_renew, 0, 1, "token ttl id owner", "",
     "RENEW RESOURCE token=T [ttl=30s] | RENEW id=KEY [owner=NAME] [ttl=30s]",
     "Sets the remaining time of a lease, or of all of a LOCK.", RIGHT_LOCK},
    {"CHECK", verb_check, 1, 1, "token", "", "CHECK RESOURCE token=T",
     "Tells whether a token still holds.", RIGHT_LOCK},
    {"CANCEL", verb_cancel, 0, 0, "tag", "", "CANCEL tag=T",
     "Ends the waiting of a tagged LOCK of this connection.", NEEDS_NAME},
    {"INFO", verb_info, 1, 64, "", "", "INFO RESOURCE...", "Who holds a resource, who waits.",
     RIGHT_READ},
    {"LIST", verb_list, 0, 0, "prefix owner session limit after", "",
     "LIST [prefix=P] [owner=NAME] [session=ID] [limit=100] [after=CURSOR]",
     "Lists leases in the order of their resources.", RIGHT_READ},
    {"TRANSFER", verb_transfer, 1, 1, "token to", "",
     "TRANSFER RESOURCE token=T to=OWNER|session=ID",
     "Gives a lease to somebody else, with a new token.", RIGHT_LOCK},
    {"SESSION", verb_session, 1, 2, "ttl owner note id secret", "",
     "SESSION OPEN [ttl=30s] [owner=NAME] [note=TEXT] [id=KEY] | "
     "SESSION KEEPALIVE|RESUME|CLOSE ID [secret=S]",
     "Opens, renews, takes up or ends a session: one TTL for any number of locks.", RIGHT_LOCK},
    {"RATE", verb_rate, 1, 1, "cost policy limit per burst peek id", "",
     "RATE KEY [cost=1] [policy=NAME | limit=N per=1m [burst=N]] [peek=true] [id=KEY]",
     "Asks for permits of a key under a rate limit.", RIGHT_RATE},
    {"WATCH", verb_watch, 1, 1, "after", "", "WATCH PREFIX [after=SEQ]",
     "Tells what happens to the leases of a resource and of all beneath it.", RIGHT_WATCH},
    {"UNWATCH", verb_unwatch, 1, 1, "", "", "UNWATCH PREFIX", "Ends a WATCH.", RIGHT_WATCH},
    {"FORCE", verb_force, 1, 1, "token reason", "", "FORCE RESOURCE token=T [reason=TEXT]",
     "Ends a lease against its holder's will.", RIGHT_FORCE},
};

enum { VERB_COUNT = sizeof(verbs) / sizeof(verbs[0]) };

static const struct verb *find_verb(struct str name)
{
    for (size_t i = VERB_UNKNOWN + 1; i < VERB_COUNT; i++)
        if (str_is_nocase(name, verbs[i].name))
            return &verbs[i];
    return &verbs[VERB_UNKNOWN];
}

int verb_index(const struct verb *v)
{
    return (int)(v - verbs);
}

const char *verb_name(const struct verb *v)
{
    return v->name;
}

const char *verb_usage(const struct verb *v)
{
    return v->usage;
}

int verb_needs(const struct verb *v)
{
    return v->needs;
}

void verbs_register_metrics(void)
{
    static char names[VERB_COUNT][16];
    static const char *list[VERB_COUNT];
    for (size_t i = 0; i < VERB_COUNT; i++) {
        for (size_t k = 0; k < sizeof(names[i]) - 1 && verbs[i].name[k] != '\0'; k++)
            names[i][k] = (char)tolower((unsigned char)verbs[i].name[k]);
        list[i] = names[i];
    }
    metrics_label_names(LABEL_VERB, list, VERB_COUNT);
}

/* --- from the line to the verb --- */

static bool in_words(const char *words, struct str key)
{
    while (*words != '\0') {
        size_t n = strcspn(words, " ");
        if (n == key.n && strncasecmp(words, key.p, n) == 0)
            return true;
        words += n + (words[n] == ' ');
    }
    return false;
}

static bool check_keys(struct request *r, const struct wire_request *w)
{
    const struct verb *v = r->verb;
    for (size_t i = 0; i < w->npairs; i++) {
        struct str key = w->pairs[i].key;
        if (in_words(v->many, key))
            continue;
        if (!in_words(v->keys, key)) {
            request_fail(r, STATUS_ERR, "unknown_key", "%s has no key %.*s=; usage: %s", v->name,
                         (int)key.n, key.p, v->usage);
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (key.n == w->pairs[k].key.n && strncasecmp(key.p, w->pairs[k].key.p, key.n) == 0) {
                request_fail(r, STATUS_ERR, "bad_request", "%.*s= is given twice", (int)key.n,
                             key.p);
                return false;
            }
        }
    }
    return true;
}

static bool check_args(struct request *r, const struct wire_request *w)
{
    const struct verb *v = r->verb;
    if (v == &verbs[VERB_UNKNOWN]) {
        request_fail(r, STATUS_ERR, "unknown_verb", "there is no verb %.*s; HELP lists the verbs",
                     w->verb.n > 32 ? 32 : (int)w->verb.n, w->verb.p);
        return false;
    }
    if (w->nargs < v->args_min || w->nargs > v->args_max) {
        request_fail(r, STATUS_ERR, "bad_request", "usage: %s", v->usage);
        return false;
    }
    return check_keys(r, w);
}

static bool limits_rate(const struct conn *c)
{
    const struct settings *st = c->server->o.settings;
    return (st->max_request_rate | st->max_request_rate_per_name) != 0;
}

/* What ends something or keeps it alive goes through when other requests do not any more. */
static bool frees_or_keeps(const struct verb *v)
{
    return v->run == verb_unlock || v->run == verb_renew || v->run == verb_session ||
           v->run == verb_cancel || v->run == verb_quit;
}

void verbs_dispatch(struct conn *c, const struct wire_request *w)
{
    bool tag_used = request_by_tag(c, w->tag) != NULL;
    struct request *r = request_new(c, w->tag);
    r->verb = find_verb(w->verb);
    if (tag_used)
        request_fail(r, STATUS_ERR, "tag_in_use", "a request with tag %s is not answered yet",
                     r->tag);
    else if ((!limits_rate(c) || request_rate_allows(r, frees_or_keeps(r->verb))) &&
             check_args(r, w) && request_may_begin(r))
        r->verb->run(r, w);
}

void verbs_bad_line(struct conn *c, struct str tag, const char *code, const char *message)
{
    struct request *r = request_new(c, tag);
    r->verb = &verbs[VERB_BAD_LINE];
    request_fail(r, STATUS_ERR, code, "%s", message);
}

/* --- verbs that need nobody else --- */

static void put_auth(struct json *j, const struct conn *c)
{
    bool on = c->server->identities != NULL;
    json_put_string(j, "auth", on ? STR_LIT("on") : STR_LIT("off"));
    if (!on)
        return;
    json_key(j, "identity");
    if (c->identity)
        json_string(j, c->identity->name);
    else
        json_null(j);
}

static void verb_hello(struct request *r, const struct wire_request *w)
{
    struct conn *c = r->conn;
    const struct server *s = c->server;
    struct str name, key;
    int64_t protocol;
    bool off;
    char instance[16];
    if (!arg_number(r, w, "protocol", 1, 1, 1, &protocol) ||
        !arg_text(r, w, "name", 1, NAME_MAX_BYTES, &name) ||
        !arg_text(r, w, "key", 1, KEY_MAX_BYTES, &key) ||
        !arg_choice(r, w, "events", "off", "on", &off))
        return;
    if (name.p && !str_eq(name, buf_str(&c->name))) {
        buf_clear(&c->name);
        buf_put(&c->name, name.p, name.n);
        request_rate_forget_name(c);
    }
    if ((key.p && !auth_by_key(r, key)) || (!off && !request_is_named(r)))
        return;
    if (wire_value(w, "events"))
        conn_listen(c, !off);
    snprintf(instance, sizeof(instance), "%d", (int)service_instance(s->o.service));
    struct json j = request_begin(r, STATUS_OK);
    json_put_string(&j, "server", STR_LIT("pglockd"));
    json_put_string(&j, "version", str_of(s->o.version));
    json_put_int(&j, "protocol", 1);
    json_put_string(&j, "instance", str_of(instance));
    put_auth(&j, c);
    json_put_int(&j, "ttl_max_ms", s->o.settings->ttl_max_ms);
    json_put_int(&j, "line_max", (int64_t)s->o.settings->line_max);
    request_end(r, STATUS_OK, &j);
}

static void verb_ping(struct request *r, const struct wire_request *w)
{
    (void)w;
    struct json j = request_begin(r, STATUS_OK);
    request_end(r, STATUS_OK, &j);
}

/*
 * When its turn comes: every untagged request before it is answered. The connection ends when the
 * tagged ones are, and those do not wait any longer.
 */
static void quit(struct request *r)
{
    struct conn *c = r->conn;
    struct json j = request_begin(r, STATUS_OK);
    request_end(r, STATUS_OK, &j);
    list_for_each(at, &c->requests) request_end_input(container_of(at, struct request, at));
}

static void verb_quit(struct request *r, const struct wire_request *w)
{
    (void)w;
    r->conn->quitting = true;
    request_start(r, true, quit);
}

static void help_verb(struct json *j, const struct verb *v)
{
    json_begin_object(j);
    json_put_string(j, "verb", str_of(v->name));
    json_put_string(j, "usage", str_of(v->usage));
    json_put_string(j, "help", str_of(v->help));
    json_end_object(j);
}

static void verb_help(struct request *r, const struct wire_request *w)
{
    const struct verb *one = w->nargs == 1 ? find_verb(w->args[0]) : NULL;
    if (one && one->usage == NULL) {
        request_fail(r, STATUS_ERR, "unknown_verb",
                     "there is no verb of that name; HELP lists them");
        return;
    }
    struct json j = request_begin(r, STATUS_OK);
    json_key(&j, "verbs");
    json_begin_array(&j);
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (verbs[i].usage && (one == NULL || one == &verbs[i]))
            help_verb(&j, &verbs[i]);
    json_end_array(&j);
    request_end(r, STATUS_OK, &j);
}
