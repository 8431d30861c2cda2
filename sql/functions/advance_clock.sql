-- pglockd.advance_clock(elapsed_us, term)
-- Purpose:    a tick: advances the lease clock, and notes whether commits are confirmed by standbys. In a
--             quiet period after a failover the time is taken off that first, and the clock stands still.
--             Not durable by itself (synchronous_commit off): a lost tick only makes the clock slower.
-- Parameters: elapsed_us   as pglockd.tick_credit()
--             term         of the janitor that ticks: one whose term is over credits nothing, also when it
--                          was frozen in the middle of it. Null: not the janitor
-- Returns:    reading_us, ticks   after it; null where the term is over
--             quiet_ms            what is left of the time in which the clock stands still
-- Tables:     clock (update)
create or replace function pglockd.advance_clock(
    p_elapsed_us bigint, p_term integer, out o_reading_us bigint, out o_ticks bigint, out o_quiet_ms bigint)
language plpgsql
as $$
begin
    -- That commits are no longer confirmed must not be behind those that are not.
    perform set_config('synchronous_commit',
        case when exists (select from pglockd.clock c where c.one and c.synchronous) and not pglockd.is_synchronous()
             then 'local' else 'off' end, true);
    update pglockd.clock c
       set base_us = c.base_us + greatest(0, pglockd.tick_credit(p_elapsed_us, c.wall_at) - c.quiet_left_us),
           quiet_left_us = greatest(0, c.quiet_left_us - pglockd.tick_credit(p_elapsed_us, c.wall_at)),
           floor_us = pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at),
           wall_at = clock_timestamp(),
           ticks_total = c.ticks_total + 1,
           synchronous = pglockd.is_synchronous()
     where c.one and (p_term is null or c.janitor_term = p_term)
    returning pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at), c.ticks_total, (c.quiet_left_us + 999) / 1000
      into o_reading_us, o_ticks, o_quiet_ms;
end
$$;
comment on function pglockd.advance_clock(bigint, integer) is 'A tick of the lease clock.';
