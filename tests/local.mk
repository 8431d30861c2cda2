# Every test program speaks TAP, so that `make check` and run-tests.sh count single tests, not
# programs. Check writes TAP when CK_TAP_LOG_FILE_NAME asks for it.

LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
AM_LOG_DRIVER_FLAGS = --merge
AM_TESTS_ENVIRONMENT = \
    CK_TAP_LOG_FILE_NAME=-; CK_VERBOSITY=silent; \
    SRCDIR='$(abs_top_srcdir)'; BUILDDIR='$(abs_top_builddir)'; PG_BINDIR='$(PG_BINDIR)'; \
    PGLOCKD='$(abs_top_builddir)/pglockd'; PGLOCKCTL='$(abs_top_builddir)/pglockctl'; \
    export CK_TAP_LOG_FILE_NAME CK_VERBOSITY SRCDIR BUILDDIR PG_BINDIR PGLOCKD PGLOCKCTL;

# What a unit test links unless it says otherwise.
program_libs = libserver.a libservice.a libpgl.a libconfig.a libwire.a libbase.a \
    $(LIBPQ_LIBS) $(MHD_LIBS) $(GNUTLS_LIBS) $(CJSON_LIBS) $(INIH_LIBS) $(EV_LIBS)
LDADD = $(program_libs) $(CHECK_LIBS)

# --- unit tests: tests/unit/check_NAME.c becomes a program by being named here -------------------

unit_tests = \
    tests/unit/check_address \
    tests/unit/check_array \
    tests/unit/check_batch \
    tests/unit/check_buf \
    tests/unit/check_client \
    tests/unit/check_client_net \
    tests/unit/check_conninfo \
    tests/unit/check_ctl \
    tests/unit/check_duration \
    tests/unit/check_hosts \
    tests/unit/check_identity \
    tests/unit/check_json \
    tests/unit/check_line \
    tests/unit/check_log \
    tests/unit/check_metrics \
    tests/unit/check_metrics_doc \
    tests/unit/check_path \
    tests/unit/check_rate \
    tests/unit/check_resource \
    tests/unit/check_right \
    tests/unit/check_samples \
    tests/unit/check_settings \
    tests/unit/check_slab \
    tests/unit/check_tally \
    tests/unit/check_turns \
    tests/unit/check_utf8
EXTRA_DIST += tests/unit/unit.h tests/bench/bench.sh tests/bench/claims.py tests/bench/fairness.py \
    tests/bench/history.py tests/bench/leases.py tests/bench/metrics.py tests/bench/views.py

if HAVE_CHECK
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif

# The client library's own parts are not in its symbol map: these link what it is made of.
ctl_test_ldadd = libctl.a libclient.la $(program_libs) $(UTF8PROC_LIBS) $(CHECK_LIBS) -lm
tests_unit_check_client_LDADD = $(ctl_test_ldadd)
tests_unit_check_ctl_LDADD = $(ctl_test_ldadd)
tests_unit_check_path_LDADD = $(ctl_test_ldadd)
tests_unit_check_client_net_LDADD = $(ctl_test_ldadd)
tests_unit_check_client_net_CFLAGS = $(AM_CFLAGS) -pthread

# --- fuzzing: the corpus with any compiler here, new inputs with clang in make check-fuzz ---------

check_PROGRAMS += tests/fuzz/replay
TESTS += tests/fuzz/replay
tests_fuzz_replay_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_grammar.c tests/fuzz/fuzz_line.c \
    tests/fuzz/fuzz_note.c tests/fuzz/fuzz_path.c tests/fuzz/fuzz_reply.c \
    tests/fuzz/fuzz_settings.c tests/fuzz/replay.c
tests_fuzz_replay_LDADD = libctl.a libclient.la $(program_libs) $(UTF8PROC_LIBS)
EXTRA_DIST += tests/fuzz/run tests/fuzz/libfuzzer.c tests/fuzz/corpus

FUZZ_SECONDS = 10
.PHONY: check-fuzz
check-fuzz: $(BUILT_SOURCES)
	FUZZ_SECONDS='$(FUZZ_SECONDS)' CPPFLAGS='$(INIH_CFLAGS) $(CJSON_CFLAGS) $(UTF8PROC_CFLAGS)' \
	    $(srcdir)/tests/fuzz/run $(srcdir) $(abs_top_builddir)

# --- HTTP on a real socket; needs no PostgreSQL -------------------------------------------------

http_tests = tests/integration/check_http

if HAVE_CHECK
check_PROGRAMS += $(http_tests)
TESTS += $(http_tests)
endif

# --- tests against a real PostgreSQL; skipped where none is installed ---------------------------

# The script's TAP says everything, its exit status nothing more.
TEST_EXTENSIONS = .sh
SH_LOG_DRIVER = $(LOG_DRIVER)
AM_SH_LOG_DRIVER_FLAGS = --merge --ignore-exit

TESTS += tests/run-integration.sh

# C programs that test src/pg against servers of their own, below everything else.
pg_tests = tests/integration/check_embedded tests/integration/check_migrate
pg_test_fixture = tests/integration/pg_fixture.c tests/integration/pg_fixture.h
pg_test_cppflags = $(AM_CPPFLAGS) $(LIBPQ_CFLAGS) $(CHECK_CFLAGS)
pg_test_ldadd = libpgl.a libbase.a $(LIBPQ_LIBS) $(CHECK_LIBS)

