-- pglockd.token_leap(last)
-- Purpose:    where the tokens go on after a server that may have drawn others was noticed: above all that
--             any server drew before, whatever of it this one knows.
--             The time of day at 2^21 tokens a second: no sequence at work keeps up with it, and two leaps
--             from copies of one database never meet. That is why 2^32 is added only where the clock is
--             behind the last token: the greater of both would come twice where the first leap was lost.
--             Below 2^53 until the year 2106.
-- Parameters: last   the last token that is known
-- Returns:    the token after which the next is drawn.
create or replace function pglockd.token_leap(p_last bigint)
returns bigint
language sql volatile
as $$
    select case when t.token > p_last and t.token < 9007199254740992 - 1099511627776 then t.token
                else p_last + 4294967296 end
      from (select floor(extract(epoch from clock_timestamp()) * 2097152)::bigint as token) t
$$;
comment on function pglockd.token_leap(bigint) is 'Where the tokens go on, above all that any server drew before.';
