-- pglockd.renew_lease(resource, token, ttl)
-- Purpose:    what pglockd.renew() does; its own function because PL/pgSQL cannot have an argument and a
--             result column of one name.
-- Returns:    as pglockd.renew()
create or replace function pglockd.renew_lease(p_resource text, p_token bigint, p_ttl interval)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_ttl_ms constant bigint := (extract(epoch from p_ttl) * 1000)::bigint;
    r record;
begin
    perform pglockd.require_right('lock', p_resource);
    -- Not as a setting of the function: that would be undone before the commit.
    perform set_config('synchronous_commit', 'on', true);
    if v_ttl_ms < 100 or v_ttl_ms > 600000 then
        raise exception 'ttl must be between 100 ms and 10 minutes' using errcode = '22023';
    end if;
    select b.o_status[1] as status, b.o_number[1] as number into r
      from pglockd.renew_batch(null, array[p_resource], array[p_token], array[v_ttl_ms], array[session_user::text], '{}') b;
    status := case r.status when 'g' then 'OK' when 'd' then 'DENIED' when 'r' then 'BUSY' else 'LOST' end;
    token := p_token;
    if status = 'OK' then
        ttl_ms := r.number;
    else
        holders := pglockd.holders_json(p_resource);
    end if;
    return next;
end
$$;
comment on function pglockd.renew_lease(text, bigint, interval) is 'What pglockd.renew() does.';
