-- pglockd.find_cycle(resource, ticket)
-- Purpose:    does a waiting request wait, through others, for its own party? Breadth first, so that the cycle is a
--             shortest one. Read in several statements: who acts on it looks again (pglockd.is_cycle()).
-- Parameters: resource, ticket   the request, by one of its resources
-- Returns:    party, resource, ticket   one element each: that party's request waits for something of the next party,
--                                       at that resource; the last for something of the first. Null: there is none
-- Bounds:     parties that it has come by: 2000; then there is none as far as it knows
-- Tables:     waiter, lease (read)
create or replace function pglockd.find_cycle(
    p_resource text, p_ticket bigint, out o_party text[], out o_resource text[], out o_ticket bigint[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_parties_max constant integer := 2000;
    v_start text;
    v_party text[];
    v_from integer[] := '{}';
    v_ticket bigint[] := '{}';
    v_meets text[] := '{}';
    v_at integer := 0;
    r record;
begin
    select pglockd.party(w.session_id, w.instance_id, w.conn_id) into v_start
      from pglockd.waiter w where w.resource = p_resource and w.ticket = p_ticket;
    v_party := array[v_start];
    -- What each party waits for; v_from, v_ticket and v_meets say how it was reached.
    loop
        v_at := v_at + 1;
        exit when v_start is null or v_at > cardinality(v_party) or cardinality(v_party) > c_parties_max;
        for r in
            select q.ticket, e.resource, e.party
              from pglockd.party_waits(v_party[v_at]) q
             cross join lateral pglockd.wait_edges(q.resource, q.ticket) e
             where e.party is not null and (v_at > 1 or q.ticket = p_ticket)
        loop
            if r.party = v_start and v_at > 1 then
                o_party := array[v_party[v_at]];
                o_resource := array[r.resource];
                o_ticket := array[r.ticket];
                while v_at > 1 loop
                    o_resource := v_meets[v_at] || o_resource;
                    o_ticket := v_ticket[v_at] || o_ticket;
                    v_at := v_from[v_at];
                    o_party := v_party[v_at] || o_party;
                end loop;
                return;
            end if;
            continue when r.party = v_start or r.party = any (v_party);
            v_party := v_party || r.party;
            v_from[cardinality(v_party)] := v_at;
            v_ticket[cardinality(v_party)] := r.ticket;
            v_meets[cardinality(v_party)] := r.resource;
        end loop;
    end loop;
end
$$;
comment on function pglockd.find_cycle(text, bigint) is 'Does a waiting request wait, through others, for its own party?';
