-- pglockd.prove_holds(lease)
-- Purpose:    the proof at level all of history: keeps when exclusive leases were held, in lease time, under a constraint
--             that lets no two of one resource overlap. What it refuses is looked at, and is a violation unless the
--             lease clock's inaccuracy explains it. Never an error: a batch does not fail because of it.
--             Where the constraint could not be made it does nothing (pglockd.add_proof()); nor for leases that were
--             held while the lease clock stood still.
-- Parameters: lease   rows of leases that have ended in this transaction
-- Tables:     lease_proof, violation (insert), clock (read)
create or replace function pglockd.prove_holds(p_lease pglockd.lease[])
returns void
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_seq constant bigint := (select s.last_value from pglockd.token_seq s);
    v_left pglockd.lease[];
begin
    if to_regclass('pglockd.lease_proof_no_overlap') is null then
        return;
    end if;
    with held as materialized (
        -- In one order, so that two that meet the same neighbours do not wait for each other.
        select l.*, int8range(l.granted_us, v_now_us) as us from unnest(p_lease) l
         where l.mode = 'exclusive' and l.granted_us < v_now_us
         order by l.resource, l.token
    ), kept as (
        insert into pglockd.lease_proof (ended_us, token, held_us, ended_seq, instance_id, resource, owner, identity)
        select v_now_us, h.token, h.us, v_seq, h.instance_id, h.resource, h.owner, h.identity from held h
            on conflict do nothing
        returning token
    )
    select array_agg(l) into v_left
      from unnest(p_lease) l
     where l.token in (select h.token from held h) and l.token not in (select k.token from kept k);
    for i in 1 .. coalesce(cardinality(v_left), 0) loop
        perform pglockd.judge_overlap(v_left[i], v_now_us, v_seq);
    end loop;
end
$$;
comment on function pglockd.prove_holds(pglockd.lease[]) is 'Keeps when exclusive leases were held, and notices where two overlap.';
