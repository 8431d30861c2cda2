# Listener, connections, verb table, HTTP.

noinst_LIBRARIES += libserver.a
libserver_a_CPPFLAGS = $(AM_CPPFLAGS) $(MHD_CFLAGS) $(GNUTLS_CFLAGS)
libserver_a_SOURCES = \
	src/server/args.c \
	src/server/arrival.c \
	src/server/auth.c \
	src/server/auth_http.c \
	src/server/bound.c \
	src/server/connection.c \
	src/server/events.c \
	src/server/force_verb.c \
	src/server/handshake.c \
	src/server/http.c \
	src/server/http.h \
	src/server/internal.h \
	src/server/listener.c \
	src/server/lease_verbs.c \
	src/server/lock_args.c \
	src/server/lock_limits.c \
	src/server/lock_verbs.c \
	src/server/loop_lag.c \
	src/server/loop_lag.h \
	src/server/notify.c \
	src/server/notify.h \
	src/server/overview.c \
	src/server/overview.h \
	src/server/page_html.h \
	src/server/query_verbs.c \
	src/server/rate_verbs.c \
	src/server/request.c \
	src/server/request_rate.c \
	src/server/server.c \
	src/server/server.h \
	src/server/session_verbs.c \
	src/server/slow_log.c \
	src/server/stats.c \
	src/server/status_page.c \
	src/server/status_page.h \
	src/server/status_verb.c \
	src/server/tls.c \
	src/server/tls.h \
	src/server/trend.c \
	src/server/trend.h \
	src/server/verbs.c \
	src/server/watch_verbs.c

# The status page as C; as a file it can be opened and changed without a build.
nodist_libserver_a_SOURCES = src/server/page_html.c
EXTRA_DIST += src/server/page.html
CLEANFILES += src/server/page_html.c

src/server/page_html.c: $(srcdir)/src/server/page.html
	$(AM_V_at)$(MKDIR_P) src/server
	$(AM_V_GEN){ echo '#include "server/page_html.h"' && echo 'const unsigned char page_html[] = {' && \
	    od -An -v -tu1 $(srcdir)/src/server/page.html | sed 's/[0-9]\{1,\}/&,/g' && \
	    echo '};' && echo 'const size_t page_html_size = sizeof(page_html);'; } >$@.tmp && mv -f $@.tmp $@
