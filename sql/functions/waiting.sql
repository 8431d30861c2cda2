-- pglockd.waiting(resource, waiters_max)
-- Purpose:    who waits for these resources, in the order of service, for INFO; and how many, for
--             BUSY and TIMEOUT (waiters_max 0: one row a resource with total alone).
-- Returns:    a row for every waiter, at most waiters_max a resource; total counts all of them.
-- Tables:     waiter (read)
create or replace function pglockd.waiting(p_resource text[], p_waiters_max integer default 1000)
returns table (item integer, owner text, mode text, scope text, waiting_ms bigint, place bigint, total bigint,
               identity text)
language sql
as $$
    select i, q.owner, q.mode::text, q.scope::text,
           greatest(0, extract(epoch from clock_timestamp() - q.enqueued_at) * 1000)::bigint,
           row_number() over (partition by i order by q.ticket), n.total, q.identity
      from generate_series(1, cardinality(p_resource)) i
     cross join lateral (select count(*) as total from pglockd.waiter w where w.resource = p_resource[i]) n
      left join lateral (select * from pglockd.waiter w where w.resource = p_resource[i]
                          order by w.ticket limit p_waiters_max) q on true
     where n.total > 0
$$;
comment on function pglockd.waiting(text[], integer) is 'Who waits for these resources, in the order of service.';
