-- pglockd.grant_leases(claim …)
-- Purpose:    makes the leases of a claim that was found free under its guards: one for each member, each with a
--             token of its own, drawn now.
-- Parameters: instance   daemon of the client; null: an SQL session
--             resource, exclusive, tree   one element a member
--             delivered  false: another daemon's client, which has yet to be told; the lease then ends in 5 s
--                        unless its daemon accepts it
--             floor      nobody waits for the resource with a smaller ticket, but marked ones; null: the token; 0 of
--                        a changed mode, since others may have come to wait before it
--             …          columns of the lease
--             waited_ms  how long it stood in the queue; null: not at all
-- Returns:    token   one for each member, in their order
--             wake    as pglockd.note_grants()
-- Tables:     lease (insert), clock (read), and those of pglockd.note_grants()
create or replace function pglockd.grant_leases(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_tree boolean[], p_slots integer, p_weight integer,
    p_ttl_ms bigint, p_conn bigint, p_request bigint, p_owner text, p_note text, p_identity text, p_id text,
    p_session bigint, p_grace_ms bigint, p_bound boolean, p_delivered boolean, p_floor bigint, p_waited_ms integer,
    p_charged_to text,
    out o_token bigint[], out o_wake integer[])
language plpgsql
as $$
begin
    with made as (
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, granted_us, conn_id,
                                   request_id, session_id, grace_ms, instance_id, slots, weight, waited_ms, mode, scope,
                                   delivered, bound, resource, owner, identity, note, idempotency_key, charged_to)
        select m.token, now.end_us, now.end_us, p_ttl_ms, coalesce(p_floor, m.token), clock_timestamp(), now.us, p_conn,
               p_request, p_session, p_grace_ms, p_instance, p_slots, p_weight, p_waited_ms,
               case when m.exclusive then 'exclusive'::pglockd.lock_mode else 'shared' end,
               case when m.tree then 'tree'::pglockd.lock_scope else 'node' end, p_delivered, p_bound, m.resource,
               p_owner, p_identity, p_note, p_id, p_charged_to
          from (select n.us, pglockd.lease_end(n.us, case when p_delivered then p_ttl_ms else 5000 end) as end_us
                  from (select pglockd.lease_now() as us) n) now
         cross join (select nextval('pglockd.token_seq') as token, u.*
                       from unnest(p_resource, p_exclusive, p_tree) u (resource, exclusive, tree)) m
        returning lease.resource, lease.token
    )
    select array_agg(m.token order by array_position(p_resource, m.resource)) into o_token from made m;
    if (select c.watched from pglockd.clock c where c.one) then
        o_wake := pglockd.note_grants(p_resource, o_token);
    end if;
end
$$;
comment on function pglockd.grant_leases(integer, text[], boolean[], boolean[], integer, integer, bigint, bigint, bigint,
    text, text, text, text, bigint, bigint, boolean, boolean, bigint, integer, text) is
    'Makes the leases of a claim that was found free.';
