noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = \
	src/wire/address.c \
	src/wire/address.h \
	src/wire/conninfo.c \
	src/wire/conninfo.h \
	src/wire/duration.c \
	src/wire/duration.h \
	src/wire/line.c \
	src/wire/line.h \
	src/wire/prefix.c \
	src/wire/prefix.h \
	src/wire/resource.c \
	src/wire/resource.h \
	src/wire/right.c \
	src/wire/right.h \
	src/wire/utf8.c \
	src/wire/utf8.h
