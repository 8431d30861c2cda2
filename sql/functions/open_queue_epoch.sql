-- pglockd.open_queue_epoch()
-- Purpose:    after a crash of the server, and on a promoted standby, the unlogged queue is empty and its
--             waiters are known to their daemons only. Whoever notices first opens a quiet period of 2 s of
--             lease time, in which the daemons put their waiters back and nothing is granted past them; a
--             quiet period in which the clock stands still counts. Does nothing while the queue is whole.
-- Tables:     queue_epoch (insert), clock (update)
create or replace function pglockd.open_queue_epoch()
returns void
language plpgsql
as $$
begin
    if exists (select from pglockd.queue_epoch) then
        return;
    end if;
    insert into pglockd.queue_epoch default values on conflict do nothing;
    if found then
        update pglockd.clock c
           set quiet_until_us = greatest(c.quiet_until_us,
                   pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at)
                   + greatest(0, 2000000 - c.quiet_left_us))
         where c.one;
    end if;
end
$$;
comment on function pglockd.open_queue_epoch() is
    'Opens the quiet period in which daemons put their waiters back after a crash of the server.';
