# Locks and what surrounds them, on top of src/pg.

noinst_LIBRARIES += libservice.a
libservice_a_SOURCES = \
	src/service/call.h \
	src/service/events.c \
	src/service/events.h \
	src/service/instance.c \
	src/service/janitor.c \
	src/service/locks.c \
	src/service/locks.h \
	src/service/route.c \
	src/service/route.h \
	src/service/service.c \
	src/service/service.h \
	src/service/state.h
