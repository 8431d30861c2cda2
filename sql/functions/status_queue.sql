-- pglockd.status_queue(prefix, rows_max, whole)
-- Purpose:    who waits, and for whom, for who looks at the whole service.
-- Parameters: prefix     null for all; else that resource and all beneath it
--             rows_max   at most so many
--             whole      false: who asks may not read what is not beneath prefix
-- Returns:    a row for every resource that somebody waits for, in the order of service
--             place      in the queue of the resource, among the rows that are shown
--             behind     an array: whom it waits for, see pglockd.status_behind(); empty where nothing is in
--                        the way any more. In one line, which json_agg() would not keep to.
-- Tables:     waiter, lease, instance (read)
create or replace function pglockd.status_queue(p_prefix text, p_rows_max integer, p_whole boolean)
returns table (resource text, owner text, identity text, mode text, scope text, waiting_ms bigint, place bigint,
               absent boolean, note text, "limit" integer, weight integer, session bigint, instance text, behind json)
language sql stable
as $$
    select w.resource, w.owner, w.identity, w.mode::text, w.scope::text,
           greatest(0, extract(epoch from clock_timestamp() - w.enqueued_at) * 1000)::bigint,
           row_number() over (partition by w.resource order by w.ticket),
           w.absent_until_us is not null, w.note, w.slots, w.weight, w.session_id,
           (select i.name from pglockd.instance i where i.instance_id = w.instance_id),
           array_to_json(array(select row_to_json(b) from pglockd.status_behind(w.resource, w.ticket) b
                                where p_whole or b.resource = p_prefix
                                      or b.resource > pglockd.beneath_low(p_prefix) collate "C"
                                         and b.resource < pglockd.beneath_high(p_prefix) collate "C"))
      from (select x.* from pglockd.waiter x
             where x.resource >= coalesce(p_prefix, '')
               and x.resource < pglockd.beneath_high(coalesce(p_prefix, '/'))
               and (p_prefix is null or x.resource = p_prefix or x.resource > pglockd.beneath_low(p_prefix))
             order by x.ticket, x.resource
             limit p_rows_max) w
     order by w.ticket, w.resource
$$;
comment on function pglockd.status_queue(text, integer, boolean) is 'Who waits, and for whom, for who looks at the whole service.';
