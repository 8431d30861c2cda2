/* Names of files: the pure part of pglockctl path. */

#include <stdio.h>

#include "pglockctl/path_name.h"
#include "pglockctl/path_resolve.h"
#include "unit.h"
#include "wire/resource.h"

static const struct path_rules keep = {0}, nfc = {.nfc = true};
static const struct path_rules fold = {.fold_case = true}, both = {.fold_case = true, .nfc = true};

/* The name of a path, in a buffer that the next call overwrites. */
static struct str encode(const struct path_rules *rules, struct str path)
{
    static struct buf out;
    char *exact = unit_exact(path);

    buf_clear(&out);
    path_encode(&out, rules, (struct str){exact, path.n});
    free(exact);
    return buf_str(&out);
}

START_TEST(names)
{
    static const struct path_rules shop = {.prefix = {"shop/x", 6}, .nfc = true};
    static const struct {
        const struct path_rules *rules;
        struct str path, name;
    } rows[] = {
        {&keep, STR_LIT("a/b.c"), STR_LIT("a/b.c")},
        {&keep, STR_LIT(""), STR_LIT("")},
        {&shop, STR_LIT(""), STR_LIT("shop/x")},
        {&shop, STR_LIT("a"), STR_LIT("shop/x/a")},
        {&keep, STR_LIT("100%"), STR_LIT("100%25")},
        {&keep, STR_LIT("%41/\n"), STR_LIT("%2541/%0A")},
        {&keep, STR_LIT("\x01\x7f\xc2\x85"), STR_LIT("%01%7F%C2%85")},
        {&keep, STR_LIT("\xff/\xc3/\xc3\xa9"), STR_LIT("%FF/%C3/\xc3\xa9")},
        /* overlong, a surrogate, too large: no UTF-8 */
        {&keep, STR_LIT("\xc0\xaf"), STR_LIT("%C0%AF")},
        {&keep, STR_LIT("\xed\xa0\x80"), STR_LIT("%ED%A0%80")},
        {&keep, STR_LIT("\xf4\x90\x80\x80"), STR_LIT("%F4%90%80%80")},
        {&keep, STR_LIT("e\xcc\x81"), STR_LIT("e\xcc\x81")},
        {&nfc, STR_LIT("e\xcc\x81"), STR_LIT("\xc3\xa9")},
        {&nfc, STR_LIT("\xe2\x84\xaa"), STR_LIT("K")},                        /* the Kelvin sign */
        {&nfc, STR_LIT("\xe0\xa5\x98"), STR_LIT("\xe0\xa4\x95\xe0\xa4\xbc")}, /* not composed */
        {&nfc, STR_LIT("E\xcc\x81"), STR_LIT("\xc3\x89")},
        {&fold, STR_LIT("E\xcc\x81"), STR_LIT("e\xcc\x81")},
        {&both, STR_LIT("E\xcc\x81"), STR_LIT("\xc3\xa9")},
        {&both, STR_LIT("\xc3\x9f"), STR_LIT("ss")},
        {&both,
         STR_LIT("a\xc2\xad"
                 "B"),
         STR_LIT("ab")}, /* a soft hyphen */
        {&both, STR_LIT(".\xc2\xad"), STR_LIT(".\xc2\xad")},
        {&both, STR_LIT("\xe2\x80\x8b"), STR_LIT("\xe2\x80\x8b")},
        /* what is no UTF-8 stays as it is, its neighbour does not */
        {&both, STR_LIT("E\xff/E"), STR_LIT("E%FF/e")},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_bytes(encode(rows[i].rules, rows[i].path), rows[i].name, rows[i].path.p);
}
END_TEST

/* Every two of a row are one file where case and normalisation do not count. */
START_TEST(spellings_fold_to_one)
{
    static const char *const rows[][3] = {
        {"Ma\xc3\x9f"
         "e",
         "MASSE",
         "ma\xe1\xba\x9e"
         "e"},
        {"\xce\xa3", "\xcf\x83", "\xcf\x82"},
        /* alpha, iota below and acute in every order and composition (D145) */
        {"\xe1\xbe\xb4", "\xce\xb1\xcd\x85\xcc\x81", "\xce\x91\xcc\x81\xcd\x85"},
        {"\xc3\x85", "A\xcc\x8a", "\xe2\x84\xab"}, /* the Angstrom sign */
        {"\xea\xb0\x81", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x80\xe1\x86\xa8"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf first = {0};
        path_encode(&first, &both, str_of(rows[i][0]));
        for (size_t k = 1; k < COUNT(rows[i]); k++)
            ck_assert_bytes(encode(&both, str_of(rows[i][k])), buf_str(&first), rows[i][k]);
        buf_free(&first);
    }
}
END_TEST

/* A path of few and awkward characters; no segment is empty, "." or "..". */
static void make_path(struct unit_random *random, struct buf *path)
{
    static const char *const parts[] = {"%",
                                        "2",
                                        "F",
                                        "a",
                                        "A",
                                        ".a",
                                        "\x01",
                                        "\xff",
                                        "\xc3",
                                        "\xa9",
                                        "\xcc\x81",
                                        "\xcd\x85",
                                        "\xc2\xad",
                                        "\xc2\x85",
                                        "\xc3\x9f",
                                        "e",
                                        "\xf0\x9f\x94\x92"};
    size_t segments = 1 + unit_below(random, 4);

    for (size_t i = 0; i < segments; i++) {
        if (i > 0)
            buf_putc(path, '/');
        for (size_t n = 1 + unit_below(random, 6); n > 0; n--)
            buf_puts(path, parts[unit_below(random, COUNT(parts))]);
    }
}

/*
 * Names are resources, can be turned back, and are their own names; what is beneath a directory is
 * beneath its name.
 */
START_TEST(names_keep_what_they_stand_for)
{
    const struct path_rules *const all[] = {&keep, &nfc, &fold, &both};
    struct unit_random random = {3};

    for (int round = 0; round < 20000; round++) {
        const struct path_rules *rules = all[round % 4];
        struct buf path = {0}, name = {0}, back = {0}, scratch = {0};

        make_path(&random, &path);
        path_encode(&name, rules, buf_str(&path));
        ck_assert_ptr_null(path_check(buf_str(&name), &scratch));
        ck_assert(path_decode(&back, buf_str(&name)));
        if (rules == &keep)
            ck_assert_bytes(buf_str(&back), buf_str(&path), "turned back");
        ck_assert_bytes(encode(rules, buf_str(&back)), buf_str(&name), "named again");
        for (size_t i = 0; i < path.len; i++)
            if (path.data[i] == '/')
                ck_assert(
                    resource_covers(encode(rules, (struct str){path.data, i}), buf_str(&name)));
        buf_free(&path);
        buf_free(&name);
        buf_free(&back);
        buf_free(&scratch);
    }
}
END_TEST

START_TEST(other_names_are_not_turned_back)
{
    static const char *const rows[] = {"%",   "a%",  "%4",  "%41",    "%2f",     "%2F",
                                       "%00", "%GG", "%0a", "%C3%A9", "a%2541%", "%E2%82%AC"};

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf path = {0};
        ck_assert_msg(!path_decode(&path, str_of(rows[i])), "%s", rows[i]);
        buf_free(&path);
    }
}
END_TEST

START_TEST(what_does_not_fit_is_explained)
{
    char bytes[600];
    struct buf scratch = {0};

    memset(bytes, 'x', sizeof(bytes));
    ck_assert_ptr_null(path_check((struct str){bytes, 512}, &scratch));
    ck_assert_ptr_nonnull(strstr(path_check((struct str){bytes, 513}, &scratch), "has 513 bytes"));
    for (size_t i = 1; i < 66; i += 2)
        bytes[i] = '/';
    ck_assert_ptr_null(path_check((struct str){bytes, 63}, &scratch));
    ck_assert_ptr_nonnull(strstr(path_check((struct str){bytes, 65}, &scratch), "has 33 segments"));
    ck_assert_ptr_nonnull(strstr(path_check(STR_LIT(""), &scratch), "--prefix"));
    buf_free(&scratch);
}
END_TEST

START_TEST(under)
{
    static const struct {
        const char *top, *path, *rest; /* NULL: not beneath */
    } rows[] = {
        {"/a/b", "/a/b", ""},     {"/a/b", "/a/b/c/d", "c/d"},
        {"/a/b", "/a/bc", NULL},  {"/a/b", "/a", NULL},
        {"", "/a", "a"},          {"", "", ""},
        {"shop", "shop/x", "x"},  {"shop", "shopper", NULL},
        {"shop", "x/shop", NULL},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str rest = path_under(str_of(rows[i].top), str_of(rows[i].path));
        if (rows[i].rest)
            ck_assert_bytes(rest, str_of(rows[i].rest), rows[i].path);
        ck_assert_msg((rest.p == NULL) == (rows[i].rest == NULL), "row %zu", i);
    }
}
END_TEST

START_TEST(trees_stay_together_in_order)
{
    static const char *const sorted[] = {"a", "a/b", "a/b/c", "a/b-c", "a-b", "a0", "\xc3\xa9"};

    for (size_t i = 0; i < COUNT(sorted); i++)
        for (size_t k = 0; k < COUNT(sorted); k++) {
            int order = path_compare(sorted[i], sorted[k]);
            ck_assert_msg(i < k   ? order < 0
                          : i > k ? order > 0
                                  : order == 0,
                          "%s %s", sorted[i], sorted[k]);
        }
}
END_TEST

START_TEST(paths_as_they_are_written)
{
    static const struct {
        const char *file, *path;
    } rows[] = {
        {"x", "/cwd/d/x"},
        {"./x//y/", "/cwd/d/x/y"},
        {"..", "/cwd"},
        {"../../../../x", "/x"},
        {"/", ""},
        {"//a/../b/.", "/b"},
        {"...", "/cwd/d/..."},
        {".", "/cwd/d"},
        {"/..", ""},
        {"a/../../b/..", "/cwd"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf path = {0}, err = {0};
        buf_puts(&path, "/cwd/d");
        ck_assert(path_resolve(&path, rows[i].file, false, &err));
        ck_assert_str_eq(buf_cstr(&path), rows[i].path);
        buf_free(&path);
        buf_free(&err);
    }
}
END_TEST

UNIT_MAIN("path", names, spellings_fold_to_one, names_keep_what_they_stand_for,
          other_names_are_not_turned_back, what_does_not_fit_is_explained, under,
          trees_stay_together_in_order, paths_as_they_are_written)
