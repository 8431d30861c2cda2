-- pglockd.holders(resource, tree, holders_max)
-- Purpose:    who holds what a request asks for, for BUSY, TIMEOUT and INFO: the resource, a tree that covers it, and,
--             where it asks for a tree, what lies beneath. Also those that share: they may be why somebody waits whom
--             the request may not overtake.
-- Parameters: resource     one element for each resource
--             tree         may be shorter: false
--             holders_max  at most so many for each element
-- Returns:    a row for every lease, oldest grant first; ttl_ms is null where it has none (pglockd.hold()); total counts
--             all of an element (at most 100 of each mode beneath a tree).
-- Tables:     lease, session, clock (read)
create or replace function pglockd.holders(p_resource text[], p_tree boolean[], p_holders_max integer default 1000)
returns table (item integer, token bigint, owner text, mode text, scope text, ttl_ms bigint, held_ms bigint,
               note text, instance_id integer, conn_id bigint, total bigint, session_id bigint, resource text,
               slots integer, weight integer, identity text)
language sql
as $$
    select i, h.token, h.owner, h.mode::text, h.scope::text,
           case when h.hold_id is null
                then pglockd.ttl_left_ms(coalesce((select s.expires_us from pglockd.session s
                                                    where s.session_id = h.session_id), h.expires_us),
                                         c.now_us) end,
           greatest(0, extract(epoch from clock_timestamp() - h.granted_at) * 1000)::bigint,
           h.note, h.instance_id, h.conn_id, h.total, h.session_id, h.resource, h.slots, h.weight, h.identity
      from (select pglockd.lease_now() as now_us) c,
           generate_series(1, cardinality(p_resource)) i,
           lateral (select l.*, count(*) over () as total
                      from pglockd.lease_conflicts(p_resource[i], true, coalesce(p_tree[i], false)) l
                     order by l.token
                     limit p_holders_max) h
$$;
comment on function pglockd.holders(text[], boolean[], integer) is 'Who holds what a request asks for.';
