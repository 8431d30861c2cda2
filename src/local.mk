# Convenience libraries in the order in which they may include each other: each one knows only
# those before it.
include src/base/local.mk
include src/wire/local.mk
include src/config/local.mk
include src/pg/local.mk
include src/service/local.mk
include src/server/local.mk
include src/client/local.mk
include src/pglockctl/local.mk

# The daemon: start and stop order, nothing else.
bin_PROGRAMS += pglockd
pglockd_SOURCES = src/pglockd.c
pglockd_LDADD = $(program_libs)
