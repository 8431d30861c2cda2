#ifndef PGLOCKD_PG_HOSTS_H
#define PGLOCKD_PG_HOSTS_H

/*
 * The hosts of a connection string that names several, in an order that begins with another than
 * the first: libpq always begins with the first, and does not get past one that takes a connection
 * and says nothing.
 */

/* Of the parameters of these names; NULL: as the string says. */
struct hosts {
    char *host, *hostaddr, *port;
};

/* How many hosts the string names; 1 where it cannot be read. */
unsigned hosts_count(const char *conninfo);
/* Begins with the one of that number, counted from 0 and around. Free with hosts_free(). */
struct hosts hosts_from(const char *conninfo, unsigned first);
void hosts_free(struct hosts *h);

#endif
