/*
 * Failover to a standby that missed the last commits, and backups that are restored: tokens still only
 * grow (rule L4 of docs/architecture.md, over servers), and two never hold at once.
 *
 * Time is counted in thirds of a TTL. What runs after a failover is a copy of the database as it was at
 * some time before, however long; the same copy may come again. What was told to holders and to the
 * store that they write to no failover undoes. Wall clocks are right: that is assumed.
 *
 * Properties: a token is greater than all that any server granted before; nobody is granted while
 * somebody else's lease has time left.
 *
 * A switch takes a rule out, and a violation must be found:
 * SWITCH NO_LEAP       after a failover the tokens leap
 * SWITCH NO_RECORD     nothing is granted on a server that is not the recorded one
 * SWITCH NO_TIME       the leap is to the time of day, so that two from one copy differ
 * SWITCH NO_QUIET      a quiet period follows, in which nothing is granted
 * SWITCH SHORT_QUIET   it is as long as the longest TTL
 * SWITCH LEAP_FROM_LAST where the time of day is ahead of the last token, it alone is the leap's target:
 *                      the greater of it and last + leap may come twice, when the first leap was lost
 */

#define TTL 3
#define HORIZON 11
#define FAILOVERS 3
#define PER_UNIT 2      /* tokens that the time of day grows by in a unit: more than are granted */
#define LEAP 12         /* more than a quiet period's worth */

#if defined(NO_QUIET)
#define QUIET 0
#elif defined(SHORT_QUIET)
#define QUIET (TTL - 1)
#else
#define QUIET TTL
#endif

#define TIME_OF_DAY ((now + 1) * PER_UNIT)

#ifdef NO_RECORD
#define IS_RECORDED true
#else
#define IS_RECORDED (live.recorded == identity)
#endif
#define IS_FREE (live.lease == 0 || live.left == 0)

typedef server {
    byte recorded;      /* identity that pglockd has recorded */
    byte last;          /* token of the sequence */
    byte lease;         /* token of the lease; 0: there is none */
    byte left;          /* of the lease, in lease time */
};

byte now;
byte identity;          /* of the server that runs */
byte quiet;             /* units of the quiet period that are left */
server live, copy;
bool drawn;             /* a token in this unit */

byte greatest;          /* token that the store has seen */
byte held;              /* units until the holder's deadline; 0: nobody holds */

proctype clocks()
{
    do
    :: d_step {
        now < HORIZON ->
        now++;
        drawn = false;
        held = (held > 0 -> held - 1 : 0);
        live.left = (quiet == 0 && live.left > 0 -> live.left - 1 : live.left);  /* it stands still */
        quiet = (quiet > 0 -> quiet - 1 : 0)
       }
    :: now == HORIZON -> break
    od
}

proctype failovers()
{
    byte left = FAILOVERS;
    do
    :: d_step {
        now < HORIZON && (copy.last != live.last || copy.lease != live.lease) ->
        copy.recorded = live.recorded; copy.last = live.last; copy.lease = live.lease;
        copy.left = live.left
       }
    :: d_step {
        left > 0 ->
        left--;
        identity++;
        live.recorded = copy.recorded; live.last = copy.last; live.lease = copy.lease;
        live.left = copy.left
       }
    :: now == HORIZON -> break
    od
}

/* The first that notices another identity leaps and records it, in one transaction. */
proctype daemons()
{
    do
    :: d_step {
        live.recorded != identity ->
        live.recorded = identity;
#ifndef NO_LEAP
#if defined(NO_TIME)
        live.last = live.last + LEAP;
#elif defined(LEAP_FROM_LAST)
        live.last = (live.last + LEAP > TIME_OF_DAY -> live.last + LEAP : TIME_OF_DAY);
#else
        live.last = (live.last <= TIME_OF_DAY -> TIME_OF_DAY : live.last + LEAP);
#endif
#endif
        quiet = QUIET
       }
    :: d_step {
        now < HORIZON && !drawn && IS_FREE && quiet == 0 && IS_RECORDED ->
        drawn = true;
        live.last++;
        assert(live.last > greatest);
        assert(held == 0);
        greatest = live.last;
        live.lease = live.last;
        live.left = TTL;
        held = TTL
       }
    :: d_step {         /* released by its holder, or LOST: the holder knows */
        held > 0 -> held = 0; live.lease = (live.lease == greatest -> 0 : live.lease)
       }
    :: now == HORIZON -> break
    od
}

init
{
    atomic { run clocks(); run failovers(); run daemons() }
}
