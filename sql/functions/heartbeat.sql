-- pglockd.heartbeat(instance, token)
-- Purpose:    a daemon's sign of life, and what it should know in return.
-- Parameters: token     the highest fencing token that the daemon was told of; 0: none
-- Returns:    known      false: its row was removed, it must register again
--             waiters    its requests in the queue, to be compared with what it believes
--             grants     it has grants or refusals to collect
--             tick_age_ms   since the lease clock was advanced, by the server's wall clock
--             quiet_ms   how long nothing is granted yet
--             server, timeline, reason   the last row of pglockd.server
-- Tables:     instance (update), waiter, lease, clock, server (read), and those of notice_server
create or replace function pglockd.heartbeat(
    p_instance integer, p_token bigint default 0, out known boolean, out waiters bigint, out grants boolean,
    out tick_age_ms bigint, out quiet_ms bigint, out server integer, out timeline integer, out reason text)
language plpgsql
as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    perform pglockd.notice_server(p_token);
    update pglockd.instance n
       set heartbeat_us = pglockd.lease_now(), heartbeat_at = clock_timestamp()
     where n.instance_id = p_instance;
    known := found;
    select count(*) filter (where w.members = 1) + count(distinct w.ticket) filter (where w.members > 1)
      into waiters from pglockd.waiter w
     where w.instance_id = p_instance and w.absent_until_us is null;
    grants := exists (select from pglockd.lease l where l.instance_id = p_instance and not l.delivered)
        or exists (select from pglockd.refusal d where d.instance_id = p_instance and not d.told);
    select (extract(epoch from clock_timestamp() - c.wall_at) * 1000)::bigint, pglockd.quiet_left_ms()
      into tick_age_ms, quiet_ms
      from pglockd.clock c where c.one;
    select s.server_id, s.timeline, s.reason into server, timeline, reason
      from pglockd.server s order by s.server_id desc limit 1;
end
$$;
comment on function pglockd.heartbeat(integer, bigint) is 'A daemon''s sign of life, and what it should know in return.';
