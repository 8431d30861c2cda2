-- pglockd.hold_cycle(party, resource, ticket)
-- Purpose:    makes sure that nobody is about to break a cycle, which was seen, and that nobody does until the calling
--             transaction ends: locks, without waiting, its requests and of what is in the way of each something of the
--             next party's. A release, a grant or a withdrawal that has begun and is not committed has locked what it
--             is about to take away. The locks on leases are not those of a fence: who releases is to ask again.
-- Parameters: as pglockd.find_cycle() returns
-- Returns:    false when somebody has any of them locked: there may be no cycle any more
-- Tables:     waiter (for update), lease (for no key update)
create or replace function pglockd.hold_cycle(p_party text[], p_resource text[], p_ticket bigint[])
returns boolean
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_members integer;
    v_row text;
    v_held boolean;
    e record;
begin
    for i in 1 .. cardinality(p_ticket) loop
        select w.resource, w.members into v_row, v_members
          from pglockd.party_waits(p_party[i]) q
          join pglockd.waiter w on w.resource = q.resource and w.ticket = q.ticket
         where q.ticket = p_ticket[i];
        if v_row is null or pglockd.lock_waiter(v_row, p_ticket[i], v_members) is null then
            return false;
        end if;
        v_held := false;
        for e in
            select d.resource, d.token, d.ticket from pglockd.wait_edges(v_row, p_ticket[i]) d
             where d.meets = p_resource[i] and d.party = p_party[i % cardinality(p_party) + 1]
        loop
            if e.token is not null then
                perform from pglockd.lease l where l.resource = e.resource and l.token = e.token
                   for no key update skip locked;
                v_held := found;
            else
                perform from pglockd.waiter w where w.resource = e.resource and w.ticket = e.ticket
                   for update skip locked;
                v_held := found;
            end if;
            exit when v_held;
        end loop;
        if not v_held then
            return false;
        end if;
    end loop;
    return true;
end
$$;
comment on function pglockd.hold_cycle(text[], text[], bigint[]) is
    'Keeps a cycle from being broken until the calling transaction ends.';
