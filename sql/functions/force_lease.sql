-- pglockd.force_lease(resource, token, reason)
-- Purpose:    what pglockd.force() does; its own function because PL/pgSQL cannot have an argument and a
--             result column of one name.
-- Returns:    as pglockd.force()
create or replace function pglockd.force_lease(p_resource text, p_token bigint, p_reason text)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language plpgsql
as $$
#variable_conflict use_variable
declare
    r record;
begin
    perform pglockd.require_right('force', p_resource);
    -- Not as a setting of the function: that would be undone before the commit.
    perform set_config('synchronous_commit', 'on', true);
    r := pglockd.force_leases(p_resource, p_token, p_reason, session_user::text);
    if r.o_status = 'g' then
        status := 'OK';
        foreach token in array r.o_token loop
            return next;
        end loop;
        return;
    end if;
    status := case r.o_status when 'f' then 'FENCED' else 'LOST' end;
    token := p_token;
    holders := pglockd.holders_json(p_resource);
    return next;
end
$$;
comment on function pglockd.force_lease(text, bigint, text) is 'What pglockd.force() does.';
