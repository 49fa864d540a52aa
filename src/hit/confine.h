/* SPDX-License-Identifier: MIT
 *
 * Programs that confine themselves with seccomp: which of the system calls that the runtime makes they allow.
 *
 * A guard stands in front of prctl and seccomp. Before the program is confined, the filter that it asks for is run on
 * each of the calls below, as the kernel would run it; what it would not simply let pass is noted in the broker, and is
 * not made any more. So a filter never meets a system call of ours that it forbids: what would need one is done in
 * another way, or not done. Noted for the whole process, though a filter may be one thread's only.
 */
#ifndef TRAPLINE_CONFINE_H
#define TRAPLINE_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, number) */
#define TL_OWN_CALLS(X)                                                                                                \
    X(SIGACTION, 13)                                                                                                   \
    X(SIGPROCMASK, 14)                                                                                                 \
    X(SIGRETURN, 15)                                                                                                   \
    X(SCHED_YIELD, 24)                                                                                                 \
    X(NANOSLEEP, 35)                                                                                                   \
    X(GETPID, 39)                                                                                                      \
    X(KILL, 62)                                                                                                        \
    X(SIGPENDING, 127)                                                                                                 \
    X(SIGTIMEDWAIT, 128)                                                                                               \
    X(SIGQUEUEINFO, 129)                                                                                               \
    X(SIGALTSTACK, 131)                                                                                                \
    X(GETTID, 186)                                                                                                     \
    X(TGSIGQUEUEINFO, 297)                                                                                             \
    X(VM_READV, 310)                                                                                                   \
    X(VM_WRITEV, 311)

enum tl_own_call {
#define TL_OWN_NAME(name, number) TL_OWN_##name,
    TL_OWN_CALLS(TL_OWN_NAME)
#undef TL_OWN_NAME
        TL_OWN_COUNT
};
#define TL_OWN_ALL (((uint64_t)1 << TL_OWN_COUNT) - 1)

/* What classic BPF is made of, and what says where a program of it is. */
struct tl_filter_insn {
    uint16_t code;
    uint8_t if_true, if_false;
    uint32_t k;
};
struct tl_filter {
    uint16_t length, pad[3];
    uint64_t code; /* address of struct tl_filter_insn[length] */
};

struct tl_caller;

/* Of a filter at an address in the program: a bit for each call that it does not let pass, or of which that would
 * depend on more than its number. False: it cannot be read. */
bool tl_filter_forbids(const struct tl_caller *caller, uint64_t filter, uint64_t *forbidden);

#endif
