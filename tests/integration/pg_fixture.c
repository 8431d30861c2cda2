#include "pg_fixture.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "pg/embedded_parts.h"

static char made[PATH_MAX];
static pid_t made_by;

bool have_postgres(void)
{
    static const struct run_as ourselves = {.name = "tests"};
    struct buf bindir = {0}, err = {0};
    int major;
    bool found = programs_find(NULL, 0, &ourselves, &bindir, &major, &err);
    buf_free(&bindir);
    buf_free(&err);
    return found;
}

int run_or_skip(Suite *suite)
{
    if (!have_postgres()) {
        puts("1..0 # SKIP PostgreSQL is not installed");
        return getenv("CK_TAP_LOG_FILE_NAME") ? 0 : 77;
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void remove_made(void)
{
    static const struct run_as ourselves = {.name = "tests"};
    const char *const argv[] = {"/bin/rm", "-rf", "--", made, NULL};
    if (getpid() == made_by)
        run_as_wait(&ourselves, argv, STDERR_FILENO);
}

const char *temp_dir(void)
{
    snprintf(made, sizeof(made), "/tmp/pglockd-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(made));
    ck_assert_int_eq(chmod(made, 0711), 0);
    made_by = getpid();
    atexit(remove_made);
    return made;
}
