# The only code that includes libpq-fe.h.

noinst_LIBRARIES += libpgl.a
libpgl_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBPQ_CFLAGS)
libpgl_a_SOURCES = \
	src/pg/advisory.h \
	src/pg/array.c \
	src/pg/array.h \
	src/pg/batch.c \
	src/pg/batch.h \
	src/pg/connect.c \
	src/pg/connect.h \
	src/pg/embedded.c \
	src/pg/embedded.h \
	src/pg/embedded_conf.c \
	src/pg/embedded_log.c \
	src/pg/embedded_parts.h \
	src/pg/embedded_programs.c \
	src/pg/embedded_spawn.c \
	src/pg/hosts.c \
	src/pg/hosts.h \
	src/pg/lane.c \
	src/pg/lane.h \
	src/pg/link.c \
	src/pg/link.h \
	src/pg/migrate.c \
	src/pg/migrate.h \
	src/pg/op.h \
	src/pg/query.c \
	src/pg/query.h \
	src/pg/rate_link.c \
	src/pg/rate_link.h \
	src/pg/reader.c \
	src/pg/reader.h \
	src/pg/sql_files.h \
	src/pg/sqlstate.c \
	src/pg/sqlstate.h \
	src/pg/turns.c \
	src/pg/turns.h
nodist_libpgl_a_SOURCES = src/pg/sql_embedded.c
