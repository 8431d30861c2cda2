-- pglockd.tick(elapsed)
-- Purpose:    advances the lease clock where no daemon runs: for a cron job, which calls it without argument.
--             It then credits at most 500 ms a call, so call it several times a second or leases simply last
--             longer. Where a daemon is the janitor such a call credits nothing, since the same time would
--             count twice. It also does what daemons do when they come to a server: see notice_server().
-- Parameters: elapsed   null: the server's wall clock since the last tick, at most 500 ms
-- Returns:    the reading, in microseconds.
-- Tables:     clock (update), queue_epoch (insert), and those of notice_server
create or replace function pglockd.tick(elapsed interval default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_term integer;
begin
    perform pglockd.notice_server();
    perform pglockd.open_queue_epoch();
    select c.janitor_term into v_term from pglockd.clock c where c.one;
    if elapsed is null and not pg_try_advisory_xact_lock(1346849797, v_term) then
        return pglockd.lease_now();
    end if;
    return a.o_reading_us from pglockd.advance_clock((extract(epoch from elapsed) * 1000000)::bigint, null) a;
end
$$;
comment on function pglockd.tick(interval) is 'Advances the lease clock; for a cron job where no daemon runs.';
