-- pglockd.tick(elapsed)
-- Purpose:    advances the lease clock by the time that the caller itself saw pass since its last
--             confirmed tick, on a clock that does not jump: 0 for a new janitor. Where no daemon runs
--             a cron job may call it without argument: it then credits at most 500 ms a call, so call
--             it several times a second or leases simply last longer. Where a daemon is the janitor such
--             a call credits nothing, since the same time would count twice.
--             Not durable by itself (synchronous_commit off): a lost tick only makes the clock slower.
-- Parameters: elapsed   null: the server's wall clock since the last tick, at most 500 ms
-- Returns:    the reading, in microseconds.
-- Tables:     clock (update)
create or replace function pglockd.tick(elapsed interval default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_reading_us bigint;
begin
    if elapsed is null and not pg_try_advisory_xact_lock(1346849797, 0) then
        return pglockd.lease_now();
    end if;
    perform set_config('synchronous_commit', 'off', true);
    update pglockd.clock c
       set base_us = c.base_us + coalesce(
               (extract(epoch from elapsed) * 1000000)::bigint,
               greatest(0, least(500000, (extract(epoch from clock_timestamp() - c.wall_at) * 1000000)::bigint))),
           floor_us = pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at),
           wall_at = clock_timestamp(),
           ticks_total = c.ticks_total + 1
     where c.one
    returning pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) into v_reading_us;
    return v_reading_us;
end
$$;
comment on function pglockd.tick(interval) is 'Advances the lease clock; for the janitor, or a cron job where no daemon runs.';
