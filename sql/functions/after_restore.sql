-- pglockd.after_restore(reason)
-- Purpose:    announces that this database was restored from a backup, a snapshot, or in any other way that
--             lost commits: tokens leap above all that were given since, and a quiet period keeps closed what
--             lost grants may cover. To be called before daemons and clients use the database.
-- Parameters: reason   why, kept in pglockd.server
-- Returns:    one row: token, above which the tokens go on; quiet_ms, how long nothing is granted
-- Errors:     42501 without the right.
-- Tables:     those of record_server
create or replace function pglockd.after_restore(reason text)
returns table (token bigint, quiet_ms bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform pglockd.require_right('admin', '*');
    perform pg_advisory_xact_lock(1346849801, 0);
    perform pglockd.record_server('announced', 'by ' || session_user || coalesce(': ' || after_restore.reason, ''),
                                  true, 0, 0);
    return query select s.tokens_to, s.quiet_ms from pglockd.server s order by s.server_id desc limit 1;
end
$$;
comment on function pglockd.after_restore(text) is 'Announces a restored backup: tokens leap, and a quiet period follows.';
