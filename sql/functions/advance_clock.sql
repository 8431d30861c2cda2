-- pglockd.advance_clock(elapsed_us, term)
-- Purpose:    a tick: advances the lease clock.
--             Not durable by itself (synchronous_commit off): a lost tick only makes the clock slower.
-- Parameters: elapsed_us   as pglockd.tick_credit()
--             term         of the janitor that ticks: one whose term is over credits nothing, also when it
--                          was frozen in the middle of it. Null: not the janitor
-- Returns:    reading_us, ticks   after it; null where the term is over
-- Tables:     clock (update)
create or replace function pglockd.advance_clock(
    p_elapsed_us bigint, p_term integer, out o_reading_us bigint, out o_ticks bigint)
language plpgsql
as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update pglockd.clock c
       set base_us = c.base_us + pglockd.tick_credit(p_elapsed_us, c.wall_at),
           floor_us = pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at),
           wall_at = clock_timestamp(),
           ticks_total = c.ticks_total + 1
     where c.one and (p_term is null or c.janitor_term = p_term)
    returning pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at), c.ticks_total
      into o_reading_us, o_ticks;
end
$$;
comment on function pglockd.advance_clock(bigint, integer) is 'A tick of the lease clock.';
