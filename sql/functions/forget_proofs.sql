-- pglockd.forget_proofs(leases_max)
-- Purpose:    the janitor's part for the proof at level all of history: forgets leases that ended a day of lease time ago.
--             An overlap with one that is held longer than a day is found when the other one ends first.
-- Returns:    there may be more to be forgotten: call again soon.
-- Tables:     lease_proof (delete), clock (read)
create or replace function pglockd.forget_proofs(p_leases_max integer)
returns boolean
language plpgsql
as $$
declare
    v_gone bigint;
begin
    delete from pglockd.lease_proof p
     where (p.ended_us, p.token) in (select x.ended_us, x.token from pglockd.lease_proof x
                                      where x.ended_us < pglockd.lease_now() - 86400000000
                                      order by x.ended_us limit p_leases_max);
    get diagnostics v_gone = row_count;
    return v_gone >= p_leases_max;
end
$$;
comment on function pglockd.forget_proofs(integer) is 'Forgets old leases of the proof of history.';
