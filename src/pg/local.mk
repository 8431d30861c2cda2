# The only code that includes libpq-fe.h.

noinst_LIBRARIES += libpgl.a
libpgl_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBPQ_CFLAGS)
libpgl_a_SOURCES =
