# Locks and what surrounds them, on top of src/pg.

noinst_LIBRARIES += libservice.a
libservice_a_SOURCES = \
	src/service/call.h \
	src/service/chore.c \
	src/service/counts.c \
	src/service/counts.h \
	src/service/events.c \
	src/service/events.h \
	src/service/identities.c \
	src/service/identities.h \
	src/service/identity_store.c \
	src/service/identity_store.h \
	src/service/instance.c \
	src/service/janitor.c \
	src/service/locks.c \
	src/service/locks.h \
	src/service/meter.c \
	src/service/places.c \
	src/service/places.h \
	src/service/rate.c \
	src/service/rate.h \
	src/service/rate_batches.c \
	src/service/rate_calls.c \
	src/service/rate_keys.c \
	src/service/rate_keys.h \
	src/service/rate_math.c \
	src/service/rate_math.h \
	src/service/rate_policy.c \
	src/service/rate_policy.h \
	src/service/rate_refunds.c \
	src/service/rate_state.h \
	src/service/route.c \
	src/service/route.h \
	src/service/samples.c \
	src/service/samples.h \
	src/service/service.c \
	src/service/service.h \
	src/service/state.h \
	src/service/watch.c \
	src/service/watch.h
