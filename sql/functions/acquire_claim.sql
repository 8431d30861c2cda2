-- pglockd.acquire_claim(instance, …)
-- Purpose:    decides one LOCK request, whatever it asks for: leases for all of its members, a place in the
--             queue, or neither. This is the rule; the set-based statements in pglockd.acquire_batch() are short
--             cuts for parts of it.
--             A claim is granted when no lease and no waiter is in its way; waiters that pglockd.hand_over()
--             passes over do not count. What has ended is removed first, and the queue is served before the claim.
-- Parameters: instance   the daemon that asks; null: SQL, which cannot wait
--             resource, exclusive, tree   one element a member: one, or several to be granted all at once
--             leases_max      its owner may hold and wait for so many; null: any number
--             slots, weight   the one resource is a semaphore; null: it is not
--             …          as one element of pglockd.acquire_batch()
-- Returns:    status, number   see pglockd.acquire_batch(); of a grant the first member's token
--                       n: the semaphore has another limit   r: also where others decide about the owner now
--             token     of a grant, one for each member
--             grant_request, grant_resource, grant_token, wake, pending   as pglockd.acquire_batch()
-- Tables:     lease, waiter (insert, delete), tombstone (insert), session (lock), clock, instance (read)
create or replace function pglockd.acquire_claim(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_tree boolean[], p_slots integer, p_weight integer,
    p_ttl_ms bigint, p_wait boolean, p_conn bigint, p_request bigint, p_owner text, p_note text, p_identity text,
    p_id text, p_session bigint, p_grace_ms bigint, p_bound boolean, p_leases_max integer default null,
    out o_status "char", out o_number bigint, out o_token bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_guarded constant boolean := pglockd.try_guards(p_resource, p_tree);
    v_charged constant text := pglockd.charged_to(p_leases_max, p_owner, p_identity);
    v_quiet boolean;
    v_verdict "char";
    v_stale_resource text[];
    v_stale_token bigint[];
    v_expired record;
    v_granted record;
begin
    if not v_guarded and (p_id is not null or not p_wait) then
        o_status := 'r';
        return;
    end if;
    if p_session is not null and not pglockd.session_lives(p_session) then
        o_status := case when exists (select from pglockd.session s
                                       where s.session_id = p_session and s.ended_us is null)
                         then 'r' else 'l' end;
        return;
    end if;
    if p_id is not null then
        select f.o_status, f.o_number, f.o_token into o_status, o_number, o_token
          from pglockd.find_repeated(p_instance, p_resource, p_exclusive, p_tree, p_slots, p_weight, p_ttl_ms, p_wait,
                   p_conn, p_request, p_owner, p_identity, p_id, p_session, p_bound) f;
        if o_status is not null then
            -- Who released it while its client was away has passed it over.
            o_pending := case when o_status = 'w' then p_resource end;
            return;
        end if;
    end if;
    if v_charged is not null then
        if not pg_try_advisory_xact_lock(1346849803, pglockd.guard_key(v_charged)) then
            o_status := 'r';
            return;
        elsif pglockd.leases_charged(v_charged, p_leases_max) + cardinality(p_resource) > p_leases_max then
            o_status := 'o';
            return;
        end if;
    end if;

    select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) < c.quiet_until_us into v_quiet
      from pglockd.clock c where c.one;
    if v_guarded and not v_quiet then
        select l.o_verdict, l.o_stale_resource, l.o_stale_token into v_verdict, v_stale_resource, v_stale_token
          from pglockd.in_the_way(p_resource, p_exclusive, p_tree, p_slots, p_weight, null, null, p_instance) l;
        if v_stale_resource is not null then
            -- Once: what has ended and is left then is locked by somebody, and holds.
            v_expired := pglockd.expire(v_stale_resource, v_stale_token);
            if v_expired.o_gone is not null then
                select h.o_request, h.o_resource, h.o_token, h.o_wake, h.o_pending
                  into o_grant_request, o_grant_resource, o_grant_token, o_wake, o_pending
                  from pglockd.hand_over(p_instance, v_expired.o_gone) h;
                o_wake := o_wake || v_expired.o_wake;
                select l.o_verdict into v_verdict
                  from pglockd.in_the_way(p_resource, p_exclusive, p_tree, p_slots, p_weight, null, null, p_instance) l;
            end if;
        end if;
    end if;

    if true = any (p_tree) and (v_verdict = 'f' or p_wait) then
        perform pglockd.note_trees();
    end if;
    if v_verdict = 'f' then
        o_status := 'g';
        -- Who waits was passed over, since its daemon gives no sign of life: it may come back below the floor.
        if true = any (p_exclusive) and exists (select from pglockd.waiter w where w.resource = any (p_resource)
                                                   and w.absent_until_us is null and w.early_resource is null) then
            update pglockd.waiter w set early_resource = w.resource
             where (w.resource, w.ticket) in (select x.resource, x.ticket from pglockd.waiter x
                                               where x.resource = any (p_resource) and x.absent_until_us is null
                                                 and x.early_resource is null
                                                 for update skip locked);
        end if;
        v_granted := pglockd.grant_leases(p_instance, p_resource, p_exclusive, p_tree, p_slots, p_weight, p_ttl_ms, p_conn,
            p_request, p_owner, p_note, p_identity, p_id, p_session, p_grace_ms, p_bound, true, null, null, v_charged);
        o_token := v_granted.o_token;
        o_number := o_token[1];
        o_wake := o_wake || v_granted.o_wake;
    elsif v_verdict = 'n'
          -- Without the guard, too: in the queue it would wait until nobody wants the other limit any more.
          or not v_guarded and p_slots is not null
             and (exists (select from pglockd.lease_shared l
                           where l.resource = p_resource[1] and l.slots <> p_slots
                             and pglockd.closed_until(l.expires_us, l.grace_ms, l.session_id) > pglockd.lease_now())
                  or exists (select from pglockd.waiter w where w.resource = p_resource[1] and w.slots <> p_slots)) then
        o_status := 'n';
    elsif p_wait then
        -- Also without the guards, so that newcomers line up behind it; marked then, since its ticket may lie
        -- below a queue_floor.
        o_status := 'w';
        o_number := pglockd.queue_claim(null, v_guarded, p_instance, p_resource, p_exclusive, p_tree, p_slots, p_weight,
                        p_ttl_ms, p_conn, p_request, p_owner, p_note, p_identity, p_id, p_session, p_grace_ms, p_bound,
                        null, v_charged);
        -- Who releases what lies beneath a tree does not hold the guard of the tree, nor who releases a tree those of
        -- what lies beneath: it may miss this waiter as long as it is not committed, so somebody looks again then.
        if not v_guarded or true = any (p_tree)
           or exists (select from unnest(p_resource, p_exclusive) m (resource, exclusive)
                       where pglockd.is_covered(m.resource, m.exclusive)) then
            o_pending := o_pending || p_resource;
        end if;
    elsif v_quiet then
        o_status := 'q';
    else
        o_status := 'b';
    end if;
end
$$;
comment on function pglockd.acquire_claim(integer, text[], boolean[], boolean[], integer, integer, bigint, boolean, bigint,
    bigint, text, text, text, text, bigint, bigint, boolean, integer) is
    'Decides one LOCK request: leases for all of its members, a place in the queue, or neither.';
