-- pglockd.take_janitor(seen)
-- Purpose:    one daemon at a time is the janitor: the one in whose term the clock is, and whose session
--             holds the advisory lock of that term (class 0x50474C05, term). Where that lock is free, or its
--             holder is frozen, the caller begins the next term. A frozen holder's session is ended, but
--             nothing waits for that: a backend that is stopped itself does not end, and keeps its lock. What
--             it does when it goes on is of a term that is over, and credited nothing.
-- Parameters: seen     ticks that the caller knew of 3 s ago, by its own clock (that of the server may step):
--                      where there was none since, the other one is frozen. Null: it does not say that yet
-- Returns:    term     that the calling session is the janitor of now; null: another is
--             ticks    so far: the caller sees from them whether the other one ticks
--             quiet    the clock stands still for a quiet period
-- Errors:     55P03 where a frozen backend keeps the clock's row locked for lock_timeout.
-- Tables:     clock (update), and those of notice_server
create or replace function pglockd.take_janitor(
    p_seen bigint default null, out o_term integer, out o_ticks bigint, out o_quiet boolean)
language plpgsql
as $$
declare
    v_term integer;
    v_free boolean;
    v_frozen boolean;
begin
    -- What an election that failed has left.
    perform pg_advisory_unlock_all();
    perform pglockd.notice_server();
    select c.janitor_term, c.ticks_total, c.quiet_left_us > 0 into v_term, o_ticks, o_quiet
      from pglockd.clock c where c.one;
    v_frozen := coalesce(o_ticks = p_seen, false);
    v_free := pg_try_advisory_xact_lock(1346849797, v_term);
    if not v_free and v_frozen then
        perform pg_terminate_backend(k.pid)
           from pg_catalog.pg_locks k
          where k.locktype = 'advisory' and k.classid = 1346849797 and k.objid = v_term::oid and k.objsubid = 2
            and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
            and k.granted and k.pid <> pg_backend_pid();
    end if;
    if not (v_free or v_frozen) then
        return;
    elsif pg_try_advisory_lock(1346849797, v_term + 1) then
        -- It counts as a tick, so that nobody takes the new one for frozen before it ticks.
        update pglockd.clock c set janitor_term = v_term + 1, ticks_total = c.ticks_total + 1
         where c.one and c.janitor_term = v_term
        returning c.janitor_term, c.ticks_total into o_term, o_ticks;
        if not found then
            perform pg_advisory_unlock(1346849797, v_term + 1);
        end if;
    end if;
end
$$;
comment on function pglockd.take_janitor(bigint) is 'Tries to make the calling session the janitor, also in place of a frozen one.';
