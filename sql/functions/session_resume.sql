-- pglockd.session_resume(session, secret, identity, instance, conn)
-- Purpose:    pglockd.session_renew() for a connection that takes the session up: its locks that are bound to a
--             connection (bind=connection) are bound to this one from now on, wherever the one before it was.
-- Parameters: session, secret, identity   as pglockd.session_renew()
--             instance, conn   the connection
-- Returns:    as pglockd.session_renew()
-- Tables:     lease (update), and those of session_renew
create or replace function pglockd.session_resume(
    p_session bigint, p_secret text, p_identity text, p_instance integer, p_conn bigint,
    out o_status text, out o_ttl_ms bigint, out o_locks bigint, out o_reason text, out o_lost_ms bigint)
language plpgsql
as $$
begin
    select r.* into o_status, o_ttl_ms, o_locks, o_reason, o_lost_ms from pglockd.session_renew(p_session, p_secret, p_identity) r;
    if o_status = 'g' then
        -- Waits for who has a row locked, in the order of all who do: the connection before must not end what it no
        -- longer has.
        with mine as materialized (
            select l.resource, l.token from pglockd.lease l
             where l.session_id = p_session and l.bound
             order by l.resource, l.token
               for no key update
        )
        update pglockd.lease l set instance_id = p_instance, conn_id = p_conn
          from mine
         where l.resource = mine.resource and l.token = mine.token;
    end if;
end
$$;
comment on function pglockd.session_resume(bigint, text, text, integer, bigint) is
    'Renews a session for a connection that takes it up, and binds to it what is bound to a connection.';
