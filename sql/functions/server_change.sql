-- pglockd.server_change()
-- Purpose:    is this server the recorded one?
-- Returns:    null: it is. Else why not, a reason of pglockd.server: first, restart, failover or moved.
-- Errors:     55000 on a standby.
-- Tables:     server (read)
create or replace function pglockd.server_change()
returns text
language plpgsql stable
as $$
begin
    return (select case when s.server_id is null then 'first'
                        when (s.system_identifier, s.database_oid, s.clock_oid)
                             <> (i.system_identifier, i.database_oid, i.clock_oid) then 'moved'
                        when s.timeline <> i.timeline then 'failover'
                        when s.started_at <> i.started_at then 'restart' end
              from pglockd.server_identity() i
              left join (select * from pglockd.server x order by x.server_id desc limit 1) s on true);
end
$$;
comment on function pglockd.server_change() is 'Null when this server is the recorded one, else why it is not.';
