#ifndef PGLOCKD_PGLOCKCTL_PROC_CPU_H
#define PGLOCKD_PGLOCKCTL_PROC_CPU_H

/*
 * CPU seconds, user and system, that a process, its living descendants and the children that they
 * have waited for used until now. 0 for pid 0 or where /proc does not tell.
 */
double proc_cpu_seconds(int pid);

#endif
