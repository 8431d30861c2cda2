#ifndef PGLOCKD_PG_ADVISORY_H
#define PGLOCKD_PG_ADVISORY_H

/*
 * The class numbers (first key of the two-int key space) of every advisory lock that pglockd takes
 * in its database: "PGL" and a number. Locks of applications collide with pglockd's only if they
 * use one of these. Transaction-level locks guard a decision; session-level locks mark who is
 * alive.
 */

enum advisory_class {
    ADVISORY_NODE = 0x50474C01,     /* transaction: k1, a resource itself; key: its hash */
    ADVISORY_TREE = 0x50474C02,     /* transaction: k2, a resource and all beneath; key: its hash */
    ADVISORY_INSTANCE = 0x50474C03, /* session: a daemon is alive; key: its instance number */
    ADVISORY_LANE = 0x50474C04,     /* session: a lane's connection; key: the lane's number */
    ADVISORY_JANITOR = 0x50474C05,  /* session: the one janitor; key: its term */
    ADVISORY_MIGRATE = 0x50474C06,  /* session: a running migration; key 0 */
    ADVISORY_HOLD = 0x50474C07,     /* session: a SQL session in hold(); key: of that hold */
    ADVISORY_RATE = 0x50474C08,     /* transaction: a counter of a rate limit, or a request's id, is
                                       being made; key: its hash */
    ADVISORY_SERVER = 0x50474C09,   /* transaction: a server is being recorded; key 0 */
    ADVISORY_EVENTS = 0x50474C0A,   /* transaction: events are being published; key 0 */
    ADVISORY_LEASES_OF = 0x50474C0B, /* transaction: how many leases an owner has; key: its hash */
    ADVISORY_SESSIONS_OF = 0x50474C0C, /* transaction: likewise its sessions */
};

#endif
