-- pglockd.record_server(reason, detail, quiet, token, ttl_ms)
-- Purpose:    records this server, lets the tokens leap, and opens the quiet period: for as long as the
--             longest TTL, and the slack of a lease, nothing is granted and the lease clock stands still.
--             Where commits may be lost, other numbers that must not come again leap, too, and grants that
--             no daemon has accepted end: nobody was told of them, and meanwhile they may have ended and
--             the resource have been granted to somebody else. The caller holds the advisory lock (class
--             0x50474C09).
-- Parameters: reason   of pglockd.server
--             quiet    open a quiet period
--             token, ttl_ms   as pglockd.notice_server()
-- Tables:     server (insert, delete), clock (update), lease (delete), tombstone (insert), longest_ttl (read), the
--             sequences of tokens, instances and sessions
create or replace function pglockd.record_server(p_reason text, p_detail text, p_quiet boolean, p_token bigint, p_ttl_ms bigint)
returns void
language plpgsql
as $$
declare
    v_gone pglockd.lease[];
    c_kept constant integer := 100;
    c_drawn_meanwhile constant bigint := 1048576;
    v_last bigint;
    v_to bigint;
    v_quiet_ms bigint := 0;
begin
    perform set_config('synchronous_commit', 'on', true);
    if p_quiet then
        -- Until a reading that the clock cannot show while it stands: 250 ms ahead of base_us at most.
        update pglockd.clock c
           set quiet_left_us = greatest(c.quiet_left_us,
                   pglockd.lease_end(0, greatest(pglockd.longest_ttl_ms(), p_ttl_ms))),
               quiet_until_us = greatest(c.quiet_until_us, c.base_us + 250001)
         where c.one
        returning (c.quiet_left_us + 999) / 1000 into v_quiet_ms;
        with gone as (
            delete from pglockd.lease l
             where (l.resource, l.token) in (select x.resource, x.token from pglockd.lease x
                                              where not x.delivered for update skip locked)
            returning l as lease, l.resource, l.token, l.owner, l.identity
        ), buried as (
            insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity)
            select g.token, pglockd.lease_now(), clock_timestamp(), 'failover', g.resource, g.owner, g.identity from gone g
                on conflict do nothing
        )
        select array_agg(g.lease) into v_gone from gone g;
        if v_gone is not null then
            perform pglockd.note_ends(v_gone, array_fill('failover'::pglockd.end_reason, array[cardinality(v_gone)]));
        end if;
    end if;
    update pglockd.clock c set synchronous = false where c.one and c.synchronous;
    select q.last_value into v_last from pglockd.token_seq q;
    v_to := pglockd.token_leap(greatest(v_last, p_token));
    -- A server in service draws tokens between the last statement and the leap: they are none of those
    -- that were never drawn here.
    insert into pglockd.server (system_identifier, timeline, database_oid, clock_oid, started_at, tokens_from, tokens_to,
                                quiet_ms, reason, detail)
    select i.system_identifier, i.timeline, i.database_oid, i.clock_oid, i.started_at,
           v_last + case when p_reason in ('lost', 'announced') then c_drawn_meanwhile else 0 end, v_to,
           v_quiet_ms, p_reason, p_detail
      from pglockd.server_identity() i;
    delete from pglockd.server s
     where s.server_id <= (select max(x.server_id) from pglockd.server x) - c_kept;
    perform setval('pglockd.token_seq', v_to);
    if p_reason not in ('first', 'restart') then
        perform setval(q.name, (pg_sequence_last_value(q.name) + q.leap)::bigint)
           from (values (pg_get_serial_sequence('pglockd.instance', 'instance_id')::regclass, 1000),
                        (pg_get_serial_sequence('pglockd.session', 'session_id')::regclass, 1000000)) q (name, leap)
          where pg_sequence_last_value(q.name) is not null;
    end if;
end
$$;
comment on function pglockd.record_server(text, text, boolean, bigint, bigint) is
    'Records this server, lets the tokens leap and opens the quiet period.';
