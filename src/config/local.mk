# The daemon's settings: between wire (durations, addresses) and pg.
noinst_LIBRARIES += libconfig.a
libconfig_a_CPPFLAGS = $(AM_CPPFLAGS) $(INIH_CFLAGS)
libconfig_a_SOURCES = \
	src/config/file.c \
	src/config/file.h \
	src/config/internal.h \
	src/config/settings.c \
	src/config/settings.h \
	src/config/show.c \
	src/config/sources.c \
	src/config/value.c
