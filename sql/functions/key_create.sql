-- pglockd.key_create(name, sha256, allow, expires, note)
-- Purpose:    makes a name with its rights and its first key; or another key of a name that is there, with
--             no rights beside those that it has. A name that was revoked is made anew, with these rights and no
--             others.
-- Parameters: name      1 to 128 letters, digits, _ . @ : / + or -
--             sha256    of the key; null: the name gets no key (for users of a Unix socket, or of the
--                       database)
--             allow     rights as VERB:PATTERN; null or empty: none
--             expires   for how long the key is valid; null: for ever
-- Returns:    the id of the key; null where there is none.
-- Errors:     42710 (duplicate_object) for rights that a name which is there and valid has not; 22023,
--             23514 for wrong arguments; 42501 without the right.
-- Tables:     identity (insert, update), identity_right (insert, delete), api_key (insert, delete)
create or replace function pglockd.key_create(
    name text, sha256 bytea, allow text[] default null, expires interval default null, note text default null)
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    v_revoked boolean;
begin
    perform pglockd.require_right('admin', '*');
    select i.revoked_at is not null into v_revoked from pglockd.identity i where i.name = key_create.name for update;
    if v_revoked is false then
        perform from unnest(allow) a (entry)
          where not exists (select from pglockd.identity_right r
                             where r.name = key_create.name and r.verb || ':' || r.pattern = a.entry);
        if found then
            raise exception '% is there already, with other rights: make another key without any, or change them with key allow', name
                using errcode = '42710';
        end if;
    elsif v_revoked is null then
        insert into pglockd.identity (name, note) values (key_create.name, key_create.note);
    else
        delete from pglockd.identity_right r where r.name = key_create.name;
        update pglockd.identity i
           set revoked_at = null, revoked_by = null, created_at = clock_timestamp(), created_by = session_user,
               note = key_create.note
         where i.name = key_create.name;
    end if;
    perform pglockd.identity_add_rights(name, allow);
    return case when sha256 is not null then pglockd.key_add(name, sha256, expires, note) end;
end
$$;
comment on function pglockd.key_create(text, bytea, text[], interval, text) is 'Makes a name with its rights and a key.';
