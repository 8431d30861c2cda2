-- pglockd.note_releases(lease, token, conn)
-- Purpose:    leases have ended at their holders' wish, or because their connections have closed: pglockd.note_ends() of
--             each with its reason. One that was in its grace had expired before.
-- Parameters: lease         the rows as they were
--             token, conn   as pglockd.release_batch() has them
-- Returns:    as pglockd.note_ends()
-- Tables:     clock (read), and those of note_ends
create or replace function pglockd.note_releases(p_lease pglockd.lease[], p_token bigint[], p_conn bigint[])
returns integer[]
language plpgsql
as $$
declare
    v_closing constant boolean := cardinality(p_conn) > 0;
    v_now_us bigint;
begin
    -- Mostly that is all.
    if cardinality(p_lease) = 1 and (p_lease[1]).grace_ms is null and not v_closing then
        return pglockd.note_ends(p_lease, '{released}');
    end if;
    v_now_us := pglockd.lease_now();
    return pglockd.note_ends(p_lease, array(
        select case when v_closing and p_conn[array_position(p_token, l.token)] is not null then 'connection_closed'
                    when l.grace_ms is not null and l.expires_us <= v_now_us then 'expired'
                    else 'released' end::pglockd.end_reason
          from unnest(p_lease) with ordinality l order by l.ordinality));
end
$$;
comment on function pglockd.note_releases(pglockd.lease[], bigint[], bigint[]) is
    'Notes leases that were released, or whose connections have closed.';
