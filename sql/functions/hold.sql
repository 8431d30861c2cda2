-- pglockd.hold(resource, mode, scope, owner, note)
-- Purpose:    takes a lock from SQL that lives as long as the calling SQL session, without a TTL: for migration scripts
--             and jobs that run in one session. Does not wait. It is there when the calling transaction commits, ends
--             by pglockd.unlock() or with the session, and is gone after a restart or failover of the server. Within a
--             second after the session's end whoever waits has it. discard all and pg_advisory_unlock_all() end it,
--             too, so through a pooler it needs session pooling.
-- Parameters: as pglockd.lock()
-- Returns:    as pglockd.lock(); ttl_ms is null.
-- Errors:     as pglockd.lock()
-- Tables:     lease (update), and those of pglockd.lock()
create or replace function pglockd.hold(
    resource text, mode text default 'exclusive', scope text default 'node',
    owner text default session_user, note text default null)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
    v_number integer := pglockd.hold_number();
    -- 285 years, as a lease in a session has (OP_TTL_SESSION in src/pg/op.h).
    v_never_ms constant bigint := 9000000000000;
    v_end_us bigint;
begin
    -- Before the lease is there for others to see: its session must be alive then. One lock for all holds of a session,
    -- kept until its end also where this transaction fails: a number that nobody's lease has does no harm.
    while v_number is null loop
        v_number := (nextval('pglockd.token_seq') & 2147483647)::integer;
        if pg_try_advisory_xact_lock(1346849799, v_number)
           and not exists (select from pglockd.lease l where l.hold_id = v_number) then
            perform pg_advisory_lock_shared(1346849799, v_number);
        else
            v_number := null;
        end if;
    end loop;
    select l.status, l.token, l.holders into status, token, holders
      from pglockd.lock(hold.resource, hold.mode, hold.scope, owner => hold.owner, note => hold.note) l;
    if status = 'OK' then
        v_end_us := pglockd.lease_end(pglockd.lease_now(), v_never_ms);
        update pglockd.lease l
           set hold_id = v_number, ttl_ms = v_never_ms, expires_us = v_end_us, check_us = v_end_us
         where l.resource = hold.resource and l.token = hold.token;
    end if;
    return next;
end
$$;
comment on function pglockd.hold(text, text, text, text, text) is
    'Takes a lock that lives as long as the calling SQL session: one row as lock().';
