-- pglockd.holders_json(resource, tree)
-- Purpose:    who holds what is asked for, as the line protocol shows them, without tokens; those that the
--             database user may not read are left out.
-- Parameters: as one element of pglockd.holders()
create or replace function pglockd.holders_json(p_resource text, p_tree boolean default false)
returns jsonb
language sql
as $$
    select coalesce(jsonb_agg(jsonb_build_object('resource', h.resource, 'owner', h.owner, 'identity', h.identity,
               'mode', h.mode, 'scope', h.scope, 'ttl_ms', h.ttl_ms, 'held_ms', h.held_ms, 'note', h.note) order by h.token), '[]')
      from pglockd.holders(array[p_resource], array[p_tree]) h
     where pglockd.may('read', h.resource)
$$;
comment on function pglockd.holders_json(text, boolean) is 'Who holds what is asked for as JSON, without tokens.';
