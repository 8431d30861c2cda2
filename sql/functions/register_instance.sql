-- pglockd.register_instance(name, version, instance, token, ttl_ms)
-- Purpose:    makes the calling session the sign of life of a daemon: a row, and the session advisory
--             lock of its number. With a number it comes back after a lost connection.
-- Parameters: name      host and process
--             version   of the program
--             instance  null for a new daemon
--             token, ttl_ms   as pglockd.notice_server()
-- Returns:    the number; null when another session still holds the lock of that number.
-- Tables:     instance (insert, update), clock (read), and those of notice_server
create or replace function pglockd.register_instance(
    p_name text, p_version text, p_instance integer default null, p_token bigint default 0, p_ttl_ms bigint default 0)
returns integer
language plpgsql
as $$
declare
    v_instance integer := p_instance;
begin
    -- First: on another server the numbers leap.
    perform pglockd.notice_server(p_token, p_ttl_ms);
    if v_instance is null then
        v_instance := nextval(pg_get_serial_sequence('pglockd.instance', 'instance_id'));
    end if;
    if not pg_try_advisory_lock(1346849795, v_instance) then
        return null;
    end if;
    insert into pglockd.instance as n (instance_id, name, version, heartbeat_us)
    overriding system value
    values (v_instance, p_name, p_version, pglockd.lease_now())
        on conflict (instance_id) do update
        set heartbeat_us = excluded.heartbeat_us, heartbeat_at = clock_timestamp();
    return v_instance;
end
$$;
comment on function pglockd.register_instance(text, text, integer, bigint, bigint) is
    'Makes the calling session the sign of life of a daemon.';
