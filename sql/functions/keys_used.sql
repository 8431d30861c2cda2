-- pglockd.keys_used(key)
-- Purpose:    a daemon writes down that it had clients with these keys, every now and then. Keys whose
--             row somebody has locked, or that were noted less than a minute ago, are left for next time.
-- Parameters: key   their ids
-- Tables:     api_key (update)
create or replace function pglockd.keys_used(p_key text[])
returns void
language sql
as $$
    update pglockd.api_key k set last_used_at = clock_timestamp()
     where k.key_id in (select x.key_id from pglockd.api_key x
                         where x.key_id = any (p_key)
                           and (x.last_used_at is null or x.last_used_at < clock_timestamp() - interval '1 min')
                         order by x.key_id
                           for no key update skip locked)
$$;
comment on function pglockd.keys_used(text[]) is 'Notes that keys were used.';
