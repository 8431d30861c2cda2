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
-- Returns:    a row for each member, in their order.
-- Tables:     lease (insert), clock (read)
create or replace function pglockd.grant_leases(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_tree boolean[], p_slots integer, p_weight integer,
    p_ttl_ms bigint, p_conn bigint, p_request bigint, p_owner text, p_note text, p_identity text, p_id text,
    p_session bigint, p_grace_ms bigint, p_bound boolean, p_delivered boolean, p_floor bigint)
returns table (resource text, token bigint)
language sql
as $$
    insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, request_id, session_id,
                               grace_ms, instance_id, slots, weight, mode, scope, delivered, bound, resource, owner,
                               identity, note, idempotency_key)
    select m.token, now.end_us, now.end_us, p_ttl_ms, coalesce(p_floor, m.token), clock_timestamp(), p_conn, p_request,
           p_session, p_grace_ms, p_instance, p_slots, p_weight,
           case when m.exclusive then 'exclusive'::pglockd.lock_mode else 'shared' end,
           case when m.tree then 'tree'::pglockd.lock_scope else 'node' end, p_delivered, p_bound, m.resource, p_owner,
           p_identity, p_note, p_id
      from (select pglockd.lease_end(pglockd.lease_now(), case when p_delivered then p_ttl_ms else 5000 end) as end_us) now
     cross join (select nextval('pglockd.token_seq') as token, u.*
                   from unnest(p_resource, p_exclusive, p_tree) u (resource, exclusive, tree)) m
    returning lease.resource, lease.token
$$;
comment on function pglockd.grant_leases(integer, text[], boolean[], boolean[], integer, integer, bigint, bigint, bigint,
    text, text, text, text, bigint, bigint, boolean, boolean, bigint) is 'Makes the leases of a claim that was found free.';
