-- pglockd.leases_charged(name, enough)
-- Purpose:    how many resources count under a name: what it holds and what it waits for, of those that came while
--             there was a limit. Leases that have expired count until they are removed.
-- Parameters: enough   how far to count each of the two
-- Tables:     lease, waiter (read)
create or replace function pglockd.leases_charged(p_name text, p_enough integer)
returns integer
language plpgsql
as $$
begin
    return (select count(*) from (select from pglockd.lease l where l.charged_to = p_name limit p_enough) held)
         + (select count(*) from (select from pglockd.waiter w where w.charged_to = p_name limit p_enough) wanted);
end
$$;
comment on function pglockd.leases_charged(text, integer) is 'How many resources a name holds and waits for.';
