# pglockctl: one file a command.

# bin_PROGRAMS += pglockctl
# pglockctl_SOURCES = \
#     src/pglockctl/main.c
# pglockctl_LDADD = libpglockd.la libpgl.a libconfig.a libwire.a libbase.a \
#     $(LIBPQ_LIBS) $(CJSON_LIBS) $(INIH_LIBS)
