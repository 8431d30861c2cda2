# SQL that is embedded into the programs and installed. The directories are the list: a file that
# is put there is built in. So the rules look at every make, and leave an output alone that would
# be the same.

sql_generate = $(SHELL) $(srcdir)/sql/generate.sh
sql_update = { if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi; }

.PHONY: sql-look
sql-look:

src/pg/sql_embedded.c: sql-look
	$(AM_V_at)$(MKDIR_P) src/pg
	$(AM_V_GEN)$(sql_generate) c $(srcdir)/sql >$@.tmp && $(sql_update)

sql/install.sql: sql-look
	$(AM_V_at)$(MKDIR_P) sql
	$(AM_V_GEN)$(sql_generate) install $(srcdir)/sql >$@.tmp && $(sql_update)

sql/upgrade.sql: sql-look
	$(AM_V_at)$(MKDIR_P) sql
	$(AM_V_GEN)$(sql_generate) upgrade $(srcdir)/sql >$@.tmp && $(sql_update)

sqldir = $(pkgdatadir)/sql
dist_sql_DATA = sql/bootstrap.sql sql/roles.sql
nodist_sql_DATA = sql/install.sql sql/upgrade.sql

EXTRA_DIST += sql/functions sql/generate.sh sql/migrations
CLEANFILES += src/pg/sql_embedded.c sql/install.sql sql/upgrade.sql

# The single files are installed as well: for reading, and for who runs them one by one.
install-data-local:
	for d in migrations functions; do \
	    $(MKDIR_P) "$(DESTDIR)$(sqldir)/$$d" || exit 1; \
	    for f in $(srcdir)/sql/$$d/*.sql; do \
	        test ! -f "$$f" || $(INSTALL_DATA) "$$f" "$(DESTDIR)$(sqldir)/$$d" || exit 1; \
	    done; \
	done

uninstall-local:
	for d in migrations functions; do \
	    for f in $(srcdir)/sql/$$d/*.sql; do \
	        rm -f "$(DESTDIR)$(sqldir)/$$d/$${f##*/}"; \
	    done; \
	    rmdir "$(DESTDIR)$(sqldir)/$$d" 2>/dev/null || :; \
	done
