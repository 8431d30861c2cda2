-- pglockd.serve_line(instance, resource, floor)
-- Purpose:    serves those whose claims touch a resource, in the order of their tickets: those who wait for it, or for a
--             tree above it.
--             Who is blocked bars others: an exclusive claim all of them; one for slots the later ones for slots; a
--             shared one of the resource alone all later ones of the resource, since an exclusive claim blocks it; a
--             shared one of a tree the later ones of that tree; a shared one of several resources nobody, since it
--             may wait for another.
-- Parameters: instance, floor   as pglockd.hand_over()
-- Returns:    as pglockd.hand_over()
-- Bounds:     200 grants, the rest is pending; waiters behind 2000 that cannot be served come when some of those have gone
-- Tables:     waiter (read), and those of pglockd.serve_waiter()
create or replace function pglockd.serve_line(
    p_instance integer, p_resource text, p_floor bigint,
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_first constant bigint := -9223372036854775808;
    c_grants_max constant integer := 200;
    c_looks_max constant integer := 2000;
    v_floor constant bigint := case when p_floor is null or exists (select from pglockd.waiter e
                                                                     where e.early_resource = p_resource)
                                    then c_first else p_floor end;
    -- Whose turn it is may be among: those of the resource, the shared ones of it alone, those of these trees.
    v_own text := p_resource;
    v_shared text;
    v_trees text[] := pglockd.above(p_resource);
    v_nodes_only boolean := false;
    v_after bigint := c_first;
    v_grants integer := 0;
    v_looks integer := 0;
    v_done record;
    w record;
begin
    loop
        -- One at a time: each is seen as the one before it has left things.
        select x.* into w
          from ((select q.resource, q.ticket, q.mode, q.scope, q.members, q.slots from pglockd.waiter q
                  where q.resource = v_own and q.ticket > greatest(v_after, v_floor) and q.absent_until_us is null
                    and not (v_nodes_only and q.scope = 'tree' and q.members = 1)
                  order by q.ticket limit 1)
                union all
                (select q.resource, q.ticket, q.mode, q.scope, q.members, q.slots from pglockd.waiter q
                  where q.resource = v_shared and q.ticket > v_after and q.absent_until_us is null
                    and q.mode = 'shared' and q.slots is null
                  order by q.ticket limit 1)
                union all
                (select q.resource, q.ticket, q.mode, q.scope, q.members, q.slots from pglockd.waiter q
                  where q.scope = 'tree' and q.resource = any (v_trees) and q.ticket > v_after
                    and q.absent_until_us is null
                  order by q.ticket limit 1)) x
         order by x.ticket
         limit 1;
        exit when w.ticket is null or v_looks = c_looks_max;
        if v_grants = c_grants_max then
            o_pending := o_pending || p_resource;
            exit;
        end if;
        v_after := w.ticket;
        v_looks := v_looks + 1;
        v_done := pglockd.serve_waiter(p_instance, w.resource, w.ticket);
        o_request := o_request || v_done.o_request;
        o_resource := o_resource || v_done.o_resource;
        o_token := o_token || v_done.o_token;
        o_wake := o_wake || v_done.o_wake;
        if v_done.o_verdict = 'r' then
            o_pending := o_pending || p_resource;
            exit;
        elsif v_done.o_verdict = 'g' then
            v_grants := v_grants + 1;
            exit when w.mode = 'exclusive';
        elsif v_done.o_verdict = 'b' then
            exit when w.mode = 'exclusive';
            if w.members > 1 then
                continue;
            elsif w.resource <> p_resource then
                v_trees := array_remove(v_trees, w.resource);
            elsif w.scope = 'tree' then
                v_nodes_only := true;
            else
                v_own := null;
                v_shared := case when w.slots is not null then p_resource end;
            end if;
        end if;
    end loop;
end
$$;
comment on function pglockd.serve_line(integer, text, bigint) is
    'Serves those whose claims touch a resource, in the order of their tickets.';
