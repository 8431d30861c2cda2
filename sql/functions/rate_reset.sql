-- pglockd.rate_reset(key, rule)
-- Purpose:    makes the limit of a key fresh: all of it may be used at once. Daemons forget within a
--             second what they remember of denials.
-- Parameters: key        as it stands in the view rate_limits
--             rule       policy, or the limit as it stands there; null: all of the key
-- Returns:    how many counters there were.
-- Errors:     42501 without the right.
-- Tables:     rate_counter (delete), rate_epoch (update)
create or replace function pglockd.rate_reset(key text, rule text default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    v_count bigint;
begin
    perform pglockd.require_right('admin', '*');
    delete from pglockd.rate_counter r
     where r.key = rate_reset.key and (rate_reset.rule is null or r.rule = rate_reset.rule);
    get diagnostics v_count = row_count;
    if v_count > 0 then
        update pglockd.rate_epoch set epoch = epoch + 1;
        perform pg_notify('pglockd_rate', '');
    end if;
    return v_count;
end
$$;
comment on function pglockd.rate_reset(text, text) is 'Makes the limit of a key fresh.';
