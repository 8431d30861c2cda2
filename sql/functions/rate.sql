-- pglockd.rate(key, cost, policy, quota, per, burst, peek, id)
-- Purpose:    asks for permits from SQL, of the counters that the daemons use. What it takes is taken
--             when the calling transaction commits, and given back when it rolls back. Until then
--             everybody else's requests for the same key wait, those for other keys do not: keep the
--             transaction short.
-- Parameters: key        1 to 512 bytes
--             cost       permits
--             policy     name of a policy; null: quota, per and burst, or all policies that match
--             quota, per, burst  a limit of its own; burst null: as many as the quota
--             peek       only look
--             id         1 to 64 characters: the call may be repeated and is charged once
-- Returns:    one row. status OK or LIMITED, and as RATE says it: limit, remaining, reset_ms,
--             retry_after_ms (null: it can never pass), policy. NO_POLICY: none matches. ID_MISMATCH:
--             the id was used with other arguments.
-- Errors:     22023 for an argument out of its range, 25001 outside of READ COMMITTED, 42501 without
--             the right.
-- Tables:     as rate_decide, rate_policy (read)
create or replace function pglockd.rate(
    key text, cost bigint default 1, policy text default null, quota bigint default null,
    per interval default null, burst bigint default null, peek boolean default false, id text default null)
returns table (status text, "limit" bigint, remaining bigint, reset_ms bigint, retry_after_ms bigint, policy_name text,
               repeated boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
    r record;
begin
    perform set_config('synchronous_commit', 'on', true);
    if key is null or octet_length(key) not between 1 and 512 then
        raise exception 'key must have 1 to 512 bytes' using errcode = '22023';
    end if;
    perform pglockd.require_right('rate', key);
    if cost is null or cost not between 1 and 1000000000 then
        raise exception 'cost must be between 1 and 1000000000' using errcode = '22023';
    elsif length(id) not between 1 and 64 then
        raise exception 'id must have 1 to 64 characters' using errcode = '22023';
    elsif policy is not null and (quota is not null or per is not null or burst is not null) then
        raise exception 'name a policy or a limit, not both' using errcode = '22023';
    elsif (quota is null) <> (per is null) or (burst is not null and quota is null) then
        raise exception 'quota needs per, and burst needs quota' using errcode = '22023';
    elsif quota not between 1 and 1000000000 or burst not between 1 and 1000000000 then
        raise exception 'quota and burst must be between 1 and 1000000000' using errcode = '22023';
    elsif per < interval '1 ms' or extract(epoch from per) > 366 * 86400 then
        raise exception 'per must be between 1 ms and 366 days' using errcode = '22023';
    elsif coalesce(burst, quota)::numeric * extract(epoch from per) / quota > 3650 * 86400::numeric then
        raise exception 'the burst would take more than ten years to come back' using errcode = '22023';
    end if;
    if quota is not null then
        select array['=' || quota || '/' || (extract(epoch from per) * 1000)::bigint || '/' || coalesce(burst, quota)] as rule,
               array[quota] as quota, array[(extract(epoch from per) * 1000)::bigint * 1000000] as period_ns,
               array[coalesce(burst, quota)] as burst, array[false] as shadow, array[rate.key] as key
          into r;
    else
        select array_agg(p.name order by p.name) as rule, array_agg(p.quota order by p.name) as quota,
               array_agg(p.period_ns order by p.name) as period_ns, array_agg(p.burst order by p.name) as burst,
               array_agg(p.shadow order by p.name) as shadow,
               array_agg(case when p.counter = 'key' then rate.key else '' end order by p.name) as key
          into r
          from pglockd.rate_policies() p
         where not p.for_lock
           and case when rate.policy is null then pglockd.rate_matches(p.prefix, p.pattern, rate.key)
                    else p.name = rate.policy end;
    end if;
    if r.rule is null then
        status := 'NO_POLICY';
        policy_name := policy;
        return next;
        return;
    end if;
    return query select * from pglockd.rate_answer(r.key, r.rule, r.quota, r.period_ns, r.burst, r.shadow, cost, peek, id);
end
$$;
comment on function pglockd.rate(text, bigint, text, bigint, interval, bigint, boolean, text) is
    'Asks for permits: one row with status OK or LIMITED.';
