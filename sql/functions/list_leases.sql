-- pglockd.list_leases(low, high, owner, after_resource, after_token, leases_max, session)
-- Purpose:    LIST: leases in the order of resource and token, a page at a time.
-- Parameters: low, high   ranges of resources, low <= resource < high, that do not overlap; a high that
--                         is null has no end
--             owner, session   null for all
--             after_…  the last row of the page before; null for the first page
-- Returns:    at most leases_max rows; ttl_ms null where there is none.
-- Tables:     lease, session, clock (read)
create or replace function pglockd.list_leases(
    p_low text[], p_high text[], p_owner text, p_after_resource text, p_after_token bigint, p_leases_max integer,
    p_session bigint default null)
returns table (resource text, token bigint, owner text, mode text, scope text, ttl_ms bigint, held_ms bigint,
               note text, instance_id integer, conn_id bigint, granted_at text, session_id bigint, identity text)
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_after text := coalesce(p_after_resource, '');
    v_range record;
    v_left integer := p_leases_max;
    v_found integer;
begin
    for v_range in
        select u.low, u.high from unnest(p_low, p_high) u (low, high) order by u.low collate "C"
    loop
        return query
            select l.resource, l.token, l.owner, l.mode::text, l.scope::text,
                   case when l.hold_id is null
                        then pglockd.ttl_left_ms(coalesce((select s.expires_us from pglockd.session s
                                                            where s.session_id = l.session_id), l.expires_us),
                                                 v_now_us) end,
                   greatest(0, extract(epoch from clock_timestamp() - l.granted_at) * 1000)::bigint,
                   l.note, l.instance_id, l.conn_id,
                   to_char(l.granted_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), l.session_id,
                   l.identity
              from pglockd.lease l
             where l.resource >= v_range.low collate "C"
               and (v_range.high is null or l.resource < v_range.high collate "C")
               and (l.resource, l.token) > (v_after collate "C", coalesce(p_after_token, 0))
               and (p_owner is null or l.owner = p_owner)
               and (p_session is null or l.session_id = p_session)
             order by l.resource, l.token
             limit v_left;
        get diagnostics v_found = row_count;
        v_left := v_left - v_found;
        exit when v_left <= 0;
    end loop;
end
$$;
comment on function pglockd.list_leases(text[], text[], text, text, bigint, integer, bigint) is 'Leases in order, a page at a time.';
