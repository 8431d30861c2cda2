-- pglockd.force_one(resource, token, reason, until)
-- Purpose:    ends one lease as pglockd.force_lease() does, but leaves it alone where somebody keeps its row locked: a
--             renewal for a moment, pglockd.assert_fence() as long as its transaction takes.
-- Parameters: until   how long to wait for such a one; a time that has passed: not at all
-- Returns:    OK it ended   FENCED somebody keeps it locked   LOST there is no such lease any more
-- Tables:     lease (for update), and those of force_lease
create or replace function pglockd.force_one(p_resource text, p_token bigint, p_reason text, p_until timestamptz)
returns text
language plpgsql
as $$
begin
    while pglockd.lock_leases(array[p_resource], array[p_token]) = '{null}' loop
        if not exists (select from pglockd.lease l where l.resource = p_resource and l.token = p_token) then
            return 'LOST';
        elsif clock_timestamp() >= p_until then
            return 'FENCED';
        end if;
        perform pg_sleep(0.01);
    end loop;
    perform pglockd.force_lease(p_resource, p_token, p_reason);
    return 'OK';
end
$$;
comment on function pglockd.force_one(text, bigint, text, timestamptz) is
    'Ends one lease against its holder''s will, unless somebody keeps its row locked.';
