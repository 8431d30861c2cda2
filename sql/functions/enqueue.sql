-- pglockd.enqueue(instance, resource, …)
-- Purpose:    puts a request at the end of the queue of its resource.
-- Parameters: guarded   the caller holds the guard: tickets drawn under it are in order with the tokens of
--                       the resource; one drawn without it may be overtaken by them, and is marked
--             else as one element of pglockd.acquire_batch()
-- Returns:    its ticket.
-- Tables:     waiter (insert)
create or replace function pglockd.enqueue(
    p_instance integer, p_resource text, p_exclusive boolean, p_ttl_ms bigint, p_conn bigint, p_request bigint,
    p_owner text, p_note text, p_identity text, p_id text, p_guarded boolean)
returns bigint
language plpgsql
as $$
declare
    v_ticket constant bigint := nextval('pglockd.token_seq');
begin
    insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, early_resource, instance_id, mode, scope,
                                resource, owner, identity, note, idempotency_key)
    values (v_ticket, p_request, p_conn, p_ttl_ms, clock_timestamp(),
            case when not p_guarded then p_resource end, p_instance,
            case when p_exclusive then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node',
            p_resource, coalesce(p_owner, ''), coalesce(p_identity, ''), p_note, p_id);
    return v_ticket;
end
$$;
comment on function pglockd.enqueue(integer, text, boolean, bigint, bigint, bigint, text, text, text, text,
    boolean) is
    'Puts a request at the end of the queue of its resource.';
