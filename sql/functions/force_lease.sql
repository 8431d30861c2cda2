-- pglockd.force_lease(resource, token, reason)
-- Purpose:    what pglockd.force() does; its own function because PL/pgSQL cannot have an argument and a
--             result column of one name.
-- Returns:    as pglockd.force()
-- Errors:     42501 without the right.
create or replace function pglockd.force_lease(p_resource text, p_token bigint, p_reason text)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_ended integer := 0;
    r record;
begin
    perform pglockd.require_right('force', p_resource);
    -- Not as a setting of the function: that would be undone before the commit.
    perform set_config('synchronous_commit', 'on', true);
    for r in
        with gone as (
            delete from pglockd.lease l where l.resource = p_resource and (p_token is null or l.token = p_token)
            returning l.*
        )
        insert into pglockd.tombstone as t (token, ended_us, ended_at, reason, resource, owner, identity, detail, session_id)
        select g.token, v_now_us, clock_timestamp(), 'forced', g.resource, g.owner, g.identity,
               'by ' || session_user || coalesce(': ' || p_reason, ''), g.session_id
          from gone g
        returning t.token
    loop
        status := 'OK';
        token := r.token;
        v_ended := v_ended + 1;
        return next;
    end loop;
    if v_ended = 0 then
        status := 'LOST';
        token := p_token;
        holders := pglockd.holders_json(p_resource);
        return next;
        return;
    end if;
    perform pglockd.tell_listeners(array[p_resource]);
    select h.o_wake into r from pglockd.hand_over(null, array[p_resource]) h;
    if r.o_wake is not null then
        perform pglockd.notify_instances(r.o_wake::bigint[]);
    end if;
end
$$;
comment on function pglockd.force_lease(text, bigint, text) is 'What pglockd.force() does.';
