# Listener, connections, verb table, HTTP.

noinst_LIBRARIES += libserver.a
libserver_a_CPPFLAGS = $(AM_CPPFLAGS) $(MHD_CFLAGS)
libserver_a_SOURCES =
