-- Functions whose parameters or results have changed: `create or replace` cannot change the one and leaves the other
-- standing beside the new one. They are made again with all others, after the migrations.

drop function if exists pglockd.note_ttl(bigint[], bigint[]);
drop function if exists pglockd.release_batch(integer, text[], bigint[], text[], bigint[], boolean);
drop function if exists pglockd.release_others(integer, text[], bigint[], text[], bigint[], text[], integer[]);
drop function if exists pglockd.explain_unreleased(integer, text[], bigint[], text[], bigint[], integer[]);
