-- pglockd.require_identity(name)
-- Purpose:    locks the row of a name, so that changes of one name follow each other.
-- Errors:     42704 (undefined_object) where there is no such name, or it was revoked.
-- Tables:     identity (for update)
create or replace function pglockd.require_identity(p_name text)
returns void
language plpgsql
as $$
begin
    perform from pglockd.identity i where i.name = p_name and i.revoked_at is null for update;
    if not found then
        raise exception 'there is no valid name %: make it with key create', p_name using errcode = '42704';
    end if;
end
$$;
comment on function pglockd.require_identity(text) is 'Raises 42704 unless the name is there and valid.';
