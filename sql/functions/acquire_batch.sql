-- pglockd.acquire_batch(instance, …)
-- Purpose:    decides many LOCK requests at once, in the order of the arrays: grants a lease, puts a
--             waiter into the queue, or refuses. A request is granted when no lease and no earlier
--             waiter of its resource conflicts with it, so that nobody is overtaken.
-- Parameters: instance   the daemon that asks; null for SQL, which cannot wait
--             resource, exclusive, ttl_ms, wait   one element a request; requests for one resource are
--                                                 decided in their order; resources in the order of
--                                                 their bytes are decided faster
--             conn, request                       numbers by which the daemon knows it
--             owner, note, identity, id, session  may be shorter arrays: what is missing is null
-- Returns:    item      position of the request in the arrays, from 1
--             status    g granted (number: token)      w waits (number: ticket)
--                       W waits, and a holder wants to hear of it (pglockd.tell_listeners())
--                       b busy                         q busy: quiet period, nothing is granted
--                       r the guard is held elsewhere: nothing was done, ask again (only where it may
--                         not wait, or has an id, which can be looked for under the guard alone), or
--                         the row that its id found is locked
--                       a the same id again: granted before (number: token)
--                       m the same id with other arguments   l the session has ended
--             number    see status
--             grant_request, grant_resource, grant_token   own waiters that an expired lease made room for
--             wake      other daemons with new grants, to be notified after the commit
--             pending   resources that someone must promote later
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     lease, waiter (insert), tombstone (insert), clock, listener (read)
create or replace function pglockd.acquire_batch(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_ttl_ms bigint[], p_wait boolean[],
    p_conn bigint[], p_request bigint[], p_owner text[], p_note text[], p_identity text[], p_id text[],
    p_session bigint[] default '{}',
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_count constant integer := cardinality(p_resource);
    v_single integer[];
    v_sorted boolean;
    v_done integer[];
    v_living bigint[];
    v_one record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    -- A daemon's connection has looked when it was made.
    if p_instance is null and not exists (select from pglockd.queue_epoch) then
        perform pglockd.open_queue_epoch();
    end if;
    if v_count >= 4 then
        -- Those that are alone in wanting their resource, under its guard; only order shows who is.
        select array_agg(k) filter (where p_id[k] is null and p_session[k] is null
                                      and (k = 1 or p_resource[k - 1] < p_resource[k] collate "C")
                                      and (k = v_count or p_resource[k] < p_resource[k + 1] collate "C")
                                      and pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[k]))),
               bool_and(k = 1 or p_resource[k - 1] <= p_resource[k] collate "C")
          into v_single, v_sorted
          from generate_series(1, v_count) k;
    end if;
    if v_single is not null and v_sorted then
        -- Most requests meet neither lease nor waiter: those are decided together. A statement of its
        -- own, so that it sees what the last holders of the guards committed.
        with now as materialized (
            select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) as us,
                   c.quiet_until_us
              from pglockd.clock c where c.one
        ), free as materialized (
            select k, now.us, nextval('pglockd.token_seq') as token
              from now
             cross join unnest(v_single) k
             where now.us >= now.quiet_until_us and not exists (select from pglockd.lease x where x.resource = p_resource[k])
               and not exists (select from pglockd.waiter x
                                where x.resource = p_resource[k] and x.absent_until_us is null)
        ), granted as (
            insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, request_id,
                                       instance_id, mode, scope, delivered, resource, owner, identity, note)
            select f.token, pglockd.lease_end(f.us, p_ttl_ms[k]), pglockd.lease_end(f.us, p_ttl_ms[k]),
                   p_ttl_ms[k], f.token, clock_timestamp(), p_conn[k], p_request[k], p_instance,
                   case when p_exclusive[k] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node', true,
                   p_resource[k], coalesce(p_owner[k], ''), coalesce(p_identity[k], ''), p_note[k]
              from free f
        )
        select array_agg(f.k), array_agg('g'::"char"), array_agg(f.token) into o_item, o_status, o_number from free f;
        if cardinality(o_item) = v_count then
            return;
        end if;
        v_done := o_item;
    end if;

    if cardinality(p_session) > 0 then
        -- Until this transaction ends, so do they not: a lease is bound to a living session.
        select array_agg(s.session_id) into v_living
          from (select x.session_id from pglockd.session x
                 where x.session_id = any (p_session) and x.ended_us is null
                   for key share skip locked) s;
    end if;
    for i in 1 .. v_count loop
        continue when i = any (v_done);
        if p_session[i] is not null and (p_session[i] = any (v_living)) is not true then
            o_item := o_item || i;
            o_status := o_status || case when exists (select from pglockd.session s
                                                       where s.session_id = p_session[i] and s.ended_us is null)
                                         then 'r' else 'l' end::"char";
            o_number := o_number || null::bigint;
            continue;
        end if;
        v_one := pglockd.acquire_one(p_instance, p_resource[i], p_exclusive[i], p_ttl_ms[i], p_wait[i],
            p_conn[i], p_request[i], p_owner[i], p_note[i], p_identity[i], p_id[i], p_session[i]);
        o_item := o_item || i;
        o_status := o_status || v_one.o_status;
        o_number := o_number || v_one.o_number;
        o_grant_request := o_grant_request || v_one.o_grant_request;
        o_grant_resource := o_grant_resource || v_one.o_grant_resource;
        o_grant_token := o_grant_token || v_one.o_grant_token;
        o_wake := o_wake || v_one.o_wake;
        o_pending := o_pending || v_one.o_pending;
    end loop;
    if 'w' = any (o_status) then
        if exists (select from pglockd.listener) then
            select array_agg(case when u.status = 'w' and exists (select from pglockd.listener n
                                                                   where n.resource = p_resource[u.item])
                                  then 'W' else u.status end order by u.place)
              into o_status
              from unnest(o_item, o_status) with ordinality u (item, status, place);
        end if;
    end if;
end
$$;
comment on function pglockd.acquire_batch(integer, text[], boolean[], bigint[], boolean[], bigint[], bigint[],
    text[], text[], text[], text[], bigint[]) is 'Decides many LOCK requests at once, in their order.';
