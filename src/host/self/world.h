/* SPDX-License-Identifier: MIT
 *
 * All other threads of this process stand still, while the caller goes on.
 *
 * Between tl_world_stop and tl_world_resume the caller may take no lock that a stopped thread can hold: no allocation,
 * no stdio, no error text.
 */
#ifndef TRAPLINE_SELF_WORLD_H
#define TRAPLINE_SELF_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* The word by which both sides know how far it is. The kernel stores 0 when the helper ends, however it ends. */
enum tl_world_state { TL_WORLD_OVER, TL_WORLD_BEGINS, TL_WORLD_STOPPED, TL_WORLD_FAILED };
enum { TL_WORLD_LOOK_NS = 10000000 };
enum tl_world_order { TL_WORLD_WAIT, TL_WORLD_GO, TL_WORLD_CALL, TL_WORLD_RELEASE };

struct tl_world_task {
    pid_t tid;
    bool stopped;
    bool outside; /* not one of our threads, but it shares the memory */
    struct user_regs_struct regs;
};

/* In memory of its own, shared with the helper. */
struct tl_world {
    int state; /* futexes */
    int order;
    int error; /* of a failure: -errno */
    int directory;
    pid_t pid, caller, helper;
    bool vfork; /* a thread was seen that waits for its vfork child */
    struct {    /* TL_WORLD_CALL: a ptrace call, made by the helper */
        long request, tid, addr, data, result;
    } call;
    size_t size, room, count;
    struct tl_world_task tasks[];
};

/* 0 and *world; -EPERM: not allowed to trace; -EAGAIN: some thread did not stop in time; -EBUSY: somebody traces us;
 * -ENOMEM, -ENOENT (no /proc), -EMFILE. On failure everything runs. */
int tl_world_stop(struct tl_world **world);
void tl_world_resume(struct tl_world *world);
/* 0 or -errno. For tasks that are stopped. */
long tl_world_ptrace(struct tl_world *world, long request, pid_t tid, void *addr, void *data);
/* How many threads this process has, or -errno. */
long tl_world_threads(void);

/* The helper: see helper.c. */
void tl_world_help(struct tl_world *world);

#endif
