/* SPDX-License-Identifier: MIT
 *
 * Who did it: from what the runtime knows of a thread (its id in the target's name space, or only its fs base) to the
 * thread's id and name as they are outside. Names are read from /proc and may be the last ones known. For one thread
 * at a time; not for signal handlers.
 */
#ifndef TRAPLINE_TASKS_H
#define TRAPLINE_TASKS_H

#include <stdint.h>

struct tl_tasks;

/* Asks the host for a thread's id in our name space: `tid` is its id in the target's (0: unknown), `fs_base` its fs
 * base. 0: not known either. */
typedef int tl_task_fn(void *context, uint32_t tid, uint64_t fs_base);

/* `pid` is the target's in our name space. `resolve` is asked where an event has no thread id, and, with `foreign` (the
 * target lives in another pid name space), for every new thread; it may be NULL. 0 or -ENOMEM. */
int tl_tasks_open(int pid, int foreign, tl_task_fn *resolve, void *context, struct tl_tasks **tasks);
void tl_tasks_close(struct tl_tasks *tasks); /* NULL is allowed */

/* The thread of an event at `time_ns`: its id in our name space (the target's id where nothing better is known) and its
 * name, valid until the next call. Never fails: a thread nobody knows has the process's name. */
int tl_tasks_find(struct tl_tasks *tasks, uint32_t tid, uint64_t fs_base, uint64_t time_ns, const char **comm);

#endif
