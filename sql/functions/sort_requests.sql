-- pglockd.sort_requests(resource, above, exclusive, near)
-- Purpose:    of a batch in which not every request is alone with its resource under its guards: which may be
--             decided together.
-- Parameters: as pglockd.acquire_batch(); the calling transaction has tried all their guards
--             near       those that are to be decided one by one, as pglockd.charge_owners()
-- Returns:    guarded   positions of those whose guards it has
--             free      of these, those that cannot be in each other's way: alone with their resource, or all
--                       for it are shared
create or replace function pglockd.sort_requests(
    p_resource text[], p_above text[], p_exclusive boolean[], p_near integer[], out o_guarded integer[], out o_free integer[])
language plpgsql
as $$
declare
    v_closed text[] := '{}';
begin
    -- Trying again what this transaction has takes no more than a look.
    for i in 1 .. cardinality(p_above) loop
        if not pg_try_advisory_xact_lock_shared(1346849794, pglockd.guard_key(p_above[i])) then
            v_closed := v_closed || p_above[i];
        end if;
    end loop;
    select array_agg(k::integer), array_agg(k::integer) filter (where q.single or q.all_shared)
      into o_guarded, o_free
      from (select u.k, count(*) over w = 1 as single, not bool_or(u.exclusive) over w as all_shared,
                   pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(u.resource)) as guarded, u.resource
              from unnest(p_resource, p_exclusive) with ordinality u (resource, exclusive, k)
            window w as (partition by u.resource)) q
     where q.guarded and q.k <> all (coalesce(p_near, '{}')) and not (v_closed && pglockd.above(q.resource));
    o_guarded := coalesce(o_guarded, '{}');
    o_free := coalesce(o_free, '{}');
end
$$;
comment on function pglockd.sort_requests(text[], text[], boolean[], integer[]) is
    'Which requests of a batch may be decided together.';
