-- pglockd.rate_prune(after_key, after_rule, max, idle_ms)
-- Purpose:    a step of the janitor through the counters: removes those that nobody has used for a
--             while, and requests with an id after ten minutes. A counter that is removed after its
--             time has passed counts as if it were there.
-- Parameters: after_key, after_rule  where the last step ended; null: begin
--             max        counters to look at
--             idle_ms    how long a counter must have been as good as none
-- Returns:    o_key, o_rule: where it ended, null at the end of the table; o_removed
-- Tables:     rate_counter, rate_request (delete)
create or replace function pglockd.rate_prune(
    p_after_key text, p_after_rule text, p_max integer, p_idle_ms bigint,
    out o_key text, out o_rule text, out o_removed bigint)
language plpgsql
as $$
declare
    v_before_ns constant bigint := pglockd.rate_now_ns() - 1000000 * p_idle_ms;
    v_seen bigint;
begin
    with page as materialized (
        select r.key, r.rule, r.tat_ns from pglockd.rate_counter r
         where (r.key, r.rule) > (coalesce(p_after_key, ''), coalesce(p_after_rule, ''))
         order by r.key, r.rule limit p_max
    ), idle as materialized (
        select r.key, r.rule from page p
          join pglockd.rate_counter r on r.key = p.key and r.rule = p.rule
         where p.tat_ns < v_before_ns and r.tat_ns < v_before_ns
           for update of r skip locked
    ), removed as (
        delete from pglockd.rate_counter r using idle i where r.key = i.key and r.rule = i.rule returning 1
    )
    select (select count(*) from page), (select count(*) from removed),
           (select p.key from page p order by p.key desc, p.rule desc limit 1),
           (select p.rule from page p order by p.key desc, p.rule desc limit 1)
      into v_seen, o_removed, o_key, o_rule;
    if v_seen < p_max then
        o_key := null;
        o_rule := null;
        delete from pglockd.rate_request q
         where (q.request_id, q.identity) in (
            select o.request_id, o.identity from pglockd.rate_request o
             where o.created_at < clock_timestamp() - interval '10 minutes'
             order by o.created_at limit p_max for update skip locked);
    end if;
end
$$;
comment on function pglockd.rate_prune(text, text, integer, bigint) is 'Removes counters that nobody has used for a while.';
