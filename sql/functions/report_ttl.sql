-- pglockd.report_ttl(ttl_ms)
-- Purpose:    a daemon that comes to a server says how long what it has asked for before keeps a resource
--             closed. Where that is longer than what the quiet period under way was opened for, the record
--             was lost with the grants: the quiet period becomes longer.
-- Tables:     clock, server (update)
create or replace function pglockd.report_ttl(p_ttl_ms bigint)
returns void
language plpgsql
as $$
declare
    v_wanted_ms constant bigint := pglockd.lease_end(0, p_ttl_ms) / 1000;
    v_server integer;
    v_opened_ms bigint;
begin
    select s.server_id, s.quiet_ms into v_server, v_opened_ms
      from pglockd.server s order by s.server_id desc limit 1;
    if v_opened_ms = 0 or v_opened_ms >= v_wanted_ms
       or not exists (select from pglockd.clock c where c.one and c.quiet_left_us > 0) then
        return;
    end if;
    -- Of two that come at once the second sees what the first has done.
    select s.quiet_ms into v_opened_ms from pglockd.server s where s.server_id = v_server for update;
    update pglockd.clock c set quiet_left_us = c.quiet_left_us + 1000 * (v_wanted_ms - v_opened_ms)
     where c.one and c.quiet_left_us > 0 and v_opened_ms < v_wanted_ms;
    if found then
        update pglockd.server s set quiet_ms = v_wanted_ms where s.server_id = v_server;
    end if;
end
$$;
comment on function pglockd.report_ttl(bigint) is 'How long what a daemon asked for before it came here keeps a resource closed.';
