#include "service/identity_store.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "service/route.h"

static struct identity **identity_bucket(const struct identity_store *s, struct str name)
{
    return (struct identity **)&s->identities[route_hash(name) % IDENTITY_BUCKETS];
}

static struct api_key **key_bucket(const struct identity_store *s, const unsigned char *sha256)
{
    return (struct api_key **)&s->keys[(sha256[0] << 8 | sha256[1]) % IDENTITY_BUCKETS];
}

static struct identity *find_any(const struct identity_store *s, struct str name)
{
    struct identity *i = *identity_bucket(s, name);
    while (i && !str_eq(i->name, name))
        i = i->next;
    return i;
}

/*
 * Looks at each key of the bucket and compares all of it, so that nothing is learned from time. A
 * key that was given to another name is there twice until nobody holds the old one.
 */
static struct api_key *find_any_key(const struct identity_store *s, const unsigned char *sha256)
{
    struct api_key *found = NULL;
    for (struct api_key *k = *key_bucket(s, sha256); k; k = k->next)
        if (secret_same_digest(k->sha256, sha256) && (found == NULL || k->valid))
            found = k;
    return found;
}

/* --- loading --- */

void identity_store_begin(struct identity_store *s)
{
    s->load++;
    s->nidentities = s->nkeys = 0;
}

struct identity *identity_store_put(struct identity_store *s, struct str name)
{
    struct identity *i = find_any(s, name);
    if (i == NULL) {
        struct identity **bucket = identity_bucket(s, name);
        i = xcalloc(1, sizeof(*i) + name.n);
        memcpy(i->text, name.p, name.n);
        i->name = (struct str){i->text, name.n};
        i->next = *bucket;
        *bucket = i;
    }
    right_set_free(&i->rights);
    i->load = s->load;
    i->valid = true;
    s->nidentities++;
    return i;
}

bool identity_store_put_right(struct identity *i, struct str text)
{
    enum right right;
    struct str pattern;
    if (right_parse(text, &right, &pattern) != NULL)
        return false;
    right_set_add(&i->rights, right, pattern);
    return true;
}

void identity_store_put_key(struct identity_store *s, struct identity *i,
                            const unsigned char sha256[static SHA256_BYTES], int64_t expires_us)
{
    struct api_key *k = find_any_key(s, sha256);
    if (k == NULL || k->identity != i) {
        struct api_key **bucket = key_bucket(s, sha256);
        k = xcalloc(1, sizeof(*k));
        memcpy(k->sha256, sha256, SHA256_BYTES);
        k->next = *bucket;
        *bucket = k;
        k->identity = i;
        identity_hold(i);
    }
    k->load = s->load;
    k->valid = true;
    k->expires_us = expires_us;
    s->nkeys++;
}

/* What the load did not name is invalid, and goes when nobody holds it. */
static void drop_keys(struct identity_store *s, struct api_key **at)
{
    while (*at) {
        struct api_key *k = *at;
        k->valid = k->valid && k->load == s->load;
        if (k->valid || k->held > 0) {
            at = &k->next;
            continue;
        }
        *at = k->next;
        identity_let_go(k->identity);
        free(k);
    }
}

static void drop_identities(struct identity_store *s, struct identity **at)
{
    while (*at) {
        struct identity *i = *at;
        i->valid = i->valid && i->load == s->load;
        if (!i->valid)
            right_set_free(&i->rights);
        if (i->valid || i->held > 0) {
            at = &i->next;
            continue;
        }
        *at = i->next;
        free(i);
    }
}

void identity_store_end(struct identity_store *s, int64_t now_us)
{
    s->expires_us = INT64_MIN; /* not known yet */
    identity_store_expire(s, now_us);
    for (size_t b = 0; b < IDENTITY_BUCKETS; b++)
        drop_keys(s, &s->keys[b]);
    for (size_t b = 0; b < IDENTITY_BUCKETS; b++)
        drop_identities(s, &s->identities[b]);
}

bool identity_store_expire(struct identity_store *s, int64_t now_us)
{
    bool any = false;
    if (now_us < s->expires_us)
        return false;
    s->expires_us = INT64_MAX;
    for (size_t b = 0; b < IDENTITY_BUCKETS; b++)
        for (struct api_key *k = s->keys[b]; k; k = k->next) {
            bool over = k->valid && k->expires_us <= now_us;
            k->valid = k->valid && !over;
            any = any || over;
            if (k->valid && k->expires_us < s->expires_us)
                s->expires_us = k->expires_us;
        }
    return any;
}

void identity_store_free(struct identity_store *s)
{
    for (size_t b = 0; b < IDENTITY_BUCKETS; b++) {
        for (struct api_key *k = s->keys[b], *next; k; k = next) {
            next = k->next;
            free(k);
        }
        for (struct identity *i = s->identities[b], *next; i; i = next) {
            next = i->next;
            right_set_free(&i->rights);
            free(i);
        }
    }
    *s = (struct identity_store){0};
}

/* --- finding --- */

struct identity *identity_store_find(const struct identity_store *s, struct str name)
{
    struct identity *i = find_any(s, name);
    return i && i->valid ? i : NULL;
}

struct api_key *identity_store_find_key(const struct identity_store *s, struct str secret,
                                        int64_t now_us)
{
    unsigned char sha256[SHA256_BYTES];
    secret_digest(secret, sha256);
    struct api_key *k = find_any_key(s, sha256);
    return k && k->valid && k->expires_us > now_us ? k : NULL;
}

void identity_hold(struct identity *i)
{
    if (i)
        i->held++;
}

void identity_let_go(struct identity *i)
{
    if (i)
        i->held--;
}

void api_key_hold(struct api_key *k)
{
    if (k == NULL)
        return;
    k->held++;
    k->used = true;
}

void api_key_let_go(struct api_key *k)
{
    if (k)
        k->held--;
}

void identity_store_take_used(struct identity_store *s,
                              void (*fn)(void *arg, const unsigned char *sha256), void *arg)
{
    for (size_t b = 0; b < IDENTITY_BUCKETS; b++)
        for (struct api_key *k = s->keys[b]; k; k = k->next)
            if (k->valid && (k->used || k->held > 0)) {
                k->used = false;
                fn(arg, k->sha256);
            }
}
