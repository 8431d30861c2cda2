# Documents and man pages.

dist_doc_DATA += README.md NEWS.md CONTRIBUTING.md docs/architecture.md \
    docs/fencing.md docs/files.md docs/metrics.md docs/operations.md docs/performance.md \
    docs/protocol.md docs/rate-limits.md docs/schema.md docs/security.md
dist_man_MANS += docs/man/libpglockd.3 docs/man/pglockctl.1 docs/man/pglockd.8 \
    docs/man/pglockd.ini.5

adrdir = $(docdir)/adr
dist_adr_DATA = docs/adr/README.md docs/adr/0001-distributed-file-locking.md \
    docs/adr/0002-one-by-one-with-a-short-cut.md \
    docs/adr/0003-permits-in-advance.md \
    docs/adr/0004-metrics-a-row-a-flush.md \
    docs/adr/0005-failover.md \
    docs/adr/0006-names-keys-and-rights.md \
    docs/adr/0007-trees.md

transcriptsdir = $(docdir)/transcripts
dist_transcripts_DATA = \
    docs/transcripts/README.md \
    docs/transcripts/01-hello.txt \
    docs/transcripts/02-lock.txt \
    docs/transcripts/03-lost.txt \
    docs/transcripts/04-waiting.txt \
    docs/transcripts/05-shared.txt \
    docs/transcripts/06-repeat.txt \
    docs/transcripts/07-looking.txt \
    docs/transcripts/08-errors.txt \
    docs/transcripts/09-faults.txt \
    docs/transcripts/10-limits.txt \
    docs/transcripts/11-events.txt \
    docs/transcripts/12-rate.txt \
    docs/transcripts/13-sessions.txt \
    docs/transcripts/14-trees.txt \
    docs/transcripts/15-sets.txt \
    docs/transcripts/16-semaphores.txt \
    docs/transcripts/17-modes.txt \
    docs/transcripts/18-deadlock.txt \
    docs/transcripts/19-keys.txt \
    docs/transcripts/20-fenced.txt \
    docs/transcripts/21-watch.txt
