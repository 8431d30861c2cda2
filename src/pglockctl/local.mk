# pglockctl: one file a command; the rest is what they share.
bin_PROGRAMS += pglockctl
pglockctl_parts = \
    src/pglockctl/ask.c \
    src/pglockctl/bench.c \
    src/pglockctl/bench_engine.c \
    src/pglockctl/bench_engine.h \
    src/pglockctl/check.c \
    src/pglockctl/ctl.h \
    src/pglockctl/database.c \
    src/pglockctl/database.h \
    src/pglockctl/fields.c \
    src/pglockctl/fields.h \
    src/pglockctl/force.c \
    src/pglockctl/force_many.c \
    src/pglockctl/force_many.h \
    src/pglockctl/hist.c \
    src/pglockctl/hist.h \
    src/pglockctl/info.c \
    src/pglockctl/key.c \
    src/pglockctl/lock.c \
    src/pglockctl/ls.c \
    src/pglockctl/migrate.c \
    src/pglockctl/options.c \
    src/pglockctl/options.h \
    src/pglockctl/others.c \
    src/pglockctl/others.h \
    src/pglockctl/pages.c \
    src/pglockctl/pages.h \
    src/pglockctl/path.c \
    src/pglockctl/path_files.c \
    src/pglockctl/path_files.h \
    src/pglockctl/path_name.c \
    src/pglockctl/path_name.h \
    src/pglockctl/path_resolve.c \
    src/pglockctl/path_resolve.h \
    src/pglockctl/path_root.c \
    src/pglockctl/path_root.h \
    src/pglockctl/proc_cpu.c \
    src/pglockctl/proc_cpu.h \
    src/pglockctl/rate.c \
    src/pglockctl/rate_policy.c \
    src/pglockctl/rate_policy.h \
    src/pglockctl/renew.c \
    src/pglockctl/run.c \
    src/pglockctl/run_command.c \
    src/pglockctl/run_command.h \
    src/pglockctl/run_guard.c \
    src/pglockctl/run_guard.h \
    src/pglockctl/run_leases.c \
    src/pglockctl/run_leases.h \
    src/pglockctl/session.c \
    src/pglockctl/stats.c \
    src/pglockctl/text.c \
    src/pglockctl/text.h \
    src/pglockctl/top.c \
    src/pglockctl/top_screen.c \
    src/pglockctl/top_screen.h \
    src/pglockctl/top_view.c \
    src/pglockctl/top_view.h \
    src/pglockctl/tree.c \
    src/pglockctl/unlock.c \
    src/pglockctl/watch.c \
    src/pglockctl/words.c

pglockctl_SOURCES = src/pglockctl/main.c
pglockctl_LDADD = libctl.a libpglockd.la libpgl.a libconfig.a libwire.a libbase.a \
    $(LIBPQ_LIBS) $(GNUTLS_LIBS) $(CJSON_LIBS) $(INIH_LIBS) $(UTF8PROC_LIBS) -lm

# For the unit tests too.
noinst_LIBRARIES += libctl.a
libctl_a_SOURCES = $(pglockctl_parts)
libctl_a_CFLAGS = $(AM_CFLAGS) $(CJSON_CFLAGS) $(UTF8PROC_CFLAGS) -pthread
