-- pglockd.rate_lock(resource, owner, on_grant)
-- Purpose:    asks for the permit that a lock() by SQL costs: of all policies for LOCK that match the
--             resource and charge attempts, or grants.
-- Parameters: on_grant   which of the two
-- Returns:    true: allowed, or there is no such policy.
-- Tables:     as rate_decide, rate_policy (read)
create or replace function pglockd.rate_lock(p_resource text, p_owner text, p_on_grant boolean)
returns boolean
language plpgsql
as $$
declare
    r record;
begin
    select array_agg(p.name order by p.name) as rule, array_agg(p.quota order by p.name) as quota,
           array_agg(p.period_ns order by p.name) as period_ns, array_agg(p.burst order by p.name) as burst,
           array_agg(p.shadow order by p.name) as shadow,
           array_agg(case p.counter when 'key' then p_resource when 'owner' then p_owner else '' end order by p.name) as key
      into r
      from pglockd.rate_policies() p
     where p.for_lock and p.on_grant = p_on_grant and pglockd.rate_matches(p.prefix, p.pattern, p_resource);
    return r.rule is null
        or (select a.status = 'OK' from pglockd.rate_answer(r.key, r.rule, r.quota, r.period_ns, r.burst, r.shadow,
                                                            1, false, null) a);
end
$$;
comment on function pglockd.rate_lock(text, text, boolean) is 'Asks for the permit that a lock() by SQL costs.';
