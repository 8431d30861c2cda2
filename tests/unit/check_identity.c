#include "service/identity_store.h"

#include <stdio.h>

#include "base/secret.h"
#include "server/internal.h"
#include "unit.h"

static struct identity_store store;

static void digest(const char *key, unsigned char out[static SHA256_BYTES])
{
    secret_digest(str_of(key), out);
}

/* One name with one right and one key. */
static void put(const char *name, const char *right, const char *key, int64_t expires_us)
{
    unsigned char sha256[SHA256_BYTES];
    struct identity *i = identity_store_put(&store, str_of(name));
    if (right)
        ck_assert(identity_store_put_right(i, str_of(right)));
    digest(key, sha256);
    identity_store_put_key(&store, i, sha256, expires_us);
}

static struct api_key *find(const char *key)
{
    return identity_store_find_key(&store, str_of(key), 0);
}

START_TEST(a_load_is_in_force_as_a_whole)
{
    identity_store_begin(&store);
    put("ann", "lock:a/*", "key-a", INT64_MAX);
    put("ben", NULL, "key-b", INT64_MAX);
    identity_store_end(&store, 0);
    struct api_key *a = find("key-a");
    struct identity *ann = identity_store_find(&store, STR_LIT("ann"));
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_eq(a->identity, ann);
    ck_assert(right_set_covers(&ann->rights, RIGHT_LOCK, STR_LIT("a/x"), false));
    ck_assert_ptr_null(find("key-"));
    ck_assert_ptr_null(find(""));
    ck_assert_ptr_null(identity_store_find(&store, STR_LIT("an")));

    /* the next load has other rights, another key, and no ben */
    api_key_hold(a);
    identity_hold(ann);
    identity_store_begin(&store);
    put("ann", "read:*", "key-2", INT64_MAX);
    identity_store_end(&store, 0);
    ck_assert(!a->valid); /* it stands as long as it is held, and is not found */
    ck_assert_ptr_null(find("key-a"));
    ck_assert_ptr_null(find("key-b"));
    ck_assert_ptr_null(identity_store_find(&store, STR_LIT("ben")));
    ck_assert(ann->valid);
    ck_assert(!right_set_has(&ann->rights, RIGHT_LOCK));
    ck_assert(right_set_has(&ann->rights, RIGHT_READ));
    ck_assert_ptr_eq(find("key-2")->identity, ann);

    /* all is gone; what is held has no right any more */
    identity_store_begin(&store);
    identity_store_end(&store, 0);
    ck_assert(!ann->valid && !right_set_has(&ann->rights, RIGHT_READ));
    api_key_let_go(a);
    identity_let_go(ann);
    identity_store_free(&store);
}
END_TEST

START_TEST(a_revoked_name_that_is_made_anew_does_not_revive_its_keys)
{
    identity_store_begin(&store);
    put("ann", NULL, "old", INT64_MAX);
    identity_store_end(&store, 0);
    struct api_key *old = find("old");
    api_key_hold(old);
    identity_store_begin(&store);
    identity_store_end(&store, 0);
    identity_store_begin(&store);
    put("ann", NULL, "new", INT64_MAX);
    identity_store_end(&store, 0);
    ck_assert(!old->valid);
    ck_assert_ptr_null(find("old"));
    ck_assert_ptr_nonnull(find("new"));
    api_key_let_go(old);
    identity_store_free(&store);
}
END_TEST

START_TEST(a_key_that_is_given_to_another_name)
{
    identity_store_begin(&store);
    put("ann", NULL, "key", INT64_MAX);
    identity_store_end(&store, 0);
    struct api_key *anns = find("key");
    api_key_hold(anns);
    identity_store_begin(&store);
    identity_store_put(&store, STR_LIT("ann"));
    put("ben", NULL, "key", INT64_MAX);
    identity_store_end(&store, 0);
    ck_assert(!anns->valid);
    ck_assert_ptr_ne(find("key"), anns);
    ck_assert_bytes(find("key")->identity->name, STR_LIT("ben"), "whose");
    api_key_let_go(anns);
    identity_store_free(&store);
}
END_TEST

START_TEST(keys_expire)
{
    identity_store_begin(&store);
    put("ann", NULL, "short", 1000);
    put("ann", NULL, "long", INT64_MAX);
    identity_store_end(&store, 0);
    ck_assert_ptr_nonnull(find("short"));
    ck_assert_ptr_null(identity_store_find_key(&store, STR_LIT("short"), 1000));
    ck_assert(!identity_store_expire(&store, 999));
    struct api_key *k = find("short");
    ck_assert(identity_store_expire(&store, 1000));
    ck_assert(!k->valid);
    ck_assert(!identity_store_expire(&store, 1001)); /* once */
    ck_assert_ptr_nonnull(identity_store_find_key(&store, STR_LIT("long"), INT64_MAX - 1));
    identity_store_free(&store);
}
END_TEST

