-- pglockd.resync_waiter(instance, claim …)
-- Purpose:    pglockd.resync_waiters() for one request: finds its place or its leases, or puts it back into the queue.
-- Parameters: as pglockd.queue_claim()
-- Returns:    status, token   w it waits   a it was granted (token: one for each of its resources)   r the same, and
--                             somebody has the rows locked   D, l it was refused, or must not wait any more
--                             s its session has ended
-- Tables:     waiter (insert, update, delete), lease (update, delete), refusal, session (lock), clock (read)
create or replace function pglockd.resync_waiter(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_tree boolean[], p_slots integer, p_weight integer,
    p_ttl_ms bigint, p_ticket bigint, p_conn bigint, p_request bigint, p_owner text, p_note text, p_identity text,
    p_id text, p_session bigint, p_grace_ms bigint, p_bound boolean, p_upgrade bigint,
    p_leases_max integer,
    out o_status "char", out o_token bigint[])
language plpgsql
as $$
declare
    v_refused "char";
    v_rows text[];
    l pglockd.lease;
begin
    select case when f.cycle is null then 'l' else 'D' end into v_refused
      from pglockd.refusal f where f.instance_id = p_instance and f.request_id = p_request;
    select g.o_status, g.o_token into o_status, o_token from pglockd.accept_grant(p_instance, p_resource, p_request) g;
    if o_status <> 'l' or v_refused is not null then
        o_status := case when o_status = 'l' then v_refused else o_status end;
        return;
    end if;
    if not exists (select from pglockd.waiter w where w.resource = p_resource[1] and w.ticket = p_ticket) then
        if p_upgrade is not null then
            select x.* into l from pglockd.lease x where x.resource = p_resource[1] and x.token = p_upgrade;
        end if;
        if l.token is not null then
            perform pglockd.queue_claim(p_ticket, false, p_instance, p_resource, p_exclusive, p_tree, null, null, p_ttl_ms,
                        p_conn, p_request, l.owner, l.note, l.identity, l.idempotency_key, l.session_id, l.grace_ms,
                        l.bound, p_upgrade, null);
        -- Whose id has leases or a place has been repeated, and another request has them now.
        elsif p_upgrade is null and (p_id is null or not pglockd.is_repeated(p_id, p_owner, p_identity)) then
            if p_session is not null and not pglockd.session_lives(p_session) then
                o_status := 's';
                return;
            end if;
            perform pglockd.queue_claim(p_ticket, false, p_instance, p_resource, p_exclusive, p_tree, p_slots, p_weight,
                        p_ttl_ms, p_conn, p_request, p_owner, p_note, p_identity, p_id, p_session, p_grace_ms, p_bound, null,
                        pglockd.charged_to(p_leases_max, p_owner, p_identity));
        end if;
        -- Who has granted it meanwhile has deleted its rows before they could be inserted.
        select g.o_status, g.o_token into o_status, o_token from pglockd.accept_grant(p_instance, p_resource, p_request) g;
    end if;
    if o_status = 'a' then
        delete from pglockd.waiter w
         where w.resource = any (p_resource) and w.ticket = p_ticket
           and w.instance_id = p_instance and w.request_id = p_request;
    elsif exists (select from pglockd.waiter w where w.resource = p_resource[1] and w.ticket = p_ticket
                                                 and w.instance_id = p_instance and w.request_id = p_request) then
        -- All of its rows, or none: then the next heartbeat asks again.
        v_rows := pglockd.lock_waiter(p_resource[1], p_ticket, cardinality(p_resource));
        update pglockd.waiter w set absent_until_us = null, early_resource = w.resource
         where w.resource = any (v_rows) and w.ticket = p_ticket;
        o_status := 'w';
    end if;
end
$$;
comment on function pglockd.resync_waiter(integer, text[], boolean[], boolean[], integer, integer, bigint, bigint, bigint,
    bigint, text, text, text, text, bigint, bigint, boolean, bigint, integer) is
    'Finds the place or the leases of a request of a daemon, or puts it back into the queue.';
