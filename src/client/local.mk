# libpglockd, the client library. Only pglockd_* leaves it (the symbol map).
# LIBPGLOCKD_VERSION is current:revision:age as the libtool manual counts it, not the version of
# the release. Interface added: current+1, age+1, revision 0. Removed or changed: current+1, age 0,
# revision 0. Neither: revision+1.

# LIBPGLOCKD_VERSION = 0:0:0
# lib_LTLIBRARIES += libpglockd.la
# include_HEADERS += src/client/pglockd.h
# pkgconfig_DATA = src/client/pglockd.pc
# libpglockd_la_SOURCES = \
#     src/client/pglockd.h
# libpglockd_la_CPPFLAGS = $(AM_CPPFLAGS)
# libpglockd_la_CFLAGS = -std=gnu11 $(WARN_CFLAGS) $(HARDEN_CFLAGS) $(SANITIZE_CFLAGS)
# libpglockd_la_LDFLAGS = $(HARDEN_LDFLAGS) -version-info $(LIBPGLOCKD_VERSION) -no-undefined \
#     -Wl,--version-script=$(top_srcdir)/src/client/libpglockd.map
# EXTRA_libpglockd_la_DEPENDENCIES = src/client/libpglockd.map

EXTRA_DIST += src/client/libpglockd.map
