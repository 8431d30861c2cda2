-- pglockd.status_locks(prefix, rows_max)
-- Purpose:    what is locked now, for who looks at the whole service: the status page, STATUS. Tokens are not shown.
-- Parameters: prefix     null for all; else that resource and all beneath it
--             rows_max   at most so many
-- Returns:    a row for every lease, in the order of their resources and tokens
-- Tables:     lease, session, instance, clock (read)
create or replace function pglockd.status_locks(p_prefix text, p_rows_max integer)
returns table (resource text, owner text, identity text, mode text, scope text, held_ms bigint, ttl_ms bigint,
               note text, "limit" integer, weight integer, session bigint, instance text)
language sql stable
as $$
    select l.resource, l.owner, l.identity, l.mode::text, l.scope::text,
           greatest(0, extract(epoch from clock_timestamp() - l.granted_at) * 1000)::bigint,
           pglockd.ttl_left_ms(coalesce((select s.expires_us from pglockd.session s where s.session_id = l.session_id),
                                        l.expires_us), c.now_us),
           l.note, l.slots, l.weight, l.session_id,
           (select i.name from pglockd.instance i where i.instance_id = l.instance_id)
      from (select pglockd.lease_now() as now_us offset 0) c
     cross join lateral (
        select x.* from pglockd.lease x
         where x.resource >= coalesce(p_prefix, '')
           and x.resource < pglockd.beneath_high(coalesce(p_prefix, '/'))
           and (p_prefix is null or x.resource = p_prefix or x.resource > pglockd.beneath_low(p_prefix))
         order by x.resource, x.token
         limit p_rows_max) l
     order by l.resource, l.token
$$;
comment on function pglockd.status_locks(text, integer) is 'What is locked now, for who looks at the whole service.';
