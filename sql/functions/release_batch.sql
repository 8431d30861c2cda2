-- pglockd.release_batch(instance, resource, token, identity)
-- Purpose:    ends leases at their holders' wish and hands each resource over to those who wait, in
--             the same transaction. Releasing needs no guard, handing over does: where the guard is
--             held elsewhere the lease still ends and the resource is reported as pending.
-- Parameters: instance   the daemon that asks; null for SQL
--             resource, token   one element a lease; no pair twice
--             identity   authenticated names, may be shorter; empty ones are not compared
-- Returns:    item       position in the arrays, from 1
--             status     g gone: released (number: how long it was held, ms)
--                        l lost: that token holds no longer   d denied: another identity holds it
--             number     see status
--             grant_request, grant_token, wake, pending   as acquire_batch
-- Tables:     lease (delete), waiter (delete), clock (read)
create or replace function pglockd.release_batch(
    p_instance integer, p_resource text[], p_token bigint[], p_identity text[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_count constant integer := cardinality(p_resource);
    v_missed integer;
    v_waited integer[];
    v_lost integer[];
begin
    perform pglockd.require_read_committed();
    select count(*) filter (where not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])))
      into v_missed
      from generate_series(1, v_count) i;

    with gone as (
        delete from pglockd.lease l
         using generate_series(1, v_count) i
         where l.resource = p_resource[i] and l.token = p_token[i]
           and (l.identity = '' or coalesce(p_identity[i], '') in ('', l.identity))
        returning i, l.granted_at,
                  exists (select from pglockd.waiter w where w.resource = l.resource) as waited
    )
    select array_agg(g.i), array_agg(greatest(0, extract(epoch from clock_timestamp() - g.granted_at) * 1000)::bigint),
           array_agg(g.i) filter (where g.waited)
      into o_item, o_number, v_waited
      from gone g;
    o_status := array_fill('g'::"char", array[coalesce(cardinality(o_item), 0)]);

    if cardinality(v_waited) > 0 then
        select h.o_request, h.o_token, h.o_wake, h.o_pending
          into o_grant_request, o_grant_token, o_wake, o_pending
          from pglockd.hand_over(p_instance, array(select distinct p_resource[i] from unnest(v_waited) i)) h;
    end if;
    if coalesce(cardinality(o_item), 0) < v_count then
        v_lost := array(select i from generate_series(1, v_count) i where i <> all (coalesce(o_item, '{}')));
        o_item := o_item || v_lost;
        o_number := o_number || array_fill(null::bigint, array[cardinality(v_lost)]);
        o_status := o_status || array(
            select case when exists (select from pglockd.lease l
                                      where l.resource = p_resource[i] and l.token = p_token[i])
                        then 'd' else 'l' end::"char"
              from unnest(v_lost) i);
    end if;
end
$$;
comment on function pglockd.release_batch(integer, text[], bigint[], text[]) is
    'Ends leases at their holders'' wish and hands over to those who wait, in one transaction.';
