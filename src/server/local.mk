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
	src/server/query_verbs.c \
	src/server/rate_verbs.c \
	src/server/request.c \
	src/server/request_rate.c \
	src/server/server.c \
	src/server/server.h \
	src/server/session_verbs.c \
	src/server/slow_log.c \
	src/server/stats.c \
	src/server/tls.c \
	src/server/tls.h \
	src/server/verbs.c
