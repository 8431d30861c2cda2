-- pglockd.serve_waiter(instance, resource, ticket)
-- Purpose:    grants one waiter what it waits for, all of it or nothing, if its turn has come.
-- Parameters: instance   as pglockd.hand_over()
--             resource, ticket   one of its rows
-- Returns:    verdict   g granted   b blocked, or nothing is
--                       granted for now   p passed over: its daemon gives no sign of life, its row is locked, or
--                       its session has ended   r it cannot be decided now: a guard is held elsewhere, its
--                       session is locked, or the lease whose mode is to change   x refused: the lease has ended
--                       whose mode was to change
--             request, resource, token   as pglockd.hand_over(), of a grant to a waiter of this daemon
--             wake      daemons that have a refusal, and the other one that has a grant, to collect; and as
--                       pglockd.note_ends()
-- Tables:     waiter (delete, update), lease (insert), refusal, tombstone (insert), session (lock), instance,
--             clock (read)
create or replace function pglockd.serve_waiter(
    p_instance integer, p_resource text, p_ticket bigint,
    out o_verdict "char", out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_resource text[];
    v_exclusive boolean[];
    v_tree boolean[];
    v_now_us constant bigint := pglockd.lease_now();
    v_look record;
    v_done record;
    v_upgraded pglockd.lease;
    w pglockd.waiter;
begin
    select x.* into w from pglockd.waiter x where x.resource = p_resource and x.ticket = p_ticket;
    if w.ticket is null then
        -- A row of a tree above the resource, or of a request that is gone.
        select x.* into w from pglockd.waiter x
         where x.ticket = p_ticket and x.scope = 'tree' and x.resource = any (pglockd.above(p_resource))
         limit 1;
    end if;
    if w.members = 1 then
        perform from pglockd.waiter q where q.resource = w.resource and q.ticket = w.ticket for update skip locked;
        if found then
            v_resource := array[w.resource];
            v_exclusive := array[w.mode = 'exclusive'];
            v_tree := array[w.scope = 'tree'];
        end if;
    else
        select array_agg(x.resource order by x.resource), array_agg(x.mode = 'exclusive' order by x.resource),
               array_agg(x.scope = 'tree' order by x.resource)
          into v_resource, v_exclusive, v_tree
          from (select q.resource, q.mode, q.scope from pglockd.waiter q
                 where q.ticket = w.ticket and q.members > 1
                   for update skip locked) x;
    end if;
    if w.ticket is null or coalesce(cardinality(v_resource), 0) < w.members then
        o_verdict := 'p';
        return;
    elsif w.upgrade_token is not null
          and not exists (select from pglockd.lease l
                           where l.resource = w.resource and l.token = w.upgrade_token
                             and (l.grace_ms is null or l.expires_us > v_now_us)) then
        delete from pglockd.waiter q where q.resource = w.resource and q.ticket = w.ticket;
        insert into pglockd.refusal (request_id, instance_id) values (w.request_id, w.instance_id) on conflict do nothing;
        o_verdict := 'x';
        o_wake := array[w.instance_id];
        return;
    elsif w.instance_id is distinct from p_instance
          and not exists (select from pglockd.instance d
                           where d.instance_id = w.instance_id and d.heartbeat_us >= v_now_us - 3000000) then
        -- It may come back: releases must find it below the floors of those served before it.
        update pglockd.waiter q set early_resource = q.resource
         where q.resource = any (v_resource) and q.ticket = w.ticket and q.early_resource is null;
        o_verdict := 'p';
        return;
    elsif exists (select from pglockd.clock c where c.one and v_now_us < c.quiet_until_us) then
        -- When the quiet period is over the sweep finds who waits for what nobody holds.
        o_verdict := 'b';
        return;
    elsif not pglockd.try_guards(v_resource, v_tree) then
        o_verdict := 'r';
        return;
    elsif w.session_id is not null and not pglockd.session_lives(w.session_id) then
        -- One that has ended takes its waiters out of the queue itself.
        o_verdict := case when exists (select from pglockd.session s
                                        where s.session_id = w.session_id and s.ended_us is null)
                          then 'r' else 'p' end;
        return;
    end if;

    v_look := pglockd.in_the_way(v_resource, v_exclusive, v_tree, w.slots, w.weight, w.ticket, w.upgrade_token, p_instance);
    if v_look.o_stale_resource is not null then
        v_done := pglockd.expire(v_look.o_stale_resource, v_look.o_stale_token);
        o_wake := v_done.o_wake;
        if v_done.o_gone is not null then
            v_look := pglockd.in_the_way(v_resource, v_exclusive, v_tree, w.slots, w.weight, w.ticket, w.upgrade_token,
                          p_instance);
        end if;
    end if;
    if v_look.o_verdict <> 'f' then
        o_verdict := 'b';
        return;
    end if;
    if w.upgrade_token is not null then
        perform from pglockd.lease l
          where l.resource = w.resource and l.token = w.upgrade_token for update skip locked;
        if not found then  -- fenced, or gone by now: then the next look refuses
            o_verdict := 'r';
            return;
        end if;
        delete from pglockd.lease l where l.resource = w.resource and l.token = w.upgrade_token
        returning l.* into v_upgraded;
        -- Its holder may have asked more than once. The others wait below the new lease's floor, where its release
        -- does not look. Those that somebody has locked are the sweep's.
        with gone as (
            delete from pglockd.waiter q
             where (q.resource, q.ticket) in (select x.resource, x.ticket from pglockd.waiter x
                                               where x.resource = w.resource and x.upgrade_token = w.upgrade_token
                                                 and x.ticket <> w.ticket
                                                 for update skip locked)
            returning q.request_id, q.instance_id
        ), refused as (
            insert into pglockd.refusal (request_id, instance_id) select g.request_id, g.instance_id from gone g
                on conflict do nothing
        )
        select o_wake || array_agg(distinct g.instance_id) into o_wake from gone g;
    end if;
    o_verdict := 'g';
    delete from pglockd.waiter q where q.resource = any (v_resource) and q.ticket = w.ticket;
    if v_upgraded.token is not null then
        o_wake := o_wake || pglockd.note_ends(array[v_upgraded], '{superseded}', 'changed to exclusive');
    end if;
    v_done := pglockd.grant_leases(w.instance_id, v_resource, v_exclusive, v_tree, w.slots, w.weight, w.ttl_ms, w.conn_id,
        w.request_id, w.owner, w.note, w.identity, w.idempotency_key, w.session_id, w.grace_ms, w.bound,
        w.instance_id is not distinct from p_instance, greatest(w.ticket, 0), pglockd.waited_ms(w.enqueued_at),
        coalesce(w.charged_to, v_upgraded.charged_to));
    o_wake := o_wake || v_done.o_wake;
    update pglockd.lease l set hold_id = v_upgraded.hold_id
     where v_upgraded.hold_id is not null and l.resource = w.resource and l.token = v_done.o_token[1];
    if w.instance_id is not distinct from p_instance then
        o_resource := v_resource;
        o_token := v_done.o_token;
        o_request := array_fill(w.request_id, array[cardinality(o_token)]);
    else
        o_wake := o_wake || w.instance_id;
    end if;
end
$$;
comment on function pglockd.serve_waiter(integer, text, bigint) is
    'Grants one waiter what it waits for, all of it or nothing, if its turn has come.';
