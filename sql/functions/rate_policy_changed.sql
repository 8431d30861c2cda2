-- pglockd.rate_policy_changed()
-- Purpose:    trigger on rate_policy: gives the policies a new version and tells the daemons, who look
--             for it every 250 ms besides.
-- Errors:     54000 (program_limit_exceeded) above 1000 policies, which every daemon keeps in memory.
-- Tables:     rate_policy (read), rate_epoch (update)
create or replace function pglockd.rate_policy_changed()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if (select count(*) from pglockd.rate_policy) > 1000 then
        raise exception 'there may be 1000 policies of rate limits at most' using errcode = '54000';
    end if;
    update pglockd.rate_epoch set epoch = epoch + 1;
    perform pg_notify('pglockd_rate', '');
    return null;
end
$$;
comment on function pglockd.rate_policy_changed() is 'Trigger: makes a change of the policies known to the daemons.';
create or replace trigger rate_policy_changed
    after insert or update or delete or truncate on pglockd.rate_policy
    for each statement execute function pglockd.rate_policy_changed();
comment on trigger rate_policy_changed on pglockd.rate_policy is 'Makes a change known to the daemons.';
