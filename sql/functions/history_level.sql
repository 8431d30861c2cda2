-- pglockd.history_level()
-- Purpose:    which leases the calling session notes in history when they end. Daemons set it from their setting
--             history; SQL callers have what the database or their role says:
--                 alter database app set pglockd.history = 'all'
-- Returns:    off, contended or all. Anything else counts as contended, the default.
create or replace function pglockd.history_level()
returns text
language sql stable
as $$
    select case when current_setting('pglockd.history', true) in ('off', 'all')
                then current_setting('pglockd.history', true) else 'contended' end
$$;
comment on function pglockd.history_level() is 'Which leases the calling session notes in history: off, contended or all.';