tests_integration_check_embedded_SOURCES = tests/integration/check_embedded.c $(pg_test_fixture)
tests_integration_check_embedded_CPPFLAGS = $(pg_test_cppflags)
tests_integration_check_embedded_LDADD = $(pg_test_ldadd)

tests_integration_check_migrate_SOURCES = tests/integration/check_migrate.c $(pg_test_fixture)
tests_integration_check_migrate_CPPFLAGS = $(pg_test_cppflags)
tests_integration_check_migrate_LDADD = $(pg_test_ldadd)

# Faults for so long, beside load; some of them are injected by test_fault_harness.py in every run.
FAULT_SECONDS = 90
FAULT_SEED =
.PHONY: check-faults
check-faults: all
	SRCDIR='$(abs_top_srcdir)' BUILDDIR='$(abs_top_builddir)' PG_BINDIR='$(PG_BINDIR)' \
	    FAULT_SECONDS='$(FAULT_SECONDS)' FAULT_SEED='$(FAULT_SEED)' $(srcdir)/tests/check-faults.sh

# Models of the rules, searched exhaustively; skipped where spin is missing.
TESTS += tests/model/run-models.sh
EXTRA_DIST += tests/model/run-models.sh tests/model/failover.pml tests/model/lease_clock.pml \
    tests/model/queue.pml

# The script that embeds the SQL files.
TESTS += tests/unit/test_generate.sh
EXTRA_DIST += tests/unit/test_generate.sh

if HAVE_CHECK
check_PROGRAMS += $(pg_tests)
TESTS += $(pg_tests)
endif
CLEANFILES += tests/faults.txt tests/integration.xml tests/integration.lock

EXTRA_DIST += \
    tests/.clang-tidy \
    tests/installcheck.sh \
    tests/check-faults.sh \
    tests/environment.sh \
    tests/run-integration.sh \
    tests/pytest.ini \
    tests/tap_plugin.py \
    tests/conftest.py \
    tests/desk.py \
    tests/reference.py \
    tests/schema.py \
    tests/ways.py \
    tests/integration/cluster.py \
    tests/integration/fake_daemon.py \
    tests/integration/fault_checks.py \
    tests/integration/fault_harness.py \
    tests/integration/fault_kinds.py \
    tests/integration/fault_record.py \
    tests/integration/fault_watch.py \
    tests/integration/fault_worker.py \
    tests/integration/browser.py \
    tests/integration/history.py \
    tests/integration/lines.py \
    tests/integration/pki.py \
    tests/integration/pace.py \
    tests/integration/proxy.py \
    tests/integration/test_bind.py \
    tests/integration/test_cli.py \
    tests/integration/test_contrib.py \
    tests/integration/test_desk.py \
    tests/integration/test_documents.py \
    tests/integration/test_events.py \
    tests/integration/test_failover.py \
    tests/integration/test_fault_harness.py \
    tests/integration/test_faults.py \
    tests/integration/test_files.py \
    tests/integration/test_hostile.py \
    tests/integration/test_limits.py \
    tests/integration/test_process.py \
    tests/integration/test_tls.py \
    tests/integration/test_force.py \
    tests/integration/test_force_many.py \
    tests/integration/test_git.py \
    tests/integration/test_fence.py \
    tests/integration/test_grace.py \
    tests/integration/test_hold.py \
    tests/integration/test_history.py \
    tests/integration/test_injection.py \
    tests/integration/test_isolation.py \
    tests/integration/test_isolation_claims.py \
    tests/integration/test_keys.py \
    tests/integration/test_lease_clock.py \
    tests/integration/test_lost_replies.py \
    tests/integration/test_metrics.py \
    tests/integration/test_page.py \
    tests/integration/test_property.py \
    tests/integration/test_protocol.py \
    tests/integration/test_queue_order.py \
    tests/integration/rate_load.py \
    tests/integration/test_questions.py \
    tests/integration/test_rate.py \
    tests/integration/test_rate_limits.py \
    tests/integration/test_reference_daemons.py \
    tests/integration/test_rights.py \
    tests/integration/test_run.py \
    tests/integration/test_sessions.py \
    tests/integration/test_start.py \
    tests/integration/test_status.py \
    tests/integration/test_supervision.py \
    tests/integration/test_top.py \
    tests/integration/test_transcripts.py \
    tests/integration/test_two_daemons.py \
    tests/integration/test_watch.py \
    tests/prometheus/pglockd_test.yml \
    tests/sql/test_failover_functions.py \
    tests/sql/test_fence_functions.py \
    tests/sql/test_functions.py \
    tests/sql/test_history_functions.py \
    tests/sql/test_locked_rows.py \
    tests/sql/test_metric_functions.py \
    tests/sql/test_rate_functions.py \
    tests/sql/test_reference_sql.py \
    tests/sql/test_roles.py \
    tests/sql/test_views.py \
    tests/sql/test_watch_functions.py

# --- what was installed -------------------------------------------------------------------------

# The example needs the sanitizer's flags to link against a sanitized library.
installcheck-local:
	CC='$(CC) $(SANITIZE_CFLAGS)' SRCDIR='$(abs_top_srcdir)' DESTDIR='$(DESTDIR)' \
	    VERSION='$(VERSION)' bindir='$(bindir)' libdir='$(libdir)' sqldir='$(sqldir)' \
	    $(SHELL) $(srcdir)/tests/installcheck.sh
