/*
 * Guards, queue and hand-over of one exclusive resource (rules G1 to G3, L1, L4, Q1 to Q6 and J3 of
 * docs/architecture.md). Each client's request, release and promotion is a transaction: what it reads
 * is what was committed when the statement began, what it writes is seen when it commits, and its guard
 * is let go then.
 *
 * Properties: one lease at a time (L1); tokens grow in the order of the grants (L4); who was in the
 * queue when a request came is granted before it (Q1, Q2); and everybody is served: a waiter that
 * everyone has forgotten is a state without an end.
 *
 * A switch takes a rule out, and a violation must be found:
 * SWITCH NO_GUARD       G1: decided without the guard
 * SWITCH NO_RECHECK     G3: what decides is read before the guard was taken
 * SWITCH NO_PENDING     G2: what could not be guarded is not promoted later
 * SWITCH EARLY_TOKEN    L4: the token is drawn before the guard is taken
 * SWITCH NO_QUEUE_CHECK Q1: a request looks at leases only
 * SWITCH NO_ORDER       Q2: any waiter is served
 * SWITCH NO_EARLY_MARK  Q6: a ticket that was drawn without the guard is not marked
 * SWITCH NO_PASS_MARK   Q6: a waiter that was passed over is not marked
 * SWITCH NO_LOOK        J3: nobody looks for who waits though nobody holds
 */

#define N 3
#define BIT(i) (1 << (i))

byte seq;                 /* of tokens and tickets */
byte guard;               /* whose transaction holds it, + 1 */
byte holder;              /* of the lease, + 1 */
byte queue_floor;         /* of the lease */
byte ticket[N];           /* the queue: 0 is not in it */
bool early[N];            /* early_resource */
bool silent[N];           /* no sign of life of its daemon for 3 s */
bool granted[N];
byte ahead[N];            /* bits of those who were in the queue when it came */
byte last_token;
bool may_freeze = true;

#define NOBODY_WAITS (ticket[0] == 0 && ticket[1] == 0 && ticket[2] == 0)
#define WAITS(i) (ticket[i] != 0 && !silent[i])
#define ANY_EARLY (early[0] || early[1] || early[2])

inline check_grant(i, token)
{
    assert(holder == 0);
    assert(token > last_token);
    last_token = token;
    assert((ahead[i] & BIT(0)) == 0 || granted[0]);
    assert((ahead[i] & BIT(1)) == 0 || granted[1]);
    assert((ahead[i] & BIT(2)) == 0 || granted[2]);
    granted[i] = true;
    holder = i + 1;
}

/* Whom promote() grants: next, + 1; passed_over gets the bits of those whose daemon is silent. */
inline find_next(above)
{
    next = 0;
    passed_over = 0;
    above_all = (ANY_EARLY -> 0 : above);
    k = 0;
    do
    :: k < N ->
        if
        :: ticket[k] > above_all && silent[k] -> passed_over = passed_over | BIT(k)
#ifdef NO_ORDER
        :: ticket[k] > above_all && !silent[k] -> next = k + 1
#else
        :: ticket[k] > above_all && !silent[k] && (next == 0 || ticket[k] < ticket[next - 1]) ->
            next = k + 1
#endif
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

/* Those before the next only: promote() stops there. */
inline mark_passed_over()
{
#ifdef NO_PASS_MARK
    passed_over = 0;
#endif
    do
    :: k < N ->
        if
        :: (passed_over & BIT(k)) && ticket[k] != 0 && (next == 0 || ticket[k] < ticket[next - 1]) ->
            early[k] = true
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

/* The end of a transaction that hands over: the grant and what it wrote is seen, the guard is free. */
inline commit_hand_over(released)
{
    holder = (released -> 0 : holder);
    mark_passed_over();
    if
    :: next != 0 && holder == 0 ->
        seq++;
        check_grant(next - 1, seq);
        queue_floor = ticket[next - 1];
        ticket[next - 1] = 0;
        early[next - 1] = false
    :: else
    fi;
    guard = 0;
    next = 0;
    passed_over = 0
}

/* hand_over() of a resource that was pending: tried again until its guard is free. */
inline promote()
{
    atomic { guard == 0 -> guard = me + 1 }
    d_step {
        if
        :: holder == 0 -> find_next(0)
        :: else -> next = 0
        fi
    }
    d_step { commit_hand_over(false) }
}

proctype client(byte me)
{
    byte t, next, passed_over, above_all, k;
    bool free;

    /* LOCK wait=inf */
    d_step {
        k = 0;
        do
        :: k < N -> ahead[me] = ahead[me] | (WAITS(k) -> BIT(k) : 0); k++
        :: else -> break
        od;
        k = 0
    }
#ifdef NO_RECHECK
    free = holder == 0 && NOBODY_WAITS;
#endif
#ifdef EARLY_TOKEN
    d_step { seq++; t = seq }
#endif
    if
#ifdef NO_GUARD
    :: true
#else
    :: atomic { guard == 0 -> guard = me + 1 }
    :: atomic { guard != 0 -> seq++; t = seq }      /* into the queue without it */
        d_step {
            ticket[me] = t;
#ifndef NO_EARLY_MARK
            early[me] = true
#endif
        }
#ifndef NO_PENDING
        promote();
#endif
        goto waiting
#endif
    fi;
#ifndef NO_RECHECK
#ifdef NO_QUEUE_CHECK
    free = holder == 0;
#else
    free = holder == 0 && NOBODY_WAITS;
#endif
#endif
#ifndef EARLY_TOKEN
    d_step { seq++; t = seq }
#endif
    if
    :: free -> d_step { check_grant(me, t); queue_floor = t; guard = 0 }
    :: else -> d_step { ticket[me] = t; guard = 0 }
    fi;

waiting:
    granted[me];

    /* UNLOCK: the lease ends in any case, under the guard it is handed over, too */
    if
    :: atomic { guard == 0 -> guard = me + 1 }
        d_step { find_next(queue_floor) }
        d_step { commit_hand_over(true) }
    :: atomic { guard != 0 -> holder = 0 }
#ifndef NO_PENDING
        promote()
#endif
    fi
}

/* A waiter's daemon is frozen for a time: it keeps its ticket and is passed over. Whom it was ahead of
   may be served first then, but nobody who comes when it is back. */
proctype frost()
{
    byte i, me = N, next, passed_over, above_all, k;
    if
    :: i = 0
    :: i = 1
    :: i = 2
    fi;
    if
    :: d_step {
        ticket[i] != 0 ->
        silent[i] = true;
        ahead[0] = ahead[0] & ~BIT(i);
        ahead[1] = ahead[1] & ~BIT(i);
        ahead[2] = ahead[2] & ~BIT(i)
       }
       silent[i] = false
    :: granted[i]
    fi;
    /* the janitor's look */
#ifndef NO_LOOK
    if
    :: ticket[i] != 0 && holder == 0 -> promote()
    :: granted[i]
    fi
#endif
}

init
{
    atomic { run client(0); run client(1); run client(2); run frost() }
}
