#ifndef PGLOCKD_BASE_LIST_H
#define PGLOCKD_BASE_LIST_H

/*
 * A doubly linked list whose links are inside its members. The list is a ring through its head; it
 * owns nothing, allocates nothing, and every operation takes constant time. A link that is in no
 * list points to itself, so that list_remove() may be called on it again.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

/* The struct of type whose member is *ptr. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* The first or last member of a list that is not empty. */
#define list_first(head, type, member) container_of((head)->next, type, member)
#define list_last(head, type, member) container_of((head)->prev, type, member)

/* Visits every link; the one at hand may be removed and freed, others may not. */
#define list_for_each(link, head)                                                                  \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head);              \
         link = link##_next, link##_next = link->next)

/* For a head: an empty list. For a link: in no list. */
static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

/* True for an empty list, and for a link that is in none. */
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Puts link, which is in no list, before where: at the end when where is the head. */
static inline void list_insert_before(struct list *where, struct list *link)
{
    link->prev = where->prev;
    link->next = where;
    where->prev->next = link;
    where->prev = link;
}

static inline void list_append(struct list *head, struct list *link)
{
    list_insert_before(head, link);
}

static inline void list_prepend(struct list *head, struct list *link)
{
    list_insert_before(head->next, link);
}

/* Takes link out of the list that it is in, if any. */
static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* Moves all of from to the end of to; from is empty then. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}

#endif
