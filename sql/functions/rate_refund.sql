-- pglockd.rate_refund(key[], rule[], permits[])
-- Purpose:    gives permits back that were charged and surely not used: those of a LOCK that costs one
--             only where it is granted. A counter that somebody has locked is passed over.
-- Parameters: arrays, one element a counter, no counter twice
-- Returns:    indexes of those that were given back; where there is no counter any more nothing is
--             left to give back, and the index is there, too.
-- Tables:     rate_counter (update)
create or replace function pglockd.rate_refund(p_key text[], p_rule text[], p_permits bigint[])
returns integer[]
language sql volatile
as $$
    with asked as materialized (
        select a.n::integer as n, a.key, a.rule, a.permits, r.key is not null as known
          from unnest(p_key, p_rule, p_permits) with ordinality as a (key, rule, permits, n)
          left join pglockd.rate_counter r on r.key = a.key and r.rule = a.rule
    ), locked as materialized (
        select a.n, a.key, a.rule, a.permits
          from asked a
          join pglockd.rate_counter r on r.key = a.key and r.rule = a.rule
         order by a.key, a.rule
           for update of r skip locked
    ), given as (
        update pglockd.rate_counter r
           set tat_ns = r.tat_ns - pglockd.rate_cost_ns(l.permits, r.quota, r.period_ns)
          from locked l
         where r.key = l.key and r.rule = l.rule
        returning l.n
    )
    select array_agg(n) from (select n from given union all select n from asked where not known) x
$$;
comment on function pglockd.rate_refund(text[], text[], bigint[]) is 'Gives permits back that were not used.';
