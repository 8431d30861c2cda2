-- pglockd.heartbeat(instance)
-- Purpose:    a daemon's sign of life, and what it should know in return.
-- Returns:    known      false: its row was removed, it must register again
--             waiters    its requests in the queue, to be compared with what it believes
--             grants     it has grants or refusals to collect
--             tick_age_ms   since the lease clock was advanced, by the server's wall clock
-- Tables:     instance (update), waiter, lease, clock (read)
create or replace function pglockd.heartbeat(
    p_instance integer, out known boolean, out waiters bigint, out grants boolean, out tick_age_ms bigint)
language plpgsql
as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update pglockd.instance n
       set heartbeat_us = pglockd.lease_now(), heartbeat_at = clock_timestamp()
     where n.instance_id = p_instance;
    known := found;
    select count(*) filter (where w.members = 1) + count(distinct w.ticket) filter (where w.members > 1)
      into waiters from pglockd.waiter w
     where w.instance_id = p_instance and w.absent_until_us is null;
    grants := exists (select from pglockd.lease l where l.instance_id = p_instance and not l.delivered)
        or exists (select from pglockd.deadlock d where d.instance_id = p_instance and not d.told);
    select (extract(epoch from clock_timestamp() - c.wall_at) * 1000)::bigint into tick_age_ms
      from pglockd.clock c where c.one;
end
$$;
comment on function pglockd.heartbeat(integer) is 'A daemon''s sign of life, and what it should know in return.';
