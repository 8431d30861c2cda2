-- pglockd.fence_lease(resource, token)
-- Purpose:    what pglockd.assert_fence() does, for whoever shows the token, without a look at rights: what lets the
--             writer to a table with pglockd.fence_guard() write is the token.
-- Parameters: as pglockd.assert_fence()
-- Errors:     PL001, 40001 as pglockd.assert_fence(). Who may not read the resource is not told who holds it.
-- Tables:     lease, session (for key share), clock, tombstone, identity (read)
create or replace function pglockd.fence_lease(p_resource text, p_token bigint)
returns void
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    -- The lease clock showed no less when this transaction began, since it never runs faster than real time.
    v_began_us constant bigint := v_now_us - greatest(
        0, (extract(epoch from clock_timestamp() - transaction_timestamp()) * 1000000)::bigint);
    v_session bigint;
    v_session_end_us bigint;
    v_holds boolean;
    v_reads boolean;
    v_why record;
begin
    -- The session before the lease: the one order of locks.
    select l.session_id into v_session
      from pglockd.lease l where l.resource = p_resource and l.token = p_token;
    select s.expires_us into v_session_end_us
      from pglockd.session s where s.session_id = v_session and s.ended_us is null for key share;
    -- Whoever has ended it, this waits for. What ran out while this transaction went on may have been asserted by it
    -- before, and nobody has removed it: it holds. But a holder in its grace was told that it does not.
    select coalesce(v_session_end_us, l.expires_us) > case when l.grace_ms is null then v_began_us else v_now_us end
           and l.session_id is not distinct from v_session and (v_session is null or v_session_end_us is not null)
      into v_holds
      from pglockd.lease l where l.resource = p_resource and l.token = p_token for key share;
    if v_holds then
        return;
    end if;
    v_reads := pglockd.may('read', p_resource);
    select * into v_why
      from pglockd.explain_lost(p_resource, p_token, case when v_reads then '' else session_user::text end);
    raise exception 'token % does not hold %', p_token, p_resource
        using errcode = 'PL001',
              detail = 'reason ' || v_why.reason || coalesce(', ' || v_why.detail, '')
                       || coalesce(', ' || v_why.lost_ms || ' ms ago', '')
                       || coalesce(', held by ' || case when v_reads then nullif(v_why.held_by, '') end || ' now', ''),
              hint = 'Stop: somebody else may hold it. Nothing that this transaction did stays.';
end
$$;
comment on function pglockd.fence_lease(text, bigint) is 'What pglockd.assert_fence() does.';
