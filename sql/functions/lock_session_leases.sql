-- pglockd.lock_session_leases(session)
-- Purpose:    locks all leases of a session that is to be ended, whose row the caller has locked: nobody binds a
--             lease any more, and who did has committed.
-- Returns:    how many there are; null where somebody's transaction keeps one of them locked.
-- Tables:     lease (for update)
create or replace function pglockd.lock_session_leases(p_session bigint)
returns bigint
language plpgsql
as $$
declare
    v_free bigint;
    v_all bigint;
begin
    select count(*) into v_all from pglockd.lease l where l.session_id = p_session;
    select count(*) into v_free
      from (select from pglockd.lease l where l.session_id = p_session for update skip locked) f;
    return case when v_free >= v_all then v_all end;
end
$$;
comment on function pglockd.lock_session_leases(bigint) is 'Locks all leases of a session that is to be ended.';
