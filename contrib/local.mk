# What is used beside the programs: a systemd unit, alert rules, a dashboard, git hooks.

EXTRA_DIST += contrib/systemd/pglockd.service.in contrib/systemd/pglockd.sysusers
CLEANFILES += contrib/systemd/pglockd.service

contrib/systemd/pglockd.service: contrib/systemd/pglockd.service.in Makefile
	$(AM_V_at)$(MKDIR_P) contrib/systemd
	$(AM_V_GEN)$(SED) -e 's,@bindir[@],$(bindir),g' \
	    $(srcdir)/contrib/systemd/pglockd.service.in >$@.tmp && mv -f $@.tmp $@

# --with-systemdsystemunitdir chooses another place, --without-systemdsystemunitdir none.
if WITH_SYSTEMD
nodist_systemdsystemunit_DATA = contrib/systemd/pglockd.service

sysusersdir = $(prefix)/lib/sysusers.d
install-data-hook:
	$(MKDIR_P) "$(DESTDIR)$(sysusersdir)"
	$(INSTALL_DATA) $(srcdir)/contrib/systemd/pglockd.sysusers \
	    "$(DESTDIR)$(sysusersdir)/pglockd.conf"

uninstall-hook:
	rm -f "$(DESTDIR)$(sysusersdir)/pglockd.conf"
else
noinst_DATA += contrib/systemd/pglockd.service
endif

prometheusdir = $(pkgdatadir)/prometheus
dist_prometheus_DATA = contrib/prometheus/pglockd.rules.yml contrib/prometheus/scrape.yml

grafanadir = $(pkgdatadir)/grafana
dist_grafana_DATA = contrib/grafana/pglockd.json

gitdir = $(pkgdatadir)/git
dist_git_SCRIPTS = contrib/git/pglockd-hook
dist_git_DATA = contrib/git/README.md
