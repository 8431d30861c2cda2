# libpglockd, the client library. Only pglockd_* leaves it (the symbol map); its own tests link the
# convenience library that it is made of.
# LIBPGLOCKD_VERSION is current:revision:age as the libtool manual counts it, not the version of
# the release. Interface added: current+1, age+1, revision 0. Removed or changed: current+1, age 0,
# revision 0. Neither: revision+1.

LIBPGLOCKD_VERSION = 0:0:0
libpglockd_cflags = -std=gnu11 -pthread $(WARN_CFLAGS) $(HARDEN_CFLAGS) $(SANITIZE_CFLAGS)

noinst_LTLIBRARIES += libclient.la
libclient_la_SOURCES = \
    src/client/address.c \
    src/client/address.h \
    src/client/cbuf.c \
    src/client/cbuf.h \
    src/client/conn.c \
    src/client/conn.h \
    src/client/handle.c \
    src/client/handle.h \
    src/client/keep.c \
    src/client/lease.h \
    src/client/lock.c \
    src/client/reply.c \
    src/client/reply.h \
    src/client/request.c \
    src/client/tls.c \
    src/client/tls.h \
    src/client/watch.c \
    src/client/watch.h
libclient_la_CFLAGS = $(libpglockd_cflags) $(CJSON_CFLAGS) $(GNUTLS_CFLAGS)
libclient_la_LIBADD = $(CJSON_LIBS) $(GNUTLS_LIBS)

lib_LTLIBRARIES += libpglockd.la
include_HEADERS += src/client/pglockd.h
pkgconfig_DATA = src/client/pglockd.pc
libpglockd_la_SOURCES =
libpglockd_la_CFLAGS = $(libpglockd_cflags)
libpglockd_la_LIBADD = libclient.la
# nodelete: a thread of the library may outlive a dlclose().
libpglockd_la_LDFLAGS = $(HARDEN_LDFLAGS) $(SANITIZE_CFLAGS) -pthread \
    -version-info $(LIBPGLOCKD_VERSION) -Wl,-z,nodelete \
    -Wl,--version-script=$(top_srcdir)/src/client/libpglockd.map
EXTRA_libpglockd_la_DEPENDENCIES = src/client/libpglockd.map

# The example of the manual: compiled so that it cannot rot.
check_PROGRAMS += src/client/example
src_client_example_SOURCES = src/client/example.c
src_client_example_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/src/client
src_client_example_LDADD = libpglockd.la

EXTRA_DIST += src/client/libpglockd.map
