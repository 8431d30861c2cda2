# Documents and man pages.

dist_doc_DATA += README.md NEWS.md CONTRIBUTING.md docs/operations.md
dist_man_MANS += docs/man/libpglockd.3 docs/man/pglockctl.1 docs/man/pglockd.ini.5
