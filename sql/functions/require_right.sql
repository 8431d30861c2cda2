-- pglockd.require_right(verb, resource, tree)
-- Purpose:    what functions that database users call begin with: pglockd.may(), or an error.
-- Parameters: as pglockd.may()
-- Errors:     42501 (insufficient_privilege) that names the missing right.
-- Tables:     as pglockd.may()
create or replace function pglockd.require_right(p_verb text, p_resource text, p_tree boolean default false)
returns void
language plpgsql stable
as $$
begin
    if not pglockd.may(p_verb, p_resource, p_tree) then
        raise exception '% has no right %:%', session_user, p_verb, p_resource || case when p_tree then ' with its tree' else '' end
            using errcode = '42501',
                  hint = 'Rights of a name in pglockd.identity are given with pglockctl key allow.';
    end if;
end
$$;
comment on function pglockd.require_right(text, text, boolean) is 'Raises 42501 unless the database user may do this.';
