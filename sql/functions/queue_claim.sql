-- pglockd.queue_claim(ticket, guarded, claim …)
-- Purpose:    puts a claim into the queue: a row for each member, all with one ticket.
-- Parameters: ticket    null: a new one
--             guarded   the ticket is drawn under the guards of all members: no queue_floor can be above it
--             resource, exclusive, tree   one element a member
--             upgrade   token of the lease that is to become exclusive; null: none
--             …         columns of the waiter
-- Returns:    the ticket
-- Tables:     waiter (insert)
create or replace function pglockd.queue_claim(
    p_ticket bigint, p_guarded boolean, p_instance integer, p_resource text[], p_exclusive boolean[], p_tree boolean[],
    p_slots integer, p_weight integer, p_ttl_ms bigint, p_conn bigint, p_request bigint, p_owner text, p_note text,
    p_identity text, p_id text, p_session bigint, p_grace_ms bigint, p_bound boolean, p_upgrade bigint,
    p_charged_to text)
returns bigint
language plpgsql
as $$
declare
    v_ticket constant bigint := coalesce(p_ticket, nextval('pglockd.token_seq'));
begin
    insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, session_id, grace_ms, upgrade_token,
                                early_resource, instance_id, slots, weight, members, mode, scope, bound, resource, owner,
                                identity, note, idempotency_key, charged_to)
    select v_ticket, p_request, p_conn, p_ttl_ms, clock_timestamp(), p_session, p_grace_ms, p_upgrade,
           case when not p_guarded then m.resource end, p_instance, p_slots, p_weight, cardinality(p_resource),
           case when m.exclusive then 'exclusive'::pglockd.lock_mode else 'shared' end,
           case when m.tree then 'tree'::pglockd.lock_scope else 'node' end, p_bound, m.resource, p_owner, p_identity,
           p_note, p_id, p_charged_to
      from unnest(p_resource, p_exclusive, p_tree) m (resource, exclusive, tree)
        on conflict (resource, ticket) do nothing;
    return v_ticket;
end
$$;
comment on function pglockd.queue_claim(bigint, boolean, integer, text[], boolean[], boolean[], integer, integer, bigint,
    bigint, bigint, text, text, text, text, bigint, bigint, boolean, bigint, text) is 'Puts a claim into the queue.';
