-- pglockd.add_proof()
-- Purpose:    makes the constraint of the proof at level all of history, where the extension that it needs has come since
--             the schema was made. With the rights of the schema's owner, since it changes a table.
-- Returns:    whether the proof is there. Why not is a matter of the extension btree_gist: an administrator installs it,
--             and the janitor finds it.
-- Errors:     55P03 the table stayed locked for lock_timeout: nothing was done
-- Tables:     lease_proof
create or replace function pglockd.add_proof()
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pglockd.lease_proof_no_overlap') is null
       and exists (select from pg_catalog.pg_extension e where e.extname = 'btree_gist') then
        -- Nothing is kept in it without the constraint.
        alter table pglockd.lease_proof add constraint lease_proof_no_overlap
            exclude using gist (hashtextextended(resource, 0) with =, held_us with &&);
    end if;
    return to_regclass('pglockd.lease_proof_no_overlap') is not null;
end
$$;
comment on function pglockd.add_proof() is 'Makes the constraint of the proof of history where it is missing and can be made.';