START_TEST(a_right_that_is_none_is_left_out)
{
    identity_store_begin(&store);
    struct identity *i = identity_store_put(&store, STR_LIT("ann"));
    ck_assert(!identity_store_put_right(i, STR_LIT("fly:*")));
    ck_assert(!identity_store_put_right(i, STR_LIT("lock:a*")));
    for (int r = 0; r < RIGHT_COUNT; r++)
        ck_assert(!right_set_has(&i->rights, (enum right)r));
    identity_store_end(&store, 0);
    identity_store_free(&store);
}
END_TEST

static void count_used(void *arg, const unsigned char *sha256)
{
    (void)sha256;
    ++*(int *)arg;
}

static int used(void)
{
    int n = 0;
    identity_store_take_used(&store, count_used, &n);
    return n;
}

START_TEST(use_is_told_once_or_as_long_as_it_lasts)
{
    identity_store_begin(&store);
    put("ann", NULL, "one", INT64_MAX);
    put("ben", NULL, "two", INT64_MAX);
    identity_store_end(&store, 0);
    ck_assert_int_eq(used(), 0);
    api_key_hold(find("one"));
    ck_assert_int_eq(used(), 1);
    ck_assert_int_eq(used(), 1);
    api_key_let_go(find("one"));
    ck_assert_int_eq(used(), 0);
    identity_store_free(&store);
}
END_TEST

START_TEST(many_names)
{
    char name[32];
    for (int load = 0; load < 2; load++) {
        identity_store_begin(&store);
        for (int i = 0; i < 10000; i++) {
            snprintf(name, sizeof(name), "n%d", i);
            put(name, "lock:*", name, INT64_MAX);
        }
        identity_store_end(&store, 0);
    }
    ck_assert_uint_eq(store.nidentities, 10000);
    ck_assert_uint_eq(store.nkeys, 10000);
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        ck_assert_bytes(find(name)->identity->name, str_of(name), "whose");
    }
    identity_store_free(&store);
}
END_TEST

/* --- secrets --- */

START_TEST(secrets)
{
    struct buf a = {0}, b = {0};
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    ck_assert(secret_make(&a) && secret_make(&b));
    ck_assert_uint_eq(a.len, 43); /* 256 bits, 6 a digit */
    ck_assert(!str_eq(buf_str(&a), buf_str(&b)));
    ck_assert_uint_eq(strspn(buf_cstr(&a), digits), a.len);
    /* the last digit holds four bits: its lowest two are not random */
    ck_assert_uint_eq((size_t)(strchr(digits, a.data[42]) - digits) % 4, 0);
    secret_wipe(buf_str(&a));
    for (size_t i = 0; i < a.len; i++)
        ck_assert_int_eq(a.data[i], 0);
    buf_free(&a);
    buf_free(&b);
}
END_TEST

/* From FIPS 180-2. */
START_TEST(digests)
{
    unsigned char abc[SHA256_BYTES], empty[SHA256_BYTES];
    struct buf hex = {0};
    char id[KEY_ID_DIGITS + 1];
    secret_digest(STR_LIT("abc"), abc);
    secret_digest((struct str){0}, empty);
    secret_put_hex(abc, &hex);
    ck_assert_str_eq(buf_cstr(&hex),
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ck_assert_str_eq(secret_key_id(abc, id), "ba7816bf8f01");
    ck_assert(secret_same_digest(abc, abc));
    ck_assert(!secret_same_digest(abc, empty));
    empty[31] ^= 1;
    ck_assert(!secret_same_digest(empty, abc));
    buf_free(&hex);
}
END_TEST

/* --- over HTTP --- */

START_TEST(authorization_headers)
{
    static const struct {
        const char *header, *key;
    } cases[] = {
        {"Bearer pglk_x-_", "pglk_x-_"},
        {"bearer   pglk_x", "pglk_x"},
        {"Basic dTpwZ2xrX3g=", "pglk_x"}, /* u:pglk_x */
        {"basic OnBnbGtfeA==", "pglk_x"}, /* :pglk_x */
        {"Basic dTphOmI=", "a:b"},        /* u:a:b */
        {"Basic cGdsa194", ""},           /* pglk_x, no colon */
        {"Basic !!!!", ""},
        {"Basic ", ""},
        {"Bearer", ""},
        {"Bearer ", ""},
        {"Bearerpglk_x", ""},
        {"Digest pglk_x", ""},
        {"", ""},
        {"pglk_x", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf key = {0};
        char *header = unit_exact(str_of(cases[i].header));
        auth_http_put_key((struct str){header, strlen(cases[i].header)}, &key);
        ck_assert_bytes(buf_str(&key), str_of(cases[i].key), cases[i].header);
        free(header);
        buf_free(&key);
    }
    char text[KEY_HEADER_MAX + 8] = "Bearer ";
    struct buf key = {0};
    memset(text + 7, 'k', sizeof(text) - 8);
    auth_http_put_key(str_of(text), &key);
    ck_assert_uint_eq(key.len, 0);
    buf_free(&key);
}
END_TEST

UNIT_MAIN("identity", a_load_is_in_force_as_a_whole,
          a_revoked_name_that_is_made_anew_does_not_revive_its_keys,
          a_key_that_is_given_to_another_name, keys_expire, a_right_that_is_none_is_left_out,
          use_is_told_once_or_as_long_as_it_lasts, many_names, secrets, digests,
          authorization_headers)
