-- pglockd.quiet_left_ms()
-- Purpose:    how long nothing is granted yet, after a failover, a restore, or a crash of the server.
-- Returns:    milliseconds of service time, at most 250 too many; 0: locks are granted.
-- Tables:     clock (read)
create or replace function pglockd.quiet_left_ms()
returns bigint
language sql volatile
as $$
    select (c.quiet_left_us + greatest(0, c.quiet_until_us - pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at))
            + 999) / 1000
      from pglockd.clock c where c.one
$$;
comment on function pglockd.quiet_left_ms() is 'How long nothing is granted yet, in milliseconds; 0 when locks are granted.';
