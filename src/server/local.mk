# Listener, connections, verb table, HTTP.

noinst_LIBRARIES += libserver.a
libserver_a_CPPFLAGS = $(AM_CPPFLAGS) $(MHD_CFLAGS)
libserver_a_SOURCES = \
	src/server/http.c \
	src/server/http.h \
	src/server/loop_lag.c \
	src/server/loop_lag.h
