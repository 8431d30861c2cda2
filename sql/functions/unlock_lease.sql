-- pglockd.unlock_lease(resource, token)
-- Purpose:    what pglockd.unlock() does; its own function because PL/pgSQL cannot have an argument and a
--             result column of one name.
-- Returns:    as pglockd.unlock()
create or replace function pglockd.unlock_lease(p_resource text, p_token bigint)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_until constant timestamptz := clock_timestamp() + interval '200 ms';
    r record;
begin
    perform pglockd.require_right('lock', p_resource);
    -- Not as a setting of the function: that would be undone before the commit.
    perform set_config('synchronous_commit', 'on', true);
    loop
        select b.o_status[1] as status, b.o_wake into r
          from pglockd.release_batch(null, array[p_resource], array[p_token], array[session_user::text], '{}', '{}', true) b;
        exit when r.status not in ('r', 'f') or clock_timestamp() >= v_until;
        perform pg_sleep(0.005);
    end loop;
    if r.o_wake is not null then
        perform pglockd.notify_instances(r.o_wake::bigint[]);
    end if;
    status := case r.status when 'g' then 'OK' when 'd' then 'DENIED' when 'r' then 'BUSY' when 'f' then 'FENCED'
                         else 'LOST' end;
    token := p_token;
    if status <> 'OK' then
        holders := pglockd.holders_json(p_resource);
    end if;
    return next;
end
$$;
comment on function pglockd.unlock_lease(text, bigint) is 'What pglockd.unlock() does.';
