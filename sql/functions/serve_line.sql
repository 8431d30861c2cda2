-- pglockd.serve_line(instance, resource)
-- Purpose:    serves those whose claims touch a resource, in the order of their tickets: those who wait for it, for a
--             tree above it, or, where it was a tree, for something beneath it.
--             Ends at the first that nobody behind can pass: an exclusive one, or one that is blocked and waits for
--             nothing else, since what blocks it blocks all that conflict with it.
-- Parameters: instance   as pglockd.hand_over()
--             resource   its guard is the caller's already
-- Returns:    as pglockd.hand_over()
-- Bounds:     200 waiters of a line, 200 lines; the rest is pending. Lines beyond 5000 are the sweep's to find.
-- Tables:     waiter (read), and those of pglockd.serve_waiter()
create or replace function pglockd.serve_line(
    p_instance integer, p_resource text,
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_beneath_max constant integer := 5000;
    c_line_max constant integer := 200;
    c_lines_max constant integer := 200;
    v_lines text[] := array[p_resource];
    v_after bigint;
    v_left integer;
    v_line text;
    v_done record;
    w record;
begin
    -- Somebody may wait beneath it, where a lease of its tree has ended.
    v_lines := v_lines || array(select distinct q.resource from pglockd.waiter q
                                 where q.resource > pglockd.beneath_low(p_resource)
                                   and q.resource < pglockd.beneath_high(p_resource) and q.resource <> p_resource
                                 limit c_beneath_max);
    o_pending := v_lines[c_lines_max + 1 :];
    v_lines := v_lines[: c_lines_max];
    foreach v_line in array v_lines loop
        v_after := null;
        v_left := c_line_max;
        loop
            -- One at a time: each is seen as the one before it has left things.
            select x.ticket, x.mode, x.members into w
              from (select q.ticket, q.mode, q.members from pglockd.waiter q
                     where q.resource = v_line and q.absent_until_us is null
                    union all
                    select q.ticket, q.mode, q.members from pglockd.waiter q
                     where q.scope = 'tree' and q.resource = any (pglockd.above(v_line)) and q.absent_until_us is null) x
             where v_after is null or x.ticket > v_after
             order by x.ticket
             limit 1;
            exit when w.ticket is null;
            if v_left = 0 then
                o_pending := o_pending || v_line;
                exit;
            end if;
            v_left := v_left - 1;
            v_after := w.ticket;
            v_done := pglockd.serve_waiter(p_instance, v_line, w.ticket);
            o_request := o_request || v_done.o_request;
            o_resource := o_resource || v_done.o_resource;
            o_token := o_token || v_done.o_token;
            o_wake := o_wake || v_done.o_wake;
            if v_done.o_verdict = 'r' then
                o_pending := o_pending || v_line;
                exit;
            end if;
            exit when v_done.o_verdict = 'b' and (w.members = 1 or w.mode = 'exclusive')
                   or v_done.o_verdict = 'g' and w.mode = 'exclusive';
        end loop;
    end loop;
end
$$;
comment on function pglockd.serve_line(integer, text) is 'Serves those whose claims touch a resource, in the order of their tickets.';
