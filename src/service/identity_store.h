#ifndef PGLOCKD_SERVICE_IDENTITY_STORE_H
#define PGLOCKD_SERVICE_IDENTITY_STORE_H

/*
 * The authenticated names and their keys as a daemon knows them. Pure: rows and times are passed
 * in.
 *
 * An identity and a key stay where they are as long as somebody holds them, and turn invalid when
 * they are revoked; an identity's rights are always the ones in force.
 */

#include <stdint.h>

#include "base/secret.h"
#include "wire/right.h"

struct identity {
    struct identity *next; /* in its bucket */
    size_t held;
    bool valid; /* neither unknown nor revoked */
    uint64_t load;
    struct right_set rights;
    struct str name; /* in text */
    char text[];
};

struct api_key {
    struct api_key *next; /* in its bucket */
    size_t held;
    bool valid; /* neither unknown nor revoked nor expired, and its name is valid */
    bool used;  /* since api_keys_take_used() */
    uint64_t load;
    int64_t expires_us; /* INT64_MAX: never */
    struct identity *identity;
    unsigned char sha256[SHA256_BYTES];
};

enum { IDENTITY_BUCKETS = 1024 };

struct identity_store {
    struct identity *identities[IDENTITY_BUCKETS];
    struct api_key *keys[IDENTITY_BUCKETS];
    uint64_t load;
    size_t nidentities, nkeys; /* that are valid */
    int64_t expires_us;        /* when the next of the keys does */
};

/* Everything at once: begin, each identity with its rights and keys, end. */
void identity_store_begin(struct identity_store *s);
struct identity *identity_store_put(struct identity_store *s, struct str name);
/* text as right_parse() wants it; one that it does not take is left out: false. */
bool identity_store_put_right(struct identity *i, struct str text);
void identity_store_put_key(struct identity_store *s, struct identity *i,
                            const unsigned char sha256[static SHA256_BYTES], int64_t expires_us);
void identity_store_end(struct identity_store *s, int64_t now_us);

/* Makes keys invalid whose time is over; true when there were some. */
bool identity_store_expire(struct identity_store *s, int64_t now_us);
void identity_store_free(struct identity_store *s);

/* NULL where there is no valid one. */
struct identity *identity_store_find(const struct identity_store *s, struct str name);
struct api_key *identity_store_find_key(const struct identity_store *s, struct str secret,
                                        int64_t now_us);

/* NULL is fine. What nobody holds any more goes with the next end of a load. */
void identity_hold(struct identity *i);
void identity_let_go(struct identity *i);
void api_key_hold(struct api_key *k); /* also marks it as used */
void api_key_let_go(struct api_key *k);

/* Calls fn for each key that was taken, or held, since it did so last. */
void identity_store_take_used(struct identity_store *s,
                              void (*fn)(void *arg, const unsigned char *sha256), void *arg);

#endif
