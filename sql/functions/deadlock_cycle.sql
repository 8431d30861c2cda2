-- pglockd.deadlock_cycle(instance, request)
-- Purpose:    why a request was answered DEADLOCK.
-- Returns:    the cycle, as pglockd.deadlock has it; null: there is none.
-- Tables:     deadlock (read)
create or replace function pglockd.deadlock_cycle(p_instance integer, p_request bigint)
returns text
language sql
as $$
    select d.cycle::text from pglockd.deadlock d where d.instance_id = p_instance and d.request_id = p_request
$$;
comment on function pglockd.deadlock_cycle(integer, bigint) is 'Why a request was answered DEADLOCK.';
