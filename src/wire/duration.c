#include "wire/duration.h"

#include <inttypes.h>
#include <stdio.h>

enum { DURATION_OUT_MAX = 24 };

static const struct unit {
    const char *name;
    int64_t ms;
} units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

#define UNIT_COUNT (sizeof(units) / sizeof(units[0]))
#define LONGEST_MS (DURATION_MAX_DAYS * INT64_C(86400000))

static const struct unit *find_unit(struct str name)
{
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (str_is(name, units[i].name))
            return &units[i];
    }
    return NULL;
}

/* Digits at the start of s into *number, which stops growing above every duration. */
static size_t read_number(struct str s, int64_t *number)
{
    size_t i = 0;

    *number = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
        if (*number <= LONGEST_MS)
            *number = *number * 10 + (s.p[i] - '0');
    }
    return i;
}

const char *duration_parse(struct str s, int allow_inf, int64_t *ms)
{
    const struct unit *unit;
    int64_t number;
    size_t digits;

    if (str_is(s, "inf")) {
        if (!allow_inf)
            return "\"inf\" is not accepted here: write a duration such as 30s or 5m";
        *ms = DURATION_INF;
        return NULL;
    }
    digits = read_number(s, &number);
    if (digits == 0)
        return "a duration is a whole number with a unit, such as 500ms, 30s, 5m, 2h or 1d";
    if (digits == s.n)
        return "a duration needs a unit: ms, s, m, h or d, such as 30s";
    unit = find_unit((struct str){s.p + digits, s.n - digits});
    if (!unit && s.p[digits] == '.')
        return "a duration is a whole number: write 1500ms, not 1.5s";
    if (!unit)
        return "the unit of a duration is ms, s, m, h or d, with no space before it, such as 30s";
    if (number > LONGEST_MS / unit->ms)
        return "a duration is at most 3650d";
    *ms = number * unit->ms;
    return NULL;
}

char *duration_format(int64_t ms, char out[static 24])
{
    size_t i = 0;

    if (ms == DURATION_INF) {
        memcpy(out, "inf", sizeof("inf"));
    } else if (ms == 0) {
        memcpy(out, "0s", sizeof("0s"));
    } else {
        while (ms % units[i].ms != 0)
            i++;
        snprintf(out, DURATION_OUT_MAX, "%" PRId64 "%s", ms / units[i].ms, units[i].name);
    }
    return out;
}
