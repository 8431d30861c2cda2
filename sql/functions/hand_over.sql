-- pglockd.hand_over(instance, resource, floor, free)
-- Purpose:    hands resources over to those who wait, in the order of their tickets, each under its guards. A
--             resource whose guard is held elsewhere, or which has more to grant than one call does, is reported as
--             pending.
--             Passed over, keeping their tickets: waiters that are away (absent_until_us), and those of daemons
--             without a sign of life for 3 s. Whose row somebody has locked is passed over, too, but not by those
--             that he is in the way of; whoever has locked it looks at the resource again when he has done.
-- Parameters: instance   the daemon that calls; null for SQL. Grants to its own waiters are complete; those
--                        for other daemons get a TTL of 5 s until that daemon accepts them
--             resource   what may be free now
--             floor      for each resource: nobody but marked ones (early_resource) waits with a ticket up to
--                        it; null or missing when that is not known
--             free       for each resource: an exclusive lease of the resource alone has ended in this transaction,
--                        so that nobody holds it, nor, but for the same request, a tree above it; null or missing when
--                        that is not so
-- Returns:    request, resource, token   grants to waiters of this daemon; of a request for several resources a
--                              row for each
--             wake             other daemons with new grants, and as pglockd.note_grants(), to be notified after the
--                              commit
--             pending          resources to call again for
-- Bounds:     200 lines of waiters beneath a resource, the rest is pending; lines beyond 5000 are the sweep's to find
-- Errors:     25001 outside of READ COMMITTED, 57P03 as pglockd.check_server() for SQL.
-- Tables:     waiter (delete), lease (insert), instance, clock (read)
create or replace function pglockd.hand_over(
    p_instance integer, p_resource text[], p_floor bigint[] default '{}', p_free boolean[] default '{}',
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_beneath_max constant integer := 5000;
    c_lines_max constant integer := 200;
    v_served text[] := '{}';
    v_lines text[];
    v_line text;
    v_done record;
    v_trees boolean;
    v_end_us bigint;
    v_token bigint;
    w record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    if p_instance is null then
        perform pglockd.check_server();
    end if;
    for i in 1 .. coalesce(cardinality(p_resource), 0) loop
        if not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])) then
            o_pending := o_pending || p_resource[i];
            continue;
        end if;
        -- Most often one who waits for an exclusive lock follows another: that needs no look at leases. Unless somebody
        -- has been served below: his trees and other resources may be those that are free here.
        if p_free[i] and v_served = '{}' then
            select x.ctid as place, x.*, now.us, now.watched, now.trees, now.us >= now.quiet_until_us as open,
                   (select exists (select from pglockd.waiter t where t.scope = 'tree')) as tree_waits
              into w
              from pglockd.waiter x
             cross join (select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) as us, c.quiet_until_us, c.watched,
                                c.trees
                           from pglockd.clock c where c.one offset 0) now
             where x.resource = p_resource[i] and x.absent_until_us is null
               and x.ticket > case when exists (select from pglockd.waiter e where e.early_resource = p_resource[i])
                                   then '-9223372036854775808'::bigint else p_floor[i] end
             order by x.ticket
             limit 1;
            -- There is no row that could say so: asked for by itself only here.
            if w.ticket is null then
                continue when not exists (select from pglockd.waiter t where t.scope = 'tree');
            end if;
            v_trees := w.tree_waits;
            -- The request whose lease has ended may have a tree above it still: its own were not in each other's way.
            if w.trees and not v_trees then
                v_trees := exists (select from pglockd.lease_tree t where t.resource = any (pglockd.above(p_resource[i])));
            end if;
            if w.mode = 'exclusive' and w.members = 1 and w.scope = 'node' and w.instance_id = p_instance
               and w.session_id is null and w.upgrade_token is null and w.open and not v_trees then
                v_end_us := pglockd.lease_end(w.us, w.ttl_ms);
                -- The first as it was seen, or nobody: who has it locked may leave it where it is.
                with served as (
                    delete from pglockd.waiter q
                     where q.ctid = (select l.ctid from pglockd.waiter l where l.ctid = w.place for update skip locked)
                    returning 1
                )
                insert into pglockd.lease_exclusive (token, expires_us, check_us, ttl_ms, queue_floor, granted_at,
                        granted_us, conn_id, request_id, grace_ms, instance_id, waited_ms, mode, scope, delivered, bound,
                        resource, owner, identity, note, idempotency_key, charged_to)
                select nextval('pglockd.token_seq'), v_end_us, v_end_us, w.ttl_ms, w.ticket, clock_timestamp(), w.us,
                       w.conn_id, w.request_id, w.grace_ms, w.instance_id, pglockd.waited_ms(w.enqueued_at),
                       'exclusive', 'node', true, w.bound, w.resource, w.owner, w.identity, w.note, w.idempotency_key,
                       w.charged_to
                  from served
                returning token into v_token;
                if found then
                    o_request := o_request || w.request_id;
                    o_resource := o_resource || p_resource[i];
                    o_token := o_token || v_token;
                    if w.watched then
                        o_wake := o_wake || pglockd.note_grants(array[p_resource[i]], array[v_token]);
                    end if;
                    continue;
                end if;
            end if;
        end if;
        -- Somebody may wait beneath it, where a lease of its tree has ended.
        v_lines := p_resource[i] || array(select distinct q.resource from pglockd.waiter q
                                           where q.resource > pglockd.beneath_low(p_resource[i])
                                             and q.resource < pglockd.beneath_high(p_resource[i])
                                             and q.resource <> p_resource[i]
                                           limit c_beneath_max);
        o_pending := o_pending || v_lines[c_lines_max + 1 :];
        foreach v_line in array v_lines[: c_lines_max] loop
            -- Once: nobody can be served because somebody was.
            continue when v_line = any (v_served);
            v_served := v_served || v_line;
            v_done := pglockd.serve_line(p_instance, v_line, case when v_line = p_resource[i] then p_floor[i] end);
            o_request := o_request || v_done.o_request;
            o_resource := o_resource || v_done.o_resource;
            o_token := o_token || v_done.o_token;
            o_wake := o_wake || v_done.o_wake;
            o_pending := o_pending || v_done.o_pending;
        end loop;
    end loop;
end
$$;
comment on function pglockd.hand_over(integer, text[], bigint[], boolean[]) is
    'Grants resources to those who wait for them, in their order, each under its guards.';
