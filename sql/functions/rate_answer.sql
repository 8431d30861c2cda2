-- pglockd.rate_answer(key, rule, quota, period_ns, burst, shadow, cost, peek, id)
-- Purpose:    one request for permits from SQL: asks rate_decide() and puts its answer into words. What
--             it says is of the counter that has least left.
-- Parameters: arrays, one element a counter; cost, peek, id as in rate()
-- Returns:    one row, see rate()
-- Tables:     as rate_decide
create or replace function pglockd.rate_answer(
    p_key text[], p_rule text[], p_quota bigint[], p_period_ns bigint[], p_burst bigint[], p_shadow boolean[],
    p_cost bigint, p_peek boolean, p_id text)
returns table (status text, "limit" bigint, remaining bigint, reset_ms bigint, retry_after_ms bigint, policy_name text,
               repeated boolean)
language plpgsql
as $$
declare
    v_burst_ns constant bigint[] := array(
        select pglockd.rate_cost_ns(a.burst, a.quota, a.period_ns)
          from unnest(p_burst, p_quota, p_period_ns) with ordinality as a (burst, quota, period_ns, n) order by a.n);
    v_count constant integer := cardinality(p_key);
    r record;
begin
    select d.o_status[1] as status, d.o_granted[1] as granted, d.o_tat_ns as tat_ns, d.o_now_ns as now_ns into r
      from pglockd.rate_decide(null, true, p_key, p_rule, p_quota, p_period_ns, p_burst, v_burst_ns,
               p_shadow, array[1, v_count + 1], array(select generate_series(1, v_count)),
               array[p_cost], array[p_cost], array[p_cost], array[0::bigint], array[coalesce(p_peek, false)], array[p_id],
               array[session_user::text]) d;
    repeated := r.status = 'a';
    status := case when r.status = 'm' then 'ID_MISMATCH' when r.status = 'a' or r.granted >= p_cost then 'OK' else 'LIMITED' end;
    select a.quota, pglockd.rate_fit(a.burst_ns - greatest(a.tat_ns - r.now_ns, 0), a.quota, a.period_ns),
           ceil(greatest(a.tat_ns - r.now_ns, 0) / 1000000.0)::bigint, a.rule
      into "limit", remaining, reset_ms, policy_name
      from unnest(p_quota, p_period_ns, v_burst_ns, r.tat_ns, p_rule, p_shadow)
           as a (quota, period_ns, burst_ns, tat_ns, rule, shadow)
     order by a.shadow, 2 limit 1;
    retry_after_ms := 0;
    if status = 'LIMITED' then
        select case when bool_or(a.burst < p_cost) then null
                    else max(ceil((greatest(a.tat_ns, r.now_ns) + pglockd.rate_cost_ns(p_cost, a.quota, a.period_ns)
                                   - a.burst_ns - r.now_ns) / 1000000.0))::bigint end
          into retry_after_ms
          from unnest(p_quota, p_period_ns, p_burst, v_burst_ns, r.tat_ns, p_shadow)
               as a (quota, period_ns, burst, burst_ns, tat_ns, shadow)
         where not a.shadow;
    end if;
    return next;
end
$$;
comment on function pglockd.rate_answer(text[], text[], bigint[], bigint[], bigint[], boolean[], bigint, boolean, text) is
    'Asks for permits of given counters: one row with status OK or LIMITED.';
