-- pglockd.deadlock_cycle(instance, request)
-- Purpose:    why a request was answered DEADLOCK.
-- Returns:    the cycle, as pglockd.refusal has it: a row for each who waits, in its order; none: there is no cycle.
-- Tables:     refusal (read)
create or replace function pglockd.deadlock_cycle(p_instance integer, p_request bigint)
returns table (party text, resource text, owner text)
language sql
as $$
    select e.step ->> 'party', e.step ->> 'resource', e.step ->> 'owner'
      from pglockd.refusal d
     cross join lateral jsonb_array_elements(d.cycle) with ordinality e (step, n)
     where d.instance_id = p_instance and d.request_id = p_request
     order by e.n
$$;
comment on function pglockd.deadlock_cycle(integer, bigint) is 'Why a request was answered DEADLOCK.';
