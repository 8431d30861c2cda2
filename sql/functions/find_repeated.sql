-- pglockd.find_repeated(instance, resource, exclusive, ttl_ms, wait, conn, request, owner, identity, id, session)
-- Purpose:    what an earlier LOCK with the same id, owner and identity left: its lease, which is
--             renewed and now belongs to the asking connection, or its place in the queue, which the
--             asking request takes over.
-- Returns:    status null when there is nothing; else a (number: token), w (number: ticket), b (it waits, and this
--             request does not want to), m (the same id was used with another resource, mode or session) or r
--             (somebody's transaction keeps the row locked: nothing was done, ask again).
-- Tables:     lease, waiter (update), clock (read)
create or replace function pglockd.find_repeated(
    p_instance integer, p_resource text, p_exclusive boolean, p_ttl_ms bigint, p_wait boolean, p_conn bigint, p_request bigint,
    p_owner text, p_identity text, p_id text, p_session bigint,
    out o_status "char", out o_number bigint)
language plpgsql
as $$
declare
    v_mode constant pglockd.lock_mode := case when p_exclusive then 'exclusive' else 'shared' end;
    v_token bigint;
    v_now_us constant bigint := pglockd.lease_now();
    r record;
begin
    for r in
        select l.resource, l.mode, l.token, l.session_id from pglockd.lease l
         where l.idempotency_key = p_id and l.owner = p_owner and l.identity = p_identity
    loop
        if r.resource <> p_resource or r.mode <> v_mode or r.session_id is distinct from p_session then
            o_status := 'm';
            return;
        end if;
        update pglockd.lease l
           set instance_id = p_instance, conn_id = p_conn, request_id = p_request, delivered = true,
               ttl_ms = p_ttl_ms, expires_us = pglockd.lease_end(v_now_us, p_ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(v_now_us, p_ttl_ms))
         where l.ctid = (select x.ctid from pglockd.lease x
                          where x.resource = r.resource and x.token = r.token
                            for update skip locked)
        returning l.token into v_token;
        if found then
            o_status := 'a';
            o_number := v_token;
            return;
        elsif exists (select from pglockd.lease l where l.resource = r.resource and l.token = r.token) then
            o_status := 'r';
            return;
        end if;
    end loop;
    for r in
        select q.resource, q.mode, q.ticket, q.session_id from pglockd.waiter q
         where q.idempotency_key = p_id and q.owner = p_owner and q.identity = p_identity
    loop
        if r.resource <> p_resource or r.mode <> v_mode or r.session_id is distinct from p_session then
            o_status := 'm';
            return;
        end if;
        if not p_wait then
            o_status := 'b';
            return;
        end if;
        update pglockd.waiter q
           set instance_id = p_instance, conn_id = p_conn, request_id = p_request, ttl_ms = p_ttl_ms,
               absent_until_us = null, early_resource = q.resource
         where q.ctid = (select x.ctid from pglockd.waiter x
                          where x.resource = r.resource and x.ticket = r.ticket
                            for update skip locked);
        if found then
            o_status := 'w';
            o_number := r.ticket;
            return;
        elsif exists (select from pglockd.waiter q where q.resource = r.resource and q.ticket = r.ticket) then
            o_status := 'r';
            return;
        end if;
    end loop;
end
$$;
comment on function pglockd.find_repeated(integer, text, boolean, bigint, boolean, bigint, bigint, text, text, text, bigint) is
    'The lease or the place in the queue that an earlier LOCK with the same id left.';
