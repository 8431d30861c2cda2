/*
 * Failover to a standby that missed the last commits, and backups that are restored: tokens still only
 * grow (rule L4 of docs/architecture.md, over servers), two never hold at once, and what the standby has
 * is not lost to holders that come back in time (rules F1 to F6).
 *
 * Time is counted in thirds of the longest TTL. What runs after a failover is a copy of the database as it
 * was at some time before, however long; the same copy may come again. Or it is the database as it
 * was: a restart, or a standby that had to confirm each commit. What was told to holders, to daemons and
 * to the store that is written to no failover undoes. Wall clocks are right: that is assumed. So is that no
 * daemon dies which alone knows of the longest TTL.
 *
 * Properties: a token is greater than all that any server granted before; nobody is granted while
 * somebody else's lease has time left; who renews before the deadline has lost the lease only where its
 * grant was lost.
 *
 * A switch takes a rule out, and a violation must be found:
 * SWITCH NO_LEAP        F2: after a failover the tokens leap
 * SWITCH NO_RECORD      F1: nothing is granted on a server that is not the recorded one
 * SWITCH NO_TIME        F2: the leap is to the time of day, so that two from one copy differ
 * SWITCH LEAP_FROM_LAST F2: where the time of day is ahead of the last token, it alone is the leap's target:
 *                       the greater of it and last + leap may come twice, when the first leap was lost
 * SWITCH NO_QUIET       F3: a quiet period follows, in which nothing is granted
 * SWITCH SHORT_QUIET    F3: it is as long as the longest TTL
 * SWITCH NO_TTL_RECORD  F4: that is recorded with the grant
 * SWITCH NO_TTL_REPORT  F4: and reported by the daemons, since the record may be lost with the grant
 * SWITCH SWEEP_RUNS     F5: nothing that has expired is removed in it
 */

#define TTL 3
#define HORIZON 7
#define FAILOVERS 2
#define PER_UNIT 2      /* tokens that the time of day grows by in a unit: more than are granted */
#define LEAP 12         /* more than a quiet period's worth */

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
    byte longest;       /* TTL that is recorded … */
    byte granted;       /* … and that was granted */
};

byte now;
byte identity;          /* of the server that runs */
bool lossless;          /* all changes of identity since the recorded one */
byte quiet;             /* units of the quiet period that are left */
server live, copy;
bool drawn, leapt;      /* in this unit: a token; the tokens (that takes longer than what is drawn in it) */

byte greatest;          /* token that the store has seen */
byte asked;             /* longest TTL that a daemon remembers */
byte held;              /* units until the holder's deadline; 0: nobody holds */
byte held_ttl;
bool survived;          /* no failover lost the holder's grant */

inline copy_server(from, to)
{
    to.recorded = from.recorded; to.last = from.last; to.lease = from.lease; to.left = from.left;
    to.longest = from.longest; to.granted = from.granted
}

proctype clocks()
{
    do
    :: d_step {
        now < HORIZON ->
        now++;
        drawn = false;
        leapt = false;
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
        now < HORIZON && (copy.last != live.last || copy.lease != live.lease || copy.left != live.left) ->
        copy_server(live, copy)
       }
    :: d_step {         /* what the standby missed is lost */
        left > 0 ->
        left--;
        identity++;
        lossless = false;
        copy_server(copy, live);
        survived = survived && live.lease == greatest
       }
    :: d_step {         /* nothing is lost */
        left > 0 ->
        left--;
        lossless = lossless || live.recorded == identity;
        identity++
       }
    :: d_step {         /* a daemon dies; the standby has what it recorded */
        asked > 0 && copy.granted >= asked && live.granted >= asked -> asked = 0
       }
    :: now == HORIZON -> break
    od
}

/* Whoever wants a lock for so long is granted it, or not. */
inline grant(ttl)
{
    drawn = true;
    live.last++;
    assert(live.last > greatest);
    assert(held == 0);
    greatest = live.last;
    live.lease = live.last;
    live.left = ttl;
    held = ttl;
    held_ttl = ttl;
    survived = true;
    asked = (ttl > asked -> ttl : asked);
    live.granted = (ttl > live.granted -> ttl : live.granted);
#ifndef NO_TTL_RECORD
    live.longest = (ttl > live.longest -> ttl : live.longest)
#endif
}

#define MAY_GRANT (now < HORIZON && !drawn && IS_FREE && quiet == 0 && IS_RECORDED)

proctype daemons()
{
    do
    :: d_step {         /* the first that notices another identity leaps and records it, in one transaction */
        live.recorded != identity && !leapt ->
        live.recorded = identity;
        leapt = true;
#ifndef NO_LEAP
#if defined(NO_TIME)
        live.last = live.last + LEAP;
#elif defined(LEAP_FROM_LAST)
        live.last = (live.last + LEAP > TIME_OF_DAY -> live.last + LEAP : TIME_OF_DAY);
#else
        live.last = (live.last <= TIME_OF_DAY -> TIME_OF_DAY : live.last + LEAP);
#endif
#endif
#ifndef NO_TTL_REPORT
        live.longest = (asked > live.longest -> asked : live.longest);
        live.granted = live.longest;
#endif
#if defined(NO_QUIET)
        quiet = 0;
#elif defined(SHORT_QUIET)
        quiet = (lossless || live.longest == 0 -> quiet : live.longest - 1);
#else
        quiet = (lossless || quiet > live.longest -> quiet : live.longest);
#endif
        lossless = false
       }
    :: d_step { MAY_GRANT -> grant(1) }
    :: d_step { MAY_GRANT -> grant(TTL) }
    :: d_step {         /* RENEW before the deadline */
        held > 0 && IS_RECORDED ->
        assert(live.lease == greatest || !survived);
        if
        :: live.lease == greatest -> live.left = held_ttl; held = held_ttl
        :: else -> held = 0                                         /* LOST: the holder knows */
        fi
       }
    :: d_step {         /* UNLOCK */
        held > 0 -> held = 0; live.lease = (live.lease == greatest -> 0 : live.lease)
       }
    :: d_step {         /* the sweep */
#ifdef SWEEP_RUNS
        live.lease != 0 && live.left == 0 && IS_RECORDED -> live.lease = 0
#else
        live.lease != 0 && live.left == 0 && IS_RECORDED && quiet == 0 -> live.lease = 0
#endif
       }
    :: now == HORIZON -> break
    od
}

init
{
    atomic { run clocks(); run failovers(); run daemons() }
}
