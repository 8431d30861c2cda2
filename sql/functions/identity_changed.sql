-- pglockd.identity_changed()
-- Purpose:    trigger on identity, identity_right and api_key: gives them a new version and tells the
--             daemons, who ask for it every 300 ms besides. That a key was used is no change.
-- Errors:     54000 (program_limit_exceeded) above 10,000 names, 200 rights of one name, or 20,000 keys:
--             every daemon keeps them in memory.
-- Tables:     identity, identity_right, api_key (read), identity_epoch (update)
create or replace function pglockd.identity_changed()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_above constant text := case
        when tg_table_name = 'identity' and (select count(*) from pglockd.identity) > 10000
            then 'there may be 10000 names at most'
        when tg_table_name = 'api_key' and (select count(*) from pglockd.api_key) > 20000
            then 'there may be 20000 keys at most'
        when tg_table_name = 'identity_right'
             and exists (select from pglockd.identity_right r group by r.name having count(*) > 200)
            then 'a name may have 200 rights at most: use patterns'
    end;
begin
    if v_above is not null then
        raise exception '%', v_above using errcode = '54000';
    end if;
    update pglockd.identity_epoch set epoch = epoch + 1;
    perform pg_notify('pglockd_identity', '');
    return null;
end
$$;
comment on function pglockd.identity_changed() is 'Trigger: makes a change of names, rights and keys known to the daemons.';
create or replace trigger identity_changed
    after insert or update or delete or truncate on pglockd.identity
    for each statement execute function pglockd.identity_changed();
comment on trigger identity_changed on pglockd.identity is 'Makes a change known to the daemons.';
create or replace trigger identity_changed
    after insert or update or delete or truncate on pglockd.identity_right
    for each statement execute function pglockd.identity_changed();
comment on trigger identity_changed on pglockd.identity_right is 'Makes a change known to the daemons.';
create or replace trigger identity_changed
    after insert or update of sha256, name, expires_at, revoked_at or delete or truncate on pglockd.api_key
    for each statement execute function pglockd.identity_changed();
comment on trigger identity_changed on pglockd.api_key is 'Makes a change known to the daemons.';
