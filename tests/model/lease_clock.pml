/*
 * The lease clock (rules T1 to T4, J1 and F5 of docs/architecture.md): no lease is removed before its
 * holder's deadline, and nothing is granted before a quiet period has passed, whatever happens to wall clocks,
 * janitors and their connections.
 *
 * Time is counted in units of 250 ms. The janitors' and the clients' CLOCK_MONOTONIC is real time. The
 * server's wall clock is anything: at every reading it has stepped to where it does most harm.
 *
 * Properties: a lease is removed only when its TTL has passed in real time (L2, T4); without a tick
 * none is (T2: an outage costs no lease); a tick does not put the clock back (T3); a quiet period that
 * is opened at any time lasts for the TTL in real time (F5).
 *
 * A switch takes a rule out, and a violation must be found:
 * SWITCH NO_CLAMP       T1: between ticks a reading adds at most 250 ms of wall clock, nothing negative
 * SWITCH CLAMP_500      T1: adding 500 ms would be too much
 * SWITCH NO_CAP         T2: a tick credits at most 250 ms
 * SWITCH NO_ZERO        T2: the first tick of a janitor credits nothing
 * SWITCH NO_FLOOR       T3: a tick raises the floor to the reading before it
 * SWITCH NO_SLACK       T4: a lease ends 750 ms after its TTL
 * SWITCH LESS_SLACK     T4: 500 ms would not do
 * SWITCH NO_TERM        J1: a tick of a janitor whose term is over, which was stopped meanwhile, is not credited
 * SWITCH CLOCK_RUNS     F5: in a quiet period the clock stands still; what ticks credit is taken off that
 * SWITCH SHORT_QUIET    F5: it lasts longer than the TTL, by the slack of a lease; 250 ms would not do
 * SWITCH QUIET_AT_ONCE  F5: it ends at a reading that the clock cannot show while it stands still
 */

#define TTL 1
#define HORIZON 5   /* of real time */
#define NEVER 255

/* What a reading adds to base: of the wall clock since the last tick, after a step back and forward. */
#if defined(NO_CLAMP)
#define ADDS_LEAST (-2)
#define ADDS_MOST 6
#elif defined(CLAMP_500)
#define ADDS_LEAST 0
#define ADDS_MOST 2
#else
#define ADDS_LEAST 0
#define ADDS_MOST 1
#endif

#ifdef NO_SLACK
#define SLACK 0
#elif defined(LESS_SLACK)
#define SLACK 2
#else
#define SLACK 3
#endif

byte now;                  /* real time */
short base = 2, floor;     /* in the row of pglockd.clock */
byte leader;               /* janitor whose term it is; 0: none */
byte last[3] = NEVER;      /* of each janitor: when its last confirmed tick was sent */
bool granted, ticked;      /* there is a lease; the clock was ticked since */
byte granted_at;
short expires;
byte quiet_left, quiet_at; /* of the quiet period; when it was opened */
short quiet_until = 127;   /* reading up to which nothing is granted; 127: none was opened yet */
hidden short before;
hidden byte credit;

/* lease_reading() */
#ifdef NO_FLOOR
#define READING(d) (base + (d))
#else
#define READING(d) (base + (d) > floor -> base + (d) : floor)
#endif

proctype clocks()
{
    do
    :: now < HORIZON -> now++
    :: now == HORIZON -> break
    od
}

/* The server carries out a tick. */
inline tick(adds)
{
    credit = (last[me] == NEVER -> 0 : sent - last[me]);
#ifndef NO_CAP
    credit = (credit > 1 -> 1 : credit);
#endif
#ifdef NO_ZERO
    credit = (last[me] == NEVER -> 1 : credit);
#endif
    before = READING(adds);
    floor = (before > floor -> before : floor);
#ifdef CLOCK_RUNS
    base = base + credit;
#else
    base = base + (credit > quiet_left -> credit - quiet_left : 0);
#endif
    quiet_left = (credit > quiet_left -> 0 : quiet_left - credit);
    ticked = true;
    assert(READING(0) >= before)
}

proctype janitor(byte me)
{
    byte sent;
    do
    :: now == HORIZON -> break
    :: d_step { leader == 0 -> leader = me; last[me] = NEVER }   /* elected */
    :: d_step {
        leader == 3 - me -> leader = 0;           /* the other is frozen: its term is over */
#ifndef NO_TERM
        last[3 - me] = NEVER
#endif
       }
    :: d_step { leader == me -> sent = now }      /* a tick is sent … */
       if                                         /* … carried out, as late as may be … */
#ifdef NO_TERM
       :: d_step { tick(ADDS_LEAST); last[me] = sent }
#else
       :: d_step { leader == me -> tick(ADDS_LEAST); last[me] = sent }
       :: d_step { leader == me -> tick(ADDS_MOST); last[me] = sent }
       :: d_step { leader == me -> tick(ADDS_MOST); leader = 0; last[me] = NEVER }  /* … never confirmed */
       :: leader != me -> sent = 0
#endif
       fi;
       sent = 0
    od
}

proctype holder()
{
    if
    :: d_step {
        now < HORIZON - TTL -> granted = true;
        granted_at = now; expires = READING(ADDS_LEAST) + TTL + SLACK; ticked = false
       }
    :: now == HORIZON
    fi
}

/* The next request for the resource, or the sweep, at any time. */
proctype remover()
{
    do
    :: d_step {
        granted && READING(ADDS_MOST) >= expires ->
        assert(now - granted_at >= TTL);
        assert(ticked)
       }
    :: now == HORIZON -> break
    od
}

/* A failover is noticed, or a restore announced, and later somebody wants a lock. */
proctype quiet_period()
{
    if
    :: d_step {
        now < HORIZON - TTL -> quiet_at = now;
#ifdef SHORT_QUIET
        quiet_left = TTL + 1;
#else
        quiet_left = TTL + SLACK;
#endif
#ifdef QUIET_AT_ONCE
        quiet_until = READING(ADDS_LEAST)
#else
        quiet_until = base + 1
#endif
       }
    :: now == HORIZON
    fi;
    do  /* a microsecond behind quiet_until, which is less than a unit, is reached by any credit */
    :: d_step {
        READING(ADDS_MOST) > quiet_until || quiet_left == 0 && READING(ADDS_MOST) == quiet_until ->
        assert(now - quiet_at >= TTL)
       }
    :: now == HORIZON -> break
    od
}

/* A lease or a quiet period: neither takes notice of the other. */
init
{
    atomic {
        run clocks(); run janitor(1); run janitor(2);
        if
        :: run holder(); run remover()
        :: run quiet_period()
        fi
    }
}
