/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: guards, which stand in front of the system calls by which a program changes what its signals do.
 */
#ifndef TRAPLINE_GUARD_H
#define TRAPLINE_GUARD_H

#include "hit/abi.h"
#include "hit/brokering.h"

enum {
    TL_SYS_RT_SIGRETURN = 15,
    TL_SYS_NANOSLEEP = 35,
    TL_SYS_CLONE = 56,
    TL_SYS_VFORK = 58,
    TL_SYS_EXECVE = 59,
    TL_SYS_RT_SIGSUSPEND = 130,
    TL_SYS_SIGALTSTACK = 131,
    TL_SYS_PRCTL = 157,
    TL_SYS_PSELECT6 = 270,
    TL_SYS_PPOLL = 271,
    TL_SYS_EPOLL_PWAIT = 281,
    TL_SYS_SECCOMP = 317,
    TL_SYS_EXECVEAT = 322,
    TL_SYS_IO_URING_ENTER = 426,
    TL_SYS_CLONE3 = 435,
    TL_SYS_EPOLL_PWAIT2 = 441
};

enum tl_guard_verdict {
    TL_GUARD_PLAIN, /* the program's own system call is to be executed */
    TL_GUARD_DONE,  /* it has been done: rax in the registers is the result */
    TL_GUARD_SLEEP, /* execute what is in struct tl_guard_call, then ask tl_guard_slept */
    TL_GUARD_LEAVE  /* execute rt_sigreturn */
};

/* A system call to be made in place of the program's. broker.S knows where number, arguments, wake and result are. */
struct tl_guard_call {
    uint64_t number;
    uint64_t arguments[6];
    uint64_t wake; /* address of a 32-bit word: not 0: do not even begin */
    int64_t result;
    uint64_t blocked_at;           /* address of the thread's trap_blocked, … */
    uint64_t blocked;              /* … and what it is during the call */
    uint64_t mask;                 /* in place of the program's mask */
    uint64_t pair[3];              /* in place of the structure that points to it */
    uint64_t zero;                 /* for `wake` */
    uint8_t trap_blocked, is_safe; /* how it was before */
    bool may_hand_over;
    uint8_t pad[5];
};

/* A guarded system call is about to be executed: `regs` are the program's registers, rip behind the call. */
enum tl_guard_verdict tl_guard(struct tl_broker *broker, struct tl_hit_regs *regs, struct tl_guard_call *call);
/* It comes back from its sleep. */
enum tl_guard_verdict tl_guard_slept(struct tl_broker *broker, struct tl_hit_regs *regs, struct tl_guard_call *call);

enum tl_guard_verdict tl_guard_sigaction(struct tl_caller *caller, struct tl_hit_regs *regs);
enum tl_guard_verdict tl_guard_execve(struct tl_caller *caller, struct tl_hit_regs *regs);
enum tl_guard_verdict tl_guard_confine(struct tl_caller *caller, struct tl_hit_regs *regs, struct tl_guard_call *call);
/* It has waited a while, to be left alone, in vain. */
enum tl_guard_verdict tl_guard_confine_slept(struct tl_caller *caller, struct tl_hit_regs *regs,
                                             struct tl_guard_call *call);
/* Calls that wait with another mask. `mask_at`: which argument points to it, or (`is_indirect`) to a structure that
 * begins with a pointer to it and its size. */
enum tl_guard_verdict tl_guard_wait(struct tl_caller *caller, const struct tl_hit_regs *regs,
                                    struct tl_guard_call *call, unsigned mask_at, bool is_indirect);
enum tl_guard_verdict tl_guard_sigtimedwait(struct tl_caller *caller, struct tl_hit_regs *regs,
                                            struct tl_guard_call *call);

/* Load or store program memory as the kernel would; false: the call fails with EFAULT. */
bool tl_guard_load(const struct tl_caller *caller, void *to, uint64_t from, size_t size);
bool tl_guard_store(const struct tl_caller *caller, uint64_t to, const void *from, size_t size);

static inline enum tl_guard_verdict tl_guard_done(struct tl_hit_regs *regs, int64_t result)
{
    regs->r[TL_RAX] = (uint64_t)result;
    return TL_GUARD_DONE;
}

#endif
