-- pglockd.acquire_batch(instance, …)
-- Purpose:    decides many LOCK requests for one resource each at once, in the order of the arrays: grants a lease,
--             puts a waiter into the queue, or refuses. A request is granted when no lease and no earlier waiter is
--             in its way, so that nobody is overtaken. Claims for trees, semaphores and several resources go through
--             pglockd.acquire_claims().
--             Most requests meet nobody, and most others an exclusive lease of their resource: each of these kinds
--             is decided by one statement for all. What remains is decided one by one by
--             pglockd.acquire_claim(), which has the rule.
-- Parameters: instance   the daemon that asks; null for SQL, which cannot wait
--             resource   in the order of their bytes; requests for one resource are decided in their order
--             above      all the resources that those lie beneath, each once (pglockd.above()): their trees' guards
--             exclusive, ttl_ms, wait   one element a request
--             conn, request             numbers by which the daemon knows it
--             owner, note, identity, id, session, grace_ms, bound   may be shorter arrays: what is missing is null
--             crowded   the caller expects that the resources are held: that is looked at first. A matter of speed alone
--             leases_max   a shorter array likewise: how much its owner may hold and wait for; null: any number
-- Returns:    item      position of the request in the arrays, from 1; null with numbers: all were granted, in their
--                       order, and status is null, too
--             status    g granted (number: token)      w waits (number: ticket)
--                       W waits, and a holder wants to hear of it (pglockd.tell_listeners())
--                       b busy                         q busy: quiet period, nothing is granted
--                       r the guard is held elsewhere: nothing was done, ask again (only where it may
--                         not wait, or has an id, which can be looked for under the guard alone), or
--                         the row that its id or session names is locked
--                       a the same id again: granted before (number: token)
--                       m the same id with other arguments   l the session has ended
--                       o its owner holds and waits for as much as it may
--             number    see status
--             grant_request, grant_resource, grant_token   own waiters that an expired lease made room for
--             wake      other daemons with new grants, to be notified after the commit
--             pending   resources that someone must promote later
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     lease, waiter (insert), tombstone (insert), session (lock), longest_ttl (insert), clock, listener (read)
create or replace function pglockd.acquire_batch(
    p_instance integer, p_resource text[], p_above text[], p_exclusive boolean[], p_ttl_ms bigint[], p_wait boolean[],
    p_conn bigint[], p_request bigint[], p_owner text[], p_note text[], p_identity text[], p_id text[],
    p_session bigint[], p_grace_ms bigint[], p_bound boolean[], p_crowded boolean default false,
    p_leases_max integer[] default '{}',
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_count constant integer := cardinality(p_resource);
    v_before text := '';
    v_alone boolean := true;
    v_covered boolean := true;
    v_free integer[];
    v_guarded integer[];
    v_living bigint[];
    v_charged text[];
    v_near integer[];
    v_item integer[];
    v_status "char"[];
    v_number bigint[];
    v_granted bigint[];
    v_watched boolean;
    v_known boolean;
    v_listened boolean := true;
    v_one record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    -- A daemon's connection has looked when it was made.
    if p_instance is null then
        perform pglockd.check_server();
    end if;
    -- In an expression: see there.
    v_known := pglockd.note_ttl(p_ttl_ms, p_grace_ms);
    if cardinality(p_session) > 0 then
        -- Until this transaction ends, so do they not: a lease is bound to a living session.
        select array_agg(s.session_id) into v_living
          from (select x.session_id from pglockd.session x
                 where x.session_id = any (p_session) and x.ended_us is null
                   for key share skip locked) s;
    end if;

    if cardinality(p_leases_max) > 0 then
        select c.o_name, c.o_near into v_charged, v_near from pglockd.charge_owners(p_leases_max, p_owner, p_identity) c;
    end if;

    -- The guards. Those of single resources that go up strictly are of requests that are alone with theirs.
    for i in 1 .. cardinality(p_above) loop
        v_covered := pg_try_advisory_xact_lock_shared(1346849794, pglockd.guard_key(p_above[i])) and v_covered;
    end loop;
    for i in 1 .. v_count loop
        if pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])) then
            v_alone := v_alone and v_before < p_resource[i] collate "C";
        else
            v_alone := false;
        end if;
        v_before := p_resource[i];
    end loop;
    if not (v_alone and v_covered and v_near is null) then
        v_one := pglockd.sort_requests(p_resource, p_above, p_exclusive, v_near);
        v_free := v_one.o_free;
        v_guarded := v_one.o_guarded;
    end if;

    -- Each kind in a statement of its own, which sees what the last holders of the guards committed.
    for v_pass in 1 .. 2 loop
        -- Those whose resource is held exclusively and not expired: they wait or are refused, whoever else waits.
        if (v_pass = 1) = p_crowded then
            with held as materialized (
                select k, case when p_wait[k] then nextval('pglockd.token_seq') end as ticket
                  from (select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) as us, c.quiet_until_us
                          from pglockd.clock c where c.one offset 0) now
                 cross join generate_series(1, v_count) k
                 where now.us >= now.quiet_until_us
                   and (v_guarded is null or k = any (v_guarded))
                   and (o_item is null or k <> all (o_item))
                   and exists (select from pglockd.lease_exclusive l
                                where l.resource = p_resource[k] and l.expires_us > now.us and l.hold_id is null
                                  and (l.session_id is null
                                       or exists (select from pglockd.session s
                                                   where s.session_id = l.session_id and s.ended_us is null
                                                     and s.expires_us > now.us))
                               offset 0)
                   and (p_session[k] is null or p_session[k] = any (v_living))
                   and (p_id[k] is null
                        or not pglockd.is_repeated(p_id[k], coalesce(p_owner[k], ''), coalesce(p_identity[k], '')))
            ), queued as (
                insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, session_id, grace_ms,
                                            instance_id, mode, scope, bound, resource, owner, identity, note,
                                            idempotency_key, charged_to)
                select h.ticket, p_request[h.k], p_conn[h.k], p_ttl_ms[h.k], clock_timestamp(), p_session[h.k],
                       p_grace_ms[h.k], p_instance,
                       case when p_exclusive[h.k] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node',
                       coalesce(p_bound[h.k], false), p_resource[h.k], coalesce(p_owner[h.k], ''),
                       coalesce(p_identity[h.k], ''), p_note[h.k], p_id[h.k], v_charged[h.k]
                  from held h where h.ticket is not null
            )
            select array_agg(h.k), array_agg(case when h.ticket is null then 'b' else 'w' end::"char"), array_agg(h.ticket),
                   exists (select from pglockd.listener)
              into v_item, v_status, v_number, v_listened from held h;
            o_item := o_item || v_item;
            o_status := o_status || v_status;
            o_number := o_number || v_number;
        -- Those that meet nobody. Tokens are drawn in the order of the requests.
        elsif v_free is null or cardinality(v_free) > 0 then
            with granted as (
                insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, granted_us, conn_id,
                                           request_id, session_id, grace_ms, instance_id, mode, scope, delivered, bound,
                                           resource, owner, identity, note, idempotency_key, charged_to)
                select n.token, n.end_us, n.end_us, p_ttl_ms[n.k], n.token, clock_timestamp(), n.us, p_conn[n.k],
                       p_request[n.k], p_session[n.k], p_grace_ms[n.k], p_instance,
                       case when p_exclusive[n.k] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node', true,
                       coalesce(p_bound[n.k], false), p_resource[n.k], coalesce(p_owner[n.k], ''),
                       coalesce(p_identity[n.k], ''), p_note[n.k], p_id[n.k], v_charged[n.k]
                  from (select k, now.us, nextval('pglockd.token_seq') as token,
                               pglockd.lease_end(now.us, p_ttl_ms[k]) as end_us
                          from (select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) as us, c.quiet_until_us,
                                       c.trees
                                  from pglockd.clock c where c.one offset 0) now
                         cross join generate_series(1, v_count) k
                         where now.us >= now.quiet_until_us
                           and (v_free is null or k = any (v_free))
                           and not exists (select from pglockd.lease_exclusive l where l.resource = p_resource[k] offset 0)
                           and not exists (select from pglockd.lease_shared l
                                            where p_exclusive[k] and l.resource = p_resource[k] offset 0)
                           and not exists (select from pglockd.waiter w
                                            where w.resource = p_resource[k] and w.absent_until_us is null offset 0)
                           and (p_session[k] is null or p_session[k] = any (v_living))
                           and (p_id[k] is null
                                or not pglockd.is_repeated(p_id[k], coalesce(p_owner[k], ''), coalesce(p_identity[k], '')))
                           and (not now.trees or not pglockd.is_covered(p_resource[k], p_exclusive[k]))
                        offset 0) n
                returning lease.token, lease.request_id
            )
            select array_agg(g.token order by g.token), array_agg(g.request_id order by g.token),
                   (select c.watched from pglockd.clock c where c.one)
              into v_number, v_granted, v_watched
              from granted g;
            if v_watched and v_number is not null then
                v_one := pglockd.place_grants(p_request, v_granted);
                o_wake := pglockd.note_grants(array(select p_resource[u.item] from unnest(v_one.o_item) with ordinality u (item, n)
                                                     order by u.n), v_number);
            end if;
            if cardinality(v_number) = v_count then
                o_number := v_number;
                return;
            elsif v_number is not null then
                v_one := pglockd.place_grants(p_request, v_granted);
                o_item := o_item || v_one.o_item;
                o_status := o_status || v_one.o_status;
                o_number := o_number || v_number;
            end if;
        end if;
        exit when cardinality(o_item) = v_count;
    end loop;

    for i in 1 .. v_count loop
        continue when cardinality(o_item) = v_count or i = any (o_item);
        v_one := pglockd.acquire_claim(p_instance, array[p_resource[i]], array[p_exclusive[i]], '{f}', null, null,
            p_ttl_ms[i], p_wait[i], p_conn[i], p_request[i], coalesce(p_owner[i], ''), p_note[i],
            coalesce(p_identity[i], ''), p_id[i], p_session[i], p_grace_ms[i], coalesce(p_bound[i], false), p_leases_max[i]);
        o_item := o_item || i;
        o_status := o_status || v_one.o_status;
        o_number := o_number || v_one.o_number;
        o_grant_request := o_grant_request || v_one.o_grant_request;
        o_grant_resource := o_grant_resource || v_one.o_grant_resource;
        o_grant_token := o_grant_token || v_one.o_grant_token;
        o_wake := o_wake || v_one.o_wake;
        o_pending := o_pending || v_one.o_pending;
    end loop;
    if v_listened and 'w' = any (o_status) then
        o_status := pglockd.mark_told(p_resource, o_item, o_status);
    end if;
end
$$;
comment on function pglockd.acquire_batch(integer, text[], text[], boolean[], bigint[], boolean[], bigint[], bigint[],
    text[], text[], text[], text[], bigint[], bigint[], boolean[], boolean, integer[]) is 'Decides many LOCK requests at once, in their order.';
