-- pglockd.status(prefix, rows_max, whole)
-- Purpose:    the whole service at a glance, for the status page and STATUS: a bounded number of rows of everything.
-- Parameters: prefix     null for all; else that resource (or key of a rate limit) and all beneath it
--             rows_max   at most so many of each kind
--             whole      false: who asks may not read what is not beneath prefix, so sessions, and holders elsewhere
--                        whom somebody waits for, are left out
-- Returns:    a row for each member of the answer: its name, and its value as JSON. name_more says that there are
--             more rows of name than are shown.
-- Tables:     lease, waiter, session, clock, instance, rate_counter, rate_policy, metric_sample, metric_series (read)
create or replace function pglockd.status(p_prefix text, p_rows_max integer, p_whole boolean)
returns table (name text, value text)
language sql stable
as $$
    with list (place, name, rows) as materialized (
        select 2, 'locks', array(select row_to_json(x) from pglockd.status_locks(p_prefix, p_rows_max + 1) x)
        union all
        select 3, 'queue', array(select row_to_json(x) from pglockd.status_queue(p_prefix, p_rows_max + 1, p_whole) x)
        union all
        select 4, 'sessions', array(select row_to_json(x) from pglockd.status_sessions(p_rows_max + 1) x where p_whole)
        union all
        select 5, 'rate_limits', array(select row_to_json(x) from pglockd.status_rates(p_prefix, p_rows_max + 1) x)
        union all
        select 6, 'instances', array(select row_to_json(x) from pglockd.status_instances(p_rows_max + 1) x))
    select m.name, m.value
      from (select 1 as place, 'totals' as name, row_to_json(t)::text as value from pglockd.status_totals() t
            union all
            select l.place, l.name, array_to_json(l.rows[1:p_rows_max])::text from list l
            union all
            select l.place, l.name || '_more', (cardinality(l.rows) > p_rows_max)::text from list l) m
     order by m.place, m.name
$$;
comment on function pglockd.status(text, integer, boolean) is 'The whole service at a glance: a bounded number of rows of everything, as JSON.';
