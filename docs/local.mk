# Documents and man pages.

dist_doc_DATA += README.md NEWS.md CONTRIBUTING.md docs/operations.md docs/protocol.md \
    docs/architecture.md
dist_man_MANS += docs/man/libpglockd.3 docs/man/pglockctl.1 docs/man/pglockd.8 \
    docs/man/pglockd.ini.5

adrdir = $(docdir)/adr
dist_adr_DATA = docs/adr/README.md docs/adr/0001-distributed-file-locking.md \
    docs/adr/0002-one-by-one-with-a-short-cut.md
