-- pglockd.force_many(owner, prefix, reason, leases_max)
-- Purpose:    what pglockd.force_owner() and pglockd.force_prefix() do.
-- Parameters: owner, prefix   whose leases, or the leases of what; one of them is null
--             reason          why, kept and shown
--             leases_max      so many at once, 1 to 500
-- Returns:    a row for every lease: status OK, it ended; FENCED, somebody's transaction keeps it locked and it stands
--             (100 of these at most). Leases that are granted by this very call are left for the next.
-- Errors:     22023 where owner or prefix is empty, prefix is no resource, or leases_max is out of range; 25001 outside
--             of READ COMMITTED; 42501 for a name without the right to force one of them: then nothing was done.
-- Tables:     lease (read), and those of force_one
create or replace function pglockd.force_many(p_owner text, p_prefix text, p_reason text, p_leases_max integer)
returns table (status text, resource text, token bigint)
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_fenced_max constant integer := 100;
    v_until constant timestamptz := clock_timestamp() + interval '500 ms';
    v_leases refcursor;
    v_resource text[] := '{}';
    v_token bigint[] := '{}';
    v_ended integer := 0;
begin
    perform pglockd.require_read_committed();
    if p_leases_max is null or p_leases_max not between 1 and 500 then
        raise exception 'leases_max is 1 to 500, not %', coalesce(p_leases_max::text, 'null') using errcode = '22023';
    elsif p_prefix is not null then
        perform pglockd.check_resource(p_prefix, true);
        -- From the prefix on in the order of the index, past what lies beside it, such as a.b beside a.
        open v_leases for
            select l.resource, l.token from pglockd.lease l
             where l.resource >= case when p_prefix = '/' then '' else p_prefix end
               and l.resource < pglockd.beneath_high(p_prefix) and pglockd.is_beneath(l.resource, p_prefix)
             order by l.resource, l.token;
    elsif coalesce(p_owner, '') = '' then
        raise exception 'whose leases? the owner is empty' using errcode = '22023',
              hint = 'Leases without an owner can be ended by their resources: pglockd.force(), pglockd.force_prefix().';
    else
        open v_leases for
            select l.resource, l.token from pglockd.lease l where l.owner = p_owner and l.owner <> '' order by l.resource;
    end if;
    while v_ended < p_leases_max loop
        fetch v_leases into resource, token;
        exit when not found;
        status := pglockd.force_one(resource, token, p_reason, v_until - interval '1 hour');
        if status = 'OK' then
            v_ended := v_ended + 1;
            return next;
        elsif status = 'FENCED' and cardinality(v_token) < c_fenced_max then
            v_resource := v_resource || resource;
            v_token := v_token || token;
        end if;
    end loop;
    close v_leases;
    for i in 1 .. cardinality(v_token) loop
        resource := v_resource[i];
        token := v_token[i];
        status := pglockd.force_one(resource, token, p_reason, v_until);
        if status <> 'LOST' then
            return next;
        end if;
    end loop;
end
$$;
comment on function pglockd.force_many(text, text, text, integer) is
    'What pglockd.force_owner() and pglockd.force_prefix() do.';
