-- pglockd.holders_json(resource)
-- Purpose:    the holders of a resource as the line protocol shows them, without tokens.
create or replace function pglockd.holders_json(p_resource text)
returns jsonb
language sql
as $$
    select coalesce(jsonb_agg(jsonb_build_object('resource', p_resource, 'owner', h.owner, 'mode', h.mode,
               'scope', h.scope, 'ttl_ms', h.ttl_ms, 'held_ms', h.held_ms, 'note', h.note) order by h.token), '[]')
      from pglockd.holders(array[p_resource]) h
$$;
comment on function pglockd.holders_json(text) is 'The holders of a resource as JSON, without tokens.';
