-- pglockd.open_queue_epoch()
-- Purpose:    after a crash of the server the unlogged queue is empty and its waiters are known to their
--             daemons only. Whoever notices first opens a quiet period of 2 s of lease time, in which
--             the daemons put their waiters back and nothing is granted past them.
-- Returns:    lease clock reading at which the quiet period ends, in microseconds.
-- Tables:     queue_epoch (insert), clock (update)
create or replace function pglockd.open_queue_epoch()
returns bigint
language plpgsql
as $$
declare
    v_quiet_us bigint;
begin
    insert into pglockd.queue_epoch default values on conflict do nothing;
    if found then
        update pglockd.clock c
           set quiet_until_us = greatest(c.quiet_until_us,
                   pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) + 2000000)
         where c.one
        returning c.quiet_until_us into v_quiet_us;
    else
        select c.quiet_until_us into v_quiet_us from pglockd.clock c where c.one;
    end if;
    return v_quiet_us;
end
$$;
comment on function pglockd.open_queue_epoch() is
    'Opens the quiet period in which daemons put their waiters back after a crash of the server.';
