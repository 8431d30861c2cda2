-- pglockd.find_repeated(claim …)
-- Purpose:    what an earlier LOCK with the same id, owner and identity left: its leases, which are renewed and now
--             belong to the asking connection, or its place in the queue, which the asking request takes over.
-- Parameters: as pglockd.acquire_claim(); bound   a lease stays bound where it was, a place is what this request says
-- Returns:    status   null when there is nothing; else a (number, token: the tokens), w (number: ticket), b (it waits,
--                      and this request does not want to), m (the same id was used with other members, semaphore or
--                      session) or r (somebody's transaction keeps a row locked: nothing was done, ask again)
--             number, token   see status; tokens in the order of the members, null unless status is a
-- Tables:     lease, waiter (update), clock (read)
create or replace function pglockd.find_repeated(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_tree boolean[], p_slots integer, p_weight integer,
    p_ttl_ms bigint, p_wait boolean, p_conn bigint, p_request bigint, p_owner text, p_identity text, p_id text,
    p_session bigint, p_bound boolean, out o_status "char", out o_number bigint, out o_token bigint[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_count bigint;
    v_alike bigint;
    v_ticket bigint;
    v_done bigint;
begin
    -- An id is its client's own: leases that are past their end, in their grace, are no grant any more.
    select count(*), count(*) filter (where m.n is not null), array_agg(l.token order by m.n)
      into v_count, v_alike, o_token
      from pglockd.lease l
      left join unnest(p_resource, p_exclusive, p_tree) with ordinality m (resource, exclusive, tree, n)
        on m.resource = l.resource and m.exclusive = (l.mode = 'exclusive') and m.tree = (l.scope = 'tree')
       and l.slots is not distinct from p_slots and l.weight is not distinct from p_weight
       and l.session_id is not distinct from p_session
     where l.idempotency_key = p_id and l.owner = p_owner and l.identity = p_identity
       and (l.grace_ms is null or l.expires_us > v_now_us);
    if v_count > 0 then
        if v_alike < v_count or v_count <> cardinality(p_resource) then
            o_status := 'm';
            o_token := null;
            return;
        end if;
        with mine as materialized (
            select l.resource, l.token from pglockd.lease l
             where l.resource = any (p_resource) and l.token = any (o_token)
               for update skip locked
        ), renewed as (
            update pglockd.lease l
               set instance_id = p_instance, conn_id = p_conn, request_id = p_request, delivered = true,
                   bound = l.bound or p_bound,
                   ttl_ms = p_ttl_ms, expires_us = pglockd.lease_end(v_now_us, p_ttl_ms),
                   check_us = least(l.check_us, pglockd.lease_end(v_now_us, p_ttl_ms))
              from mine
             where l.resource = mine.resource and l.token = mine.token
               and (select count(*) from mine) = v_count
            returning l.token
        )
        select count(*) into v_done from renewed;
        if v_done = v_count then
            o_status := 'a';
            o_number := o_token[1];
            return;
        elsif exists (select from pglockd.lease l where l.resource = any (p_resource) and l.token = any (o_token)) then
            o_status := 'r';
            o_token := null;
            return;
        end if;
        o_token := null;
    end if;

    select count(*), count(*) filter (where m.resource is not null), max(w.ticket)
      into v_count, v_alike, v_ticket
      from pglockd.waiter w
      left join unnest(p_resource, p_exclusive, p_tree) m (resource, exclusive, tree)
        on m.resource = w.resource and m.exclusive = (w.mode = 'exclusive') and m.tree = (w.scope = 'tree')
       and w.slots is not distinct from p_slots and w.weight is not distinct from p_weight
       and w.session_id is not distinct from p_session
     where w.idempotency_key = p_id and w.owner = p_owner and w.identity = p_identity and w.upgrade_token is null;
    if v_count = 0 then
        return;
    elsif v_alike < v_count or v_count <> cardinality(p_resource) then
        o_status := 'm';
    elsif not p_wait then
        o_status := 'b';
    else
        with mine as materialized (
            select w.resource, w.ticket from pglockd.waiter w
             where w.resource = any (p_resource) and w.ticket = v_ticket
               for update skip locked
        )
        update pglockd.waiter w
           set instance_id = p_instance, conn_id = p_conn, request_id = p_request, ttl_ms = p_ttl_ms, bound = p_bound,
               absent_until_us = null, early_resource = w.resource
          from mine
         where w.resource = mine.resource and w.ticket = mine.ticket
           and (select count(*) from mine) = v_count;
        get diagnostics v_done = row_count;
        if v_done = v_count then
            o_status := 'w';
            o_number := v_ticket;
        elsif exists (select from pglockd.waiter w where w.resource = any (p_resource) and w.ticket = v_ticket) then
            o_status := 'r';
        end if;
    end if;
end
$$;
comment on function pglockd.find_repeated(integer, text[], boolean[], boolean[], integer, integer, bigint, boolean, bigint,
    bigint, text, text, text, bigint, boolean) is 'The leases or the place in the queue that an earlier LOCK with the same id left.';
