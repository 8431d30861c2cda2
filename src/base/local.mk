noinst_LIBRARIES += libbase.a
libbase_a_CPPFLAGS = $(AM_CPPFLAGS) $(GNUTLS_CFLAGS)
libbase_a_SOURCES = \
	src/base/buf.c \
	src/base/buf.h \
	src/base/clock.c \
	src/base/clock.h \
	src/base/codepoint.c \
	src/base/codepoint.h \
	src/base/json.c \
	src/base/json.h \
	src/base/list.h \
	src/base/log.c \
	src/base/log.h \
	src/base/metrics.c \
	src/base/metrics.def \
	src/base/metrics.h \
	src/base/metrics_process.c \
	src/base/metrics_process.h \
	src/base/metrics_text.c \
	src/base/metrics_text.h \
	src/base/pace.h \
	src/base/process.c \
	src/base/process.h \
	src/base/secret.c \
	src/base/secret.h \
	src/base/slab.c \
	src/base/slab.h \
	src/base/str.h \
	src/base/tally.c \
	src/base/tally.h \
	src/base/xalloc.c \
	src/base/xalloc.h
