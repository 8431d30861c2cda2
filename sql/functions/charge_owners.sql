-- pglockd.charge_owners(leases_max, owner, identity)
-- Purpose:    of a batch of LOCKs for one resource each, under max_leases_per_owner: under which name each of them
--             counts, and which have to be decided one by one, since all of their owner's together might be too many.
--             Until the transaction ends nobody else decides about these owners. Their guards are waited for, for as
--             long as another daemon's batch takes to commit: in one order, and before anything that others might
--             wait for; pglockd.acquire_claim() only tries them.
-- Parameters: as pglockd.acquire_batch(), with all their elements
-- Returns:    name   for each request, null where it is not limited
--             near   positions of those that are to be decided one by one; null: none
-- Tables:     lease, waiter (read)
create or replace function pglockd.charge_owners(
    p_leases_max integer[], p_owner text[], p_identity text[], out o_name text[], out o_near integer[])
language plpgsql
as $$
declare
    v_guard integer;
begin
    o_name := array(select pglockd.charged_to(p_leases_max[k], p_owner[k], p_identity[k])
                      from generate_subscripts(p_leases_max, 1) k);
    for v_guard in select distinct pglockd.guard_key(u.name) from unnest(o_name) u (name) where u.name is not null order by 1
    loop
        perform pg_advisory_xact_lock(1346849803, v_guard);
    end loop;
    -- A new statement, so that it sees what the last holders of these guards committed.
    select array_agg(k) into o_near
      from (select array_agg(u.k::integer) as items, min(p_leases_max[u.k]) as most,
                   pglockd.leases_charged(u.name, min(p_leases_max[u.k])) + count(*) as wanted
              from unnest(o_name) with ordinality u (name, k)
             where u.name is not null
             group by u.name) n
     cross join unnest(n.items) k
     where n.wanted > n.most;
end
$$;
comment on function pglockd.charge_owners(integer[], text[], text[]) is
    'Under which names the LOCKs of a batch count, and which of them may be too many for their owner.';
