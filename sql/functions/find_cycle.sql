-- pglockd.find_cycle(resource, ticket)
-- Purpose:    does a waiting request wait, through others, for its own party, so that it waits for ever?
--             First all that it waits for, directly or through others, is gathered. Then whoever waits for nobody is
--             taken out, since he will let go, and whoever can be served by what those let go, and so on: a request waits
--             in vain as long as one is left of those it waits for, or, for slots of a semaphore, so many that too few
--             slots come free for it or for one before it. Among those who are left a shortest way back is looked for.
--             Stable, so that all is seen by the snapshot of the calling statement. Who acts on it makes sure first that
--             nobody is about to change it (pglockd.hold_cycle()).
-- Parameters: resource, ticket   the request, by one of its resources
-- Returns:    party, resource, ticket   one element each: that party's request waits for something of the next party,
--                                       at that resource; the last for something of the first. Null: there is none
-- Bounds:     2000 parties and 20000 edges that it comes by: then there is none as far as it knows
-- Tables:     waiter, lease (read)
create or replace function pglockd.find_cycle(
    p_resource text, p_ticket bigint, out o_party text[], out o_resource text[], out o_ticket bigint[])
language plpgsql stable
as $$
#variable_conflict use_variable
declare
    c_parties_max constant integer := 2000;
    c_edges_max constant integer := 20000;
    v_party text[];
    v_at integer := 0;
    -- One element for each edge: which party (its place in v_party) waits for which, and as pglockd.wait_edges().
    v_from integer[] := '{}';
    v_to integer[] := '{}';
    v_ticket bigint[] := '{}';
    v_meets text[] := '{}';
    v_units integer[] := '{}';
    v_missing bigint[] := '{}';
    v_behind bigint[] := '{}';
    -- Parties that are left, their requests that wait in vain, and of these the ones that lack slots.
    v_left integer[];
    v_vain bigint[];
    v_short bigint[];
    v_count integer;
    -- Breadth first: the parties that were reached, and over which edge each was.
    v_way integer[] := '{1}';
    v_by integer[] := '{}';
    r record;
begin
    select array[pglockd.party(w.session_id, w.instance_id, w.conn_id)] into v_party
      from pglockd.waiter w where w.resource = p_resource and w.ticket = p_ticket;
    while v_at < coalesce(cardinality(v_party), 0) loop
        v_at := v_at + 1;
        if cardinality(v_party) > c_parties_max or cardinality(v_from) > c_edges_max then
            return;
        end if;
        for r in
            select q.ticket, e.meets, e.party, sum(e.units)::integer as units, e.missing, e.behind
              from pglockd.party_waits(v_party[v_at]) q
             cross join lateral pglockd.wait_edges(q.resource, q.ticket) e
             where e.party is not null or e.units is not null
             group by q.ticket, e.meets, e.party, e.units is null, e.missing, e.behind
             order by q.ticket, e.meets, e.party
        loop
            if r.party <> all (v_party) then
                v_party := v_party || r.party;
            end if;
            v_from := v_from || v_at;
            v_to := v_to || coalesce(array_position(v_party, r.party), 0);
            v_ticket := v_ticket || r.ticket;
            v_meets := v_meets || r.meets;
            v_units := v_units || r.units;
            v_missing := v_missing || r.missing;
            v_behind := v_behind || r.behind;
        end loop;
    end loop;

    v_left := array(select generate_series(1, cardinality(v_party)));
    v_short := v_ticket;
    loop
        v_count := cardinality(v_vain) + coalesce(cardinality(v_short), 0);
        select array_agg(distinct v.party) filter (where v.held or v.short), array_agg(v.ticket) filter (where v.held or v.short),
               array_agg(v.ticket) filter (where v.short)
          into v_left, v_vain, v_short
          from (select e.f as party, e.ticket, bool_or(e.units is null and x.party is not null) as held,
                       max(e.missing) > coalesce(sum(e.units) filter (where x.party is null), 0)
                       or bool_or(e.behind = any (v_short)) as short
                  from unnest(v_from, v_to, v_ticket, v_units, v_missing, v_behind) e (f, t, ticket, units, missing, behind)
                  left join unnest(v_left) x (party) on x.party = e.t
                 group by e.f, e.ticket) v;
        -- Both only shrink; who is behind one that is no longer short may be served in the next turn.
        exit when cardinality(v_vain) + coalesce(cardinality(v_short), 0) is not distinct from v_count;
    end loop;

    v_at := 0;
    while v_at < cardinality(v_way) loop
        v_at := v_at + 1;
        for r in
            select e.n, e.t
              from unnest(v_from, v_to, v_ticket, v_units) with ordinality e (f, t, ticket, units, n)
             where e.f = v_way[v_at] and e.t = any (v_left) and (v_at > 1 or e.ticket = p_ticket)
               and e.ticket = any (v_vain) and (e.units is null or e.ticket = any (v_short))
             order by e.n
        loop
            if r.t = 1 then
                v_at := r.n;
                loop
                    o_party := v_party[v_from[v_at]] || o_party;
                    o_resource := v_meets[v_at] || o_resource;
                    o_ticket := v_ticket[v_at] || o_ticket;
                    exit when v_from[v_at] = 1;
                    v_at := v_by[v_from[v_at]];
                end loop;
                return;
            end if;
            continue when v_by[r.t] is not null;
            v_by[r.t] := r.n;
            v_way := v_way || r.t;
        end loop;
    end loop;
end
$$;
comment on function pglockd.find_cycle(text, bigint) is 'Does a waiting request wait, through others, for its own party?';
