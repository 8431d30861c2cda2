#include "pg/hosts.h"

#include "unit.h"

START_TEST(counts)
{
    static const struct {
        const char *conninfo;
        unsigned count;
    } rows[] = {
        {"", 1},
        {"dbname=d", 1},
        {"host=a", 1},
        {"host=a,b", 2},
        {"host=/run/a,/run/b,c", 3},
        {"host=a hostaddr=10.0.0.1,10.0.0.2", 2},
        {"postgresql://u@a:1,b:2/d?target_session_attrs=read-write", 2},
        {"not a connection string", 1},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(hosts_count(rows[i].conninfo) == rows[i].count, "%s", rows[i].conninfo);
}
END_TEST

static void check_same(const char *got, const char *want)
{
    ck_assert_msg(got == want || (got && want && strcmp(got, want) == 0), "%s, not %s",
                  got ? got : "NULL", want ? want : "NULL");
}

START_TEST(begins_with_another)
{
    static const struct {
        const char *conninfo;
        unsigned first;
        const char *host, *hostaddr, *port;
    } rows[] = {
        {"host=a,b", 0, NULL, NULL, NULL},
        {"host=a,b", 1, "b,a", NULL, NULL},
        {"host=a,b", 2, NULL, NULL, NULL},
        {"host=a,b,c", 5, "c,a,b", NULL, NULL},
        {"host=a", 1, NULL, NULL, NULL},
        {"", 1, NULL, NULL, NULL},
        {"host=a,b port=5432", 1, "b,a", NULL, NULL}, /* one port for both */
        {"host=a,b port=1,2", 1, "b,a", NULL, "2,1"},
        {"host=a,b port=1,", 1, "b,a", NULL, ",1"},
        {"host=a,b hostaddr=10.0.0.1,", 1, "b,a", ",10.0.0.1", NULL},
        {"hostaddr=10.0.0.1,10.0.0.2", 1, NULL, "10.0.0.2,10.0.0.1", NULL},
        {"postgresql://u@a:1,b:2/d", 3, "b,a", NULL, "2,1"},
        {"not a connection string", 1, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct hosts h = hosts_from(rows[i].conninfo, rows[i].first);
        check_same(h.host, rows[i].host);
        check_same(h.hostaddr, rows[i].hostaddr);
        check_same(h.port, rows[i].port);
        hosts_free(&h);
    }
}
END_TEST

UNIT_MAIN("hosts", counts, begins_with_another)
