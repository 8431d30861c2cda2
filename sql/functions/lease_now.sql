-- pglockd.lease_now()
-- Purpose:    reads the lease clock. It never runs faster than real time and stands still while
--             nobody ticks, so that an outage of the service costs no lease.
-- Returns:    microseconds since the clock was made.
-- Tables:     clock (read)
create or replace function pglockd.lease_now()
returns bigint
language plpgsql -- whose plan is kept: one in SQL that reads a table is planned at each call
as $$
begin
    return (select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) from pglockd.clock c where c.one);
end
$$;
comment on function pglockd.lease_now() is 'Reads the lease clock, in microseconds.';
