-- pglockd.lock(resource, mode, scope, ttl, owner, note, id, slots)
-- Purpose:    takes a lease from SQL, in the lock space of the daemons. Does not wait. The lease is
--             there when the calling transaction commits, and outlives the session: renew or unlock it
--             with its token. Keep that transaction short: until it ends, everybody else's requests
--             for the resource wait for its guard.
-- Parameters: resource  what to lock
--             mode      exclusive or shared
--             scope     node, or tree: with all beneath it (the resource / alone is everything)
--             ttl       100 ms to 10 minutes
--             owner     label shown to others
--             note      free text shown to others
--             id        1 to 64 characters: repeating the call with it gives the same lease again
--             slots     not null: the resource is a counting semaphore of so many, and this takes one of them
-- Returns:    one row. status OK: token, ttl_ms. BUSY: holders. ID_MISMATCH: the id was used with
--             other arguments. LIMIT_MISMATCH: it is a semaphore of another number. LIMITED: over a rate limit for
--             LOCK.
-- Errors:     22023 for an argument out of its range, 25001 outside of READ COMMITTED, 42501 without the right,
--             57P03 as pglockd.check_server().
-- Tables:     as acquire_claim, rate_decide, longest_ttl (insert)
create or replace function pglockd.lock(
    resource text, mode text default 'exclusive', scope text default 'node', ttl interval default '30 s',
    owner text default session_user, note text default null, id text default null, slots integer default null)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
    v_ttl_ms constant bigint := (extract(epoch from lock.ttl) * 1000)::bigint;
    v_until constant timestamptz := clock_timestamp() + interval '200 ms';
    v_limits boolean;
    r record;
begin
    -- Not as a setting of the function: that would be undone before the commit.
    perform set_config('synchronous_commit', 'on', true);
    perform pglockd.check_resource(lock.resource, lock.scope = 'tree');
    perform pglockd.require_right('lock', lock.resource, lock.scope = 'tree');
    if lock.mode is null or lock.mode not in ('exclusive', 'shared') then
        raise exception 'mode must be exclusive or shared' using errcode = '22023';
    elsif lock.scope is null or lock.scope not in ('node', 'tree') then
        raise exception 'scope must be node or tree' using errcode = '22023';
    elsif lock.slots is not null and (lock.slots not between 1 and 1000000 or lock.scope = 'tree' or lock.mode = 'shared') then
        raise exception 'slots must be between 1 and 1000000, and go with scope node and mode exclusive'
            using errcode = '22023';
    elsif v_ttl_ms is null or v_ttl_ms < 100 or v_ttl_ms > 600000 then
        raise exception 'ttl must be between 100 ms and 10 minutes' using errcode = '22023';
    elsif length(lock.id) not between 1 and 64 then
        raise exception 'id must have 1 to 64 characters' using errcode = '22023';
    end if;
    v_limits := exists (select from pglockd.rate_policy p where p.applies_to = 'lock');
    if v_limits and not (pglockd.rate_lock(lock.resource, coalesce(lock.owner, ''), false)
                         and pglockd.rate_lock(lock.resource, coalesce(lock.owner, ''), true)) then
        status := 'LIMITED';
        return next;
        return;
    end if;
    perform pglockd.require_read_committed();
    perform pglockd.check_server();
    perform pglockd.note_ttl(array[v_ttl_ms]);
    loop
        select c.o_status as status, c.o_number as number, c.o_wake into r
          from pglockd.acquire_claim(null, array[lock.resource], array[lock.mode = 'exclusive' and lock.slots is null],
                   array[lock.scope = 'tree'], lock.slots, case when lock.slots is not null then 1 end, v_ttl_ms, false,
                   null, null, coalesce(lock.owner, ''), lock.note, session_user::text, lock.id, null, null, false) c;
        exit when r.status <> 'r' or clock_timestamp() >= v_until;
        perform pg_sleep(0.005);
    end loop;
    if r.o_wake is not null then
        perform pglockd.notify_instances(r.o_wake::bigint[]);
    end if;
    status := case r.status when 'g' then 'OK' when 'a' then 'OK' when 'm' then 'ID_MISMATCH'
                         when 'n' then 'LIMIT_MISMATCH' else 'BUSY' end;
    if v_limits and r.status <> 'g' then
        perform pglockd.rate_lock_refund(lock.resource, coalesce(lock.owner, ''));
    end if;
    if status = 'OK' then
        token := r.number;
        ttl_ms := v_ttl_ms;
    elsif status = 'BUSY' then
        holders := pglockd.holders_json(lock.resource, lock.scope = 'tree');
    end if;
    return next;
end
$$;
comment on function pglockd.lock(text, text, text, interval, text, text, text, integer) is
    'Takes a lease without waiting: one row with status OK and the fencing token, or BUSY and the holders.';
