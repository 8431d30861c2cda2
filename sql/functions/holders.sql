-- pglockd.holders(resource, holders_max)
-- Purpose:    who holds these resources, for BUSY, TIMEOUT and INFO.
-- Returns:    a row for every lease, at most holders_max a resource, oldest grant first; total counts
--             all of them.
-- Tables:     lease, session, clock (read)
create or replace function pglockd.holders(p_resource text[], p_holders_max integer default 1000)
returns table (item integer, token bigint, owner text, mode text, scope text, ttl_ms bigint, held_ms bigint,
               note text, instance_id integer, conn_id bigint, total bigint, session_id bigint)
language sql
as $$
    select i, h.token, h.owner, h.mode::text, h.scope::text,
           pglockd.ttl_left_ms(coalesce((select s.expires_us from pglockd.session s where s.session_id = h.session_id), h.expires_us),
                               c.now_us),
           greatest(0, extract(epoch from clock_timestamp() - h.granted_at) * 1000)::bigint,
           h.note, h.instance_id, h.conn_id, h.total, h.session_id
      from (select pglockd.lease_now() as now_us) c,
           generate_series(1, cardinality(p_resource)) i,
           lateral (select l.*, count(*) over () as total
                      from pglockd.lease l
                     where l.resource = p_resource[i]
                     order by l.token
                     limit p_holders_max) h
$$;
comment on function pglockd.holders(text[], integer) is 'Who holds these resources.';
