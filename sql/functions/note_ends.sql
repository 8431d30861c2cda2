-- pglockd.note_ends(lease, reason, detail)
-- Purpose:    leases have ended in this transaction: notes them in history as far as its level goes, proves them at level
--             all, and notes events for those who watch. To be called before the resources are handed over, so that
--             who waits is still there.
-- Parameters: lease     the rows as they were; those that nobody wants noted may be left out
--             reason    why, one for each
--             detail    for history: by whom and why, or what it became; null: nothing to say
-- Returns:    {0} where those who watch are to be told after the commit (pglockd.notify_instances()), else null
-- Tables:     lease_history, event_outbox (insert), clock, watch, waiter (read), and those of pglockd.prove_holds()
create or replace function pglockd.note_ends(
    p_lease pglockd.lease[], p_reason pglockd.end_reason[], p_detail text default null)
returns integer[]
language plpgsql
as $$
declare
    v_level constant text := pglockd.history_level();
    v_now constant timestamptz := clock_timestamp();
    v_stems constant text[] := case when (select c.watched from pglockd.clock c where c.one) then pglockd.watched_stems() end;
    v_closer constant boolean := v_stems is not null and v_stems = '{""}' and not pglockd.is_watched('/');
begin
    if v_level <> 'off' then
        insert into pglockd.lease_history (ended_at, held, token, session_id, conn_id, instance_id, waited_ms, slots, weight,
                                           mode, scope, reason, resource, owner, identity, note, detail, waited_by, gave_up)
        select v_now,
               tstzrange(least(l.granted_at, v_now), v_now, case when l.granted_at < v_now then '[)' else '[]' end),
               l.token, l.session_id, l.conn_id, l.instance_id, l.waited_ms, l.slots, l.weight, l.mode, l.scope,
               p_reason[l.ordinality], l.resource, l.owner, l.identity, l.note, p_detail, w.owners,
               coalesce(l.gave_up, '{}')
          from unnest(p_lease) with ordinality l
          -- Past the dead entries of those served before; the few who are marked (early_resource) may be missing.
         cross join lateral (select case when l.scope = 'tree' or (select exists (select from pglockd.waiter t
                                                                                   where t.scope = 'tree'))
                                         then pglockd.waiting_owners(l.resource, l.scope)
                                         else array(select q.owner from pglockd.waiter q
                                                     where q.resource = l.resource and q.ticket > l.queue_floor
                                                       and q.absent_until_us is null
                                                     order by q.ticket limit 10) end as owners
                             offset 0) w
         where v_level = 'all' or l.waited_ms is not null or l.gave_up is not null or w.owners <> '{}'
            or p_reason[l.ordinality] not in ('released', 'session_closed', 'superseded');
        if v_level = 'all' then
            perform pglockd.prove_holds(p_lease);
        end if;
    end if;
    if v_stems is not null then
        insert into pglockd.event_outbox (at, token, event, mode, scope, reason, resource, owner, identity, detail)
        select v_now, l.token,
               case when p_reason[l.ordinality] in ('expired', 'forced') then p_reason[l.ordinality]::text
                    when p_reason[l.ordinality] in ('failover', 'unknown') then 'lost' else 'released' end,
               l.mode, l.scope, p_reason[l.ordinality], l.resource, l.owner, l.identity, p_detail
          from unnest(p_lease) with ordinality l
         where (l.resource || '/') ^@ any (v_stems) and (not v_closer or pglockd.is_watched(l.resource));
        if found then
            return '{0}';
        end if;
    end if;
    return null;
end
$$;
comment on function pglockd.note_ends(pglockd.lease[], pglockd.end_reason[], text) is
    'Notes leases that have ended, for history and for those who watch.';
