-- pglockd.rate_decide(epoch, wait, …)
-- Purpose:    decides many requests for permits at once, in their order. Each counter is read once,
--             locked in sorted order where somebody may get something from it, and written once
--             where somebody did. A request takes from all of its counters or from none; a denial
--             writes nothing.
--             Permits may be taken in advance, to be used until life_ns after the call was sent. Such
--             a charge starts no earlier than now + life_ns. So whatever is used in a window [a, b]
--             was charged from a on, and to at most b + burst: no more than burst + rate * (b - a),
--             for any number of borrowers and any mixture of lives.
-- Parameters: epoch      version of the policies that the caller knows; null: does not matter
--             wait       false: a counter that somebody else has locked is not waited for
--             arrays, one element a counter, no counter twice:
--             key, rule, quota, period_ns, burst, burst_ns   the counter and its limit
--             shadow     it counts only and denies nobody
--             arrays, one element a request:
--             first      where its counters begin in p_counter; one element more for the end
--             counter    indexes of counters
--             want       permits to take where possible, those in advance included
--             due        permits that are asked for now
--             step       the least that is of use; without life permits are given in multiples of it
--             life_ns    how long permits may be used; 0: now
--             peek       only look
--             id         id=KEY; null: none
--             identity   authenticated name of who asks; empty where nobody was authenticated
-- Returns:    epoch      where it is not p_epoch nothing was done: read the policies and ask again
--             now_ns     the time of the decision
--             status     one for each request:
--                        g decided, with life; x decided, the permits are for now only; r somebody
--                        has a counter or the id locked: nothing was done, ask again; a the id was
--                        allowed before; m the id was used with other arguments
--             granted    permits; 0: denied
--             over       permits of those that a shadow counter would have denied
--             tat_ns     one for each counter: its theoretical arrival time afterwards, 0: unused
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     rate_epoch (read), rate_counter (insert, update), rate_request (insert)
create or replace function pglockd.rate_decide(
    p_epoch bigint, p_wait boolean,
    p_key text[], p_rule text[], p_quota bigint[], p_period_ns bigint[], p_burst bigint[], p_burst_ns bigint[],
    p_shadow boolean[],
    p_first integer[], p_counter integer[], p_want bigint[], p_due bigint[], p_step bigint[], p_life_ns bigint[],
    p_peek boolean[], p_id text[], p_identity text[],
    out o_epoch bigint, out o_now_ns bigint, out o_status "char"[], out o_granted bigint[], out o_over bigint[],
    out o_tat_ns bigint[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_requests constant integer := cardinality(p_want);
    v_known boolean[];
    v_wanted boolean[] := array_fill(false, array[cardinality(p_key)]);
    v_usable boolean[];
    v_new boolean[];
    v_changed boolean[];
    v_missing integer[] := '{}';
    v_life_ns bigint;
    v_end_ns bigint;
    v_fit bigint;
    v_fit_exact bigint;
    v_charge bigint;
    v_clamped boolean;
    v_possible boolean;
    v_rules text;
    v_before record;
    v_row record;
    i integer;
    j integer;
    c integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    select e.epoch into o_epoch from pglockd.rate_epoch e where e.one;
    if o_epoch <> p_epoch then
        return;
    end if;
    o_status := array_fill('g'::"char", array[v_requests]);
    o_granted := array_fill(0::bigint, array[v_requests]);
    o_over := o_granted;

    -- What is known without touching anything.
    o_now_ns := pglockd.rate_now_ns();
    select array_agg(pglockd.rate_level(r.tat_ns, r.quota, r.period_ns, a.quota, a.period_ns, a.burst_ns, o_now_ns)
                     order by a.n),
           array_agg(r.tat_ns is not null order by a.n)
      into o_tat_ns, v_known
      from unnest(p_key, p_rule, p_quota, p_period_ns, p_burst_ns) with ordinality
           as a (key, rule, quota, period_ns, burst_ns, n)
      left join pglockd.rate_counter r on r.key = a.key and r.rule = a.rule;

    -- Which requests may get something.
    for i in 1 .. v_requests loop
        if p_id[i] is not null then
            if p_wait then
                perform pg_advisory_xact_lock(1346849800, hashtext('id ' || p_id[i]));
            elsif not pg_try_advisory_xact_lock(1346849800, hashtext('id ' || p_id[i])) then
                o_status[i] := 'r';
                continue;
            end if;
        end if;
        continue when p_peek[i];
        v_possible := true;
        for j in p_first[i] .. p_first[i + 1] - 1 loop
            c := p_counter[j];
            if not p_shadow[c] and o_now_ns + p_burst_ns[c] - greatest(o_tat_ns[c], o_now_ns)
                    < pglockd.rate_cost_ns(p_step[i], p_quota[c], p_period_ns[c]) then
                v_possible := false;
                exit;
            end if;
        end loop;
        if v_possible then
            for j in p_first[i] .. p_first[i + 1] - 1 loop
                v_wanted[p_counter[j]] := true;
            end loop;
        end if;
    end loop;

    -- A counter is made under a guard, so that nobody waits for a row that is not committed.
    v_usable := array_fill(false, array[cardinality(p_key)]);
    v_new := v_usable;
    v_changed := v_usable;
    for c in 1 .. cardinality(p_key) loop
        if v_wanted[c] and not v_known[c] then
            if p_wait then
                perform pg_advisory_xact_lock(1346849800, hashtext(p_rule[c] || ' ' || p_key[c]));
            elsif not pg_try_advisory_xact_lock(1346849800, hashtext(p_rule[c] || ' ' || p_key[c])) then
                continue;
            end if;
            v_missing := v_missing || c;
        end if;
    end loop;
    if cardinality(v_missing) > 0 then
        foreach c in array v_missing loop
            v_new[c] := not exists (select from pglockd.rate_counter r where r.key = p_key[c] and r.rule = p_rule[c]);
            v_usable[c] := v_new[c];
        end loop;
    end if;

    if p_wait then
        perform from unnest(p_key, p_rule, v_wanted) as a (key, rule, wanted)
           join pglockd.rate_counter r on r.key = a.key and r.rule = a.rule
          where a.wanted
          order by a.key, a.rule
            for update of r;
        o_now_ns := pglockd.rate_now_ns();
    end if;
    for v_row in
        select a.n::integer as n,
               pglockd.rate_level(r.tat_ns, r.quota, r.period_ns, a.quota, a.period_ns, a.burst_ns, o_now_ns) as tat_ns
          from unnest(p_key, p_rule, p_quota, p_period_ns, p_burst_ns, v_wanted) with ordinality
               as a (key, rule, quota, period_ns, burst_ns, wanted, n)
          join pglockd.rate_counter r on r.key = a.key and r.rule = a.rule
         where a.wanted
         order by a.key, a.rule
           for update of r skip locked
    loop
        v_usable[v_row.n] := true;
        o_tat_ns[v_row.n] := v_row.tat_ns;
    end loop;

    -- Who gets what.
    <<requests>>
    for i in 1 .. v_requests loop
        continue when o_status[i] <> 'g';
        if p_id[i] is not null then
            c := p_counter[p_first[i]];
            v_rules := '';
            for j in p_first[i] .. p_first[i + 1] - 1 loop
                v_rules := v_rules || p_rule[p_counter[j]] || ' ';
            end loop;
            select q.cost, q.key, q.rules into v_before
              from pglockd.rate_request q where q.request_id = p_id[i] and q.identity = p_identity[i];
            if found then
                o_status[i] := case when v_before.cost = p_due[i] and v_before.key = p_key[c] and v_before.rules = v_rules
                                    then 'a' else 'm' end;
                continue;
            end if;
        end if;
        v_life_ns := case when p_peek[i] then 0 else p_life_ns[i] end;
        v_fit := p_want[i];
        v_fit_exact := greatest(p_due[i], p_step[i]);
        v_clamped := false;
        for j in p_first[i] .. p_first[i + 1] - 1 loop
            c := p_counter[j];
            if not p_peek[i] then
                continue requests when not v_wanted[c];
                if not v_usable[c] then
                    o_status[i] := 'r';
                    continue requests;
                end if;
            end if;
            continue when p_shadow[c];
            v_end_ns := o_now_ns + p_burst_ns[c];
            v_fit_exact := least(v_fit_exact, pglockd.rate_fit(v_end_ns - greatest(o_tat_ns[c], o_now_ns),
                                                               p_quota[c], p_period_ns[c]));
            if v_life_ns > 0 then
                v_fit := least(v_fit, pglockd.rate_fit(v_end_ns - greatest(o_tat_ns[c], o_now_ns + v_life_ns),
                                                       p_quota[c], p_period_ns[c]));
                v_clamped := v_clamped or o_tat_ns[c] < o_now_ns + v_life_ns;
            end if;
        end loop;
        if v_life_ns = 0 or (v_clamped and v_fit < p_due[i]) then
            -- Nothing in advance, rather than denying for it what is asked for now.
            v_fit := least(v_fit_exact, p_due[i]) / p_step[i] * p_step[i];
            v_life_ns := 0;
            o_status[i] := 'x';
        elsif v_fit < p_step[i] then
            v_fit := 0;
        end if;
        o_granted[i] := v_fit;
        continue when v_fit = 0;
        for j in p_first[i] .. p_first[i + 1] - 1 loop
            c := p_counter[j];
            v_charge := v_fit;
            if p_shadow[c] then
                v_charge := least(v_fit, pglockd.rate_fit(o_now_ns + p_burst_ns[c] - greatest(o_tat_ns[c], o_now_ns),
                                                          p_quota[c], p_period_ns[c])) / p_step[i] * p_step[i];
                o_over[i] := greatest(o_over[i], v_fit - v_charge);
            end if;
            if v_charge > 0 and not p_peek[i] then
                o_tat_ns[c] := greatest(o_tat_ns[c], o_now_ns + v_life_ns)
                               + pglockd.rate_cost_ns(v_charge, p_quota[c], p_period_ns[c]);
                v_changed[c] := true;
            end if;
        end loop;
        if p_id[i] is not null and not p_peek[i] then
            insert into pglockd.rate_request (cost, request_id, identity, key, rules)
            values (p_due[i], p_id[i], p_identity[i], p_key[p_counter[p_first[i]]], v_rules);
        end if;
    end loop;

    update pglockd.rate_counter r
       set tat_ns = a.tat_ns, quota = a.quota, period_ns = a.period_ns, burst = a.burst
      from unnest(p_key, p_rule, p_quota, p_period_ns, p_burst, o_tat_ns, v_changed, v_new)
           as a (key, rule, quota, period_ns, burst, tat_ns, changed, new)
     where a.changed and not a.new and r.key = a.key and r.rule = a.rule;
    if cardinality(v_missing) > 0 then
        insert into pglockd.rate_counter (tat_ns, quota, period_ns, burst, key, rule)
        select a.tat_ns, a.quota, a.period_ns, a.burst, a.key, a.rule
          from unnest(p_key, p_rule, p_quota, p_period_ns, p_burst, o_tat_ns, v_changed, v_new)
               as a (key, rule, quota, period_ns, burst, tat_ns, changed, new)
         where a.changed and a.new;
    end if;
end
$$;
comment on function pglockd.rate_decide(bigint, boolean, text[], text[], bigint[], bigint[], bigint[], bigint[],
    boolean[], integer[], integer[], bigint[], bigint[], bigint[], bigint[], boolean[], text[], text[]) is
    'Decides many requests for permits at once, in their order.';
