-- pglockd.judge_overlap(lease, ended_us, ended_seq)
-- Purpose:    an exclusive lease that has ended overlaps another one of its resource by the readings of the lease clock.
--             Readings of two sessions may differ by the 250 ms between ticks, so a short overlap is none where the
--             tokens say otherwise: one that was granted after the other's end has a greater token than any that had
--             been drawn then. All else is a violation.
--             What is none is kept in the proof from the other's end on.
-- Parameters: ended_us, ended_seq   as in pglockd.lease_proof
-- Bounds:     10000 violations are kept
-- Tables:     lease_proof (read, insert), violation (insert)
create or replace function pglockd.judge_overlap(p_lease pglockd.lease, p_ended_us bigint, p_ended_seq bigint)
returns void
language plpgsql
as $$
declare
    c_inaccuracy_us constant bigint := 250000;
    c_violations_max constant integer := 10000;
    v_held_us constant int8range := int8range(p_lease.granted_us, p_ended_us);
    v_from_us bigint := p_lease.granted_us;
    v_true boolean := false;
    p pglockd.lease_proof;
begin
    for p in
        select x.* from pglockd.lease_proof x
         where hashtextextended(x.resource, 0) = hashtextextended(p_lease.resource, 0) and x.held_us && v_held_us
           and x.resource = p_lease.resource
    loop
        if p.ended_seq < p_lease.token and p_lease.token <= p_ended_seq
           and upper(p.held_us * v_held_us) - lower(p.held_us * v_held_us) <= c_inaccuracy_us then
            v_from_us := greatest(v_from_us, upper(p.held_us));
            continue;
        end if;
        v_true := true;
        insert into pglockd.violation (resource, token, held_us, instance_id, owner, identity,
                                       other_token, other_held_us, other_instance_id, other_owner, other_identity)
        select p_lease.resource, p_lease.token, v_held_us, p_lease.instance_id, p_lease.owner, p_lease.identity,
               p.token, p.held_us, p.instance_id, p.owner, p.identity
         where (select count(*) from pglockd.violation) < c_violations_max;
    end loop;
    if not v_true and v_from_us < p_ended_us then
        insert into pglockd.lease_proof (ended_us, token, held_us, ended_seq, instance_id, resource, owner, identity)
        values (p_ended_us, p_lease.token, int8range(v_from_us, p_ended_us), p_ended_seq, p_lease.instance_id,
                p_lease.resource, p_lease.owner, p_lease.identity)
            on conflict do nothing;
    end if;
end
$$;
comment on function pglockd.judge_overlap(pglockd.lease, bigint, bigint) is
    'Tells a violation from an inaccuracy of the lease clock.';
