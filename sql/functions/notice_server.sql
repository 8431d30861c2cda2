-- pglockd.notice_server(token, ttl_ms)
-- Purpose:    whoever comes to a server looks whether it is the recorded one, before it decides anything:
--             each lane when it is claimed, the janitor when it is elected, a daemon when it registers and
--             at its heartbeat, tick(). The first who finds another server, or another life of it, records it
--             and lets the tokens leap.
--             A quiet period follows where a grant may have been lost that somebody still relies on: on
--             another timeline, unless every standby had to confirm each commit; in another cluster or a
--             copy; and where tokens were seen that were not drawn here. A restart on the same timeline
--             loses nothing that was acknowledged.
-- Parameters: token    the highest fencing token that the caller was told of; 0: none
--             ttl_ms   the longest TTL, and grace, that the caller asked for before it came here: a server that
--                      has lost commits may have lost the record of it, too; 0: none. Null: a caller that is not about
--                      to decide anything; it does not wait for somebody who records
-- Errors:     55000 on a standby.
-- Tables:     those of record_server
create or replace function pglockd.notice_server(p_token bigint default 0, p_ttl_ms bigint default null)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    v_change text;
    v_lost boolean;
    v_synchronous boolean;
begin
    -- Who records lets the tokens leap at once, and until the commit nothing else shows it.
    if p_ttl_ms is not null then
        perform pg_advisory_lock_shared(1346849801, 0);
        perform pg_advisory_unlock_shared(1346849801, 0);
    end if;
    if pglockd.server_change() is not null or pglockd.tokens_were_lost(p_token) then
        perform pg_advisory_xact_lock(1346849801, 0);
        -- In new statements, which see what the last holder of the lock has committed.
        v_change := pglockd.server_change();
        v_lost := pglockd.tokens_were_lost(p_token);
        select c.synchronous into v_synchronous from pglockd.clock c where c.one;
        if v_lost then
            perform pglockd.record_server(case when v_change in ('failover', 'moved') then v_change else 'lost' end,
                                          null, true, p_token, p_ttl_ms);
        elsif v_change is not null then
            perform pglockd.record_server(v_change, null,
                v_change = 'moved' or v_change = 'failover' and not v_synchronous, p_token, p_ttl_ms);
        end if;
    end if;
    -- Only now: another may have recorded the server while this one waited, and not have known of this TTL.
    if p_ttl_ms > 0 then
        perform pglockd.report_ttl(p_ttl_ms);
    end if;
end
$$;
comment on function pglockd.notice_server(bigint, bigint) is
    'Looks whether this server is the recorded one; the first to find another records it and lets the tokens leap.';
