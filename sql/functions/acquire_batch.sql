-- pglockd.acquire_batch(instance, …)
-- Purpose:    decides many LOCK requests at once, in the order of the arrays: grants a lease, puts a
--             waiter into the queue, or refuses. A request is granted when no lease and no earlier
--             waiter of its resource conflicts with it, so that nobody is overtaken.
-- Parameters: instance   the daemon that asks; null for SQL, which cannot wait
--             resource, exclusive, ttl_ms, wait   one element a request
--             conn, request                       numbers by which the daemon knows it
--             owner, note, identity, id           may be shorter arrays: what is missing is null
-- Returns:    item      position of the request in the arrays, from 1
--             status    g granted (number: token)      w waits (number: ticket)
--                       b busy                         q busy: quiet period, nothing is granted
--                       r the guard is held elsewhere: nothing was done, ask again
--                       a the same id again: granted before (number: token)
--                       m the same id with other arguments
--             number    see status
--             grant_request, grant_token   own waiters that an expired lease made room for
--             wake      other daemons with new grants, to be notified after the commit
--             pending   resources that someone must promote later
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     lease, waiter (insert), tombstone (insert), clock (read)
create or replace function pglockd.acquire_batch(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_ttl_ms bigint[], p_wait boolean[],
    p_conn bigint[], p_request bigint[], p_owner text[], p_note text[], p_identity text[], p_id text[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_count constant integer := cardinality(p_resource);
    v_distinct integer;
    v_missed integer;
    v_now_us bigint;
    v_quiet_us bigint;
    v_wall_at timestamptz;
    v_left integer[];
    v_item integer[];
    v_number bigint[];
    v_unguarded integer[] := '{}';
    v_resources text[];
    v_expired boolean;
    r record;
begin
    perform pglockd.require_read_committed();

    select count(distinct h.key), count(*) filter (where not pg_try_advisory_xact_lock(1346849793, h.key))
      into v_distinct, v_missed
      from (select pglockd.guard_key(p_resource[i]) as key from generate_series(1, v_count) i) h;

    -- A new statement from here on: it sees what the last holders of the guards committed.
    select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at), clock_timestamp(),
           case when e.one then c.quiet_until_us end
      into v_now_us, v_wall_at, v_quiet_us
      from pglockd.clock c left join pglockd.queue_epoch e on e.one
     where c.one;

    if v_missed = 0 and v_distinct = v_count and v_now_us >= v_quiet_us and cardinality(p_id) = 0 then
        -- The usual case, without the cost of ordering: no two requests for one resource.
        with decided as materialized (
            select i, case when l.mode is null and w.ticket is null then nextval('pglockd.token_seq') end as token
              from generate_series(1, v_count) i
              left join lateral (select x.mode from pglockd.lease x
                                  where x.resource = p_resource[i] limit 1) l on true
              left join lateral (select x.ticket from pglockd.waiter x
                                  where x.resource = p_resource[i] and x.absent_until_us is null
                                  limit 1) w on true
        ), granted as (
            insert into pglockd.lease (token, expires_us, check_us, ttl_ms, granted_at, conn_id, request_id,
                                       instance_id, mode, scope, delivered, resource, owner, identity, note)
            select d.token, v_now_us + 1000000 + 1000 * p_ttl_ms[i], v_now_us + 1000000 + 1000 * p_ttl_ms[i],
                   p_ttl_ms[i], v_wall_at, p_conn[i], p_request[i], p_instance,
                   case when p_exclusive[i] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node', true,
                   p_resource[i], coalesce(p_owner[i], ''), coalesce(p_identity[i], ''), p_note[i]
              from decided d
             where d.token is not null
        )
        select array_agg(d.i) filter (where d.token is not null),
               array_agg(d.token) filter (where d.token is not null),
               array_agg(d.i) filter (where d.token is null)
          into o_item, o_number, v_left
          from decided d;
        o_status := array_fill('g'::"char", array[coalesce(cardinality(o_item), 0)]);
        if v_left is null then
            return;
        end if;
    else
        v_left := array(select generate_series(1, v_count));
    end if;

    if v_quiet_us is null then
        v_quiet_us := pglockd.open_queue_epoch();
    end if;
    if v_missed > 0 then
        v_unguarded := array(select i from unnest(v_left) i
                              where not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])));
        v_left := array(select i from unnest(v_left) i where i <> all (v_unguarded));
        for r in select i from unnest(v_unguarded) i where p_wait[i] is not true loop
            o_item := o_item || r.i;
            o_status := o_status || 'r'::"char";
            o_number := o_number || null::bigint;
        end loop;
    end if;
    if cardinality(p_id) > 0 then
        for r in
            select i, f.* from unnest(v_left) i,
                   lateral pglockd.find_repeated(p_instance, p_resource[i], p_exclusive[i], p_ttl_ms[i], p_conn[i],
                       p_request[i], coalesce(p_owner[i], ''), coalesce(p_identity[i], ''), p_id[i]) f
             where p_id[i] is not null
        loop
            v_left := array_remove(v_left, r.i);
            o_item := o_item || r.i;
            o_status := o_status || r.status;
            o_number := o_number || r.number;
            if r.status = 'w' then
                o_pending := o_pending || p_resource[r.i];
            end if;
        end loop;
    end if;

    loop
        exit when cardinality(v_left) = 0 or v_now_us < v_quiet_us;
        -- In the order of the arrays: a shared request joins shared ones until an exclusive one waits.
        with seen as (
            select i, p_resource[i] as resource, p_exclusive[i] as exclusive, p_wait[i] as wait,
                   l.mode as held, w.ticket is not null as queued
              from unnest(v_left) i
              left join lateral (select x.mode from pglockd.lease x
                                  where x.resource = p_resource[i] limit 1) l on true
              left join lateral (select x.ticket from pglockd.waiter x
                                  where x.resource = p_resource[i] and x.absent_until_us is null
                                  limit 1) w on true
        ), ranked as (
            select s.*, row_number() over same as place, first_value(s.exclusive) over same as exclusive_first,
                   coalesce(bool_or(s.exclusive and s.wait) over (partition by s.resource order by s.i
                       rows between unbounded preceding and 1 preceding), false) as exclusive_waits
              from seen s
            window same as (partition by s.resource order by s.i)
        ), decided as materialized (
            select k.i,
                   case when not k.queued
                         and (k.held is null and k.place = 1
                              or not k.exclusive and not k.exclusive_waits
                                 and (k.held = 'shared' or k.held is null and not k.exclusive_first))
                        then nextval('pglockd.token_seq') end as token
              from ranked k
        ), granted as (
            insert into pglockd.lease (token, expires_us, check_us, ttl_ms, granted_at, conn_id, request_id,
                                       instance_id, mode, scope, delivered, resource, owner, identity, note,
                                       idempotency_key)
            select d.token, v_now_us + 1000000 + 1000 * p_ttl_ms[i], v_now_us + 1000000 + 1000 * p_ttl_ms[i],
                   p_ttl_ms[i], v_wall_at, p_conn[i], p_request[i], p_instance,
                   case when p_exclusive[i] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node', true,
                   p_resource[i], coalesce(p_owner[i], ''), coalesce(p_identity[i], ''), p_note[i], p_id[i]
              from decided d
             where d.token is not null
        )
        select array_agg(d.i) filter (where d.token is not null),
               array_agg(d.token) filter (where d.token is not null),
               coalesce(array_agg(d.i) filter (where d.token is null), '{}')
          into v_item, v_number, v_left
          from decided d;
        o_item := o_item || v_item;
        o_number := o_number || v_number;
        o_status := o_status || array_fill('g'::"char", array[coalesce(cardinality(v_item), 0)]);
        exit when cardinality(v_left) = 0;

        -- What has expired blocks nobody: remove it, let the queue go first, then decide again.
        v_expired := false;
        for r in
            select distinct p_resource[i] as resource from unnest(v_left) i
             where exists (select from pglockd.lease x
                            where x.resource = p_resource[i] and x.expires_us <= v_now_us)
        loop
            if pglockd.expire(r.resource, v_now_us) > 0 then
                v_expired := true;
                select o_grant_request || s.o_request, o_grant_token || s.o_token, o_wake || s.o_wake,
                       case when s.o_more then o_pending || r.resource::text else o_pending end
                  into o_grant_request, o_grant_token, o_wake, o_pending
                  from pglockd.promote(p_instance, r.resource) s;
            end if;
        end loop;
        exit when not v_expired;
    end loop;

    for r in select i from unnest(v_left) i where p_wait[i] is not true loop
        o_item := o_item || r.i;
        o_status := o_status || (case when v_now_us < v_quiet_us then 'q' else 'b' end)::"char";
        o_number := o_number || null::bigint;
    end loop;

    -- What was not guarded joins the queue all the same, so that newcomers line up behind it.
    with ticketed as materialized (
        select o.i, nextval('pglockd.ticket_seq') as ticket
          from (select i from unnest(v_left || v_unguarded) i where p_wait[i] order by i) o
    ), queued as (
        insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, instance_id, mode, scope,
                                    resource, owner, identity, note, idempotency_key)
        select t.ticket, p_request[i], p_conn[i], p_ttl_ms[i], v_wall_at, p_instance,
               case when p_exclusive[i] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node',
               p_resource[i], coalesce(p_owner[i], ''), coalesce(p_identity[i], ''), p_note[i], p_id[i]
          from ticketed t
    )
    select array_agg(t.i), array_agg(t.ticket),
           array_agg(distinct p_resource[t.i]) filter (where t.i = any (v_unguarded) or v_now_us < v_quiet_us)
      into v_item, v_number, v_resources
      from ticketed t;
    o_item := o_item || v_item;
    o_status := o_status || array_fill('w'::"char", array[coalesce(cardinality(v_item), 0)]);
    o_number := o_number || v_number;
    o_pending := o_pending || v_resources;
end
$$;
comment on function pglockd.acquire_batch(integer, text[], boolean[], bigint[], boolean[], bigint[], bigint[],
    text[], text[], text[], text[]) is 'Decides many LOCK requests at once, in their order.';
