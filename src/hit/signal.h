/* SPDX-License-Identifier: MIT
 *
 * Signals as the x86-64 kernel knows them: numbers, the action of rt_sigaction, the frame that it pushes. The C
 * library's own structures differ, and are not for freestanding code.
 */
#ifndef TRAPLINE_SIGNAL_H
#define TRAPLINE_SIGNAL_H

#include <stdint.h>

enum tl_signal { TL_SIGILL = 4, TL_SIGTRAP = 5, TL_SIGBUS = 7, TL_SIGFPE = 8, TL_SIGSEGV = 11, TL_SIGNALS = 64 };
#define TL_SIGNAL_BIT(number) ((uint64_t)1 << ((number)-1))

/* Those that the broker owns. */
#define TL_THE_FIVE                                                                                                    \
    (TL_SIGNAL_BIT(TL_SIGILL) | TL_SIGNAL_BIT(TL_SIGTRAP) | TL_SIGNAL_BIT(TL_SIGBUS) | TL_SIGNAL_BIT(TL_SIGFPE) |      \
     TL_SIGNAL_BIT(TL_SIGSEGV))

enum { TL_SIG_DFL = 0, TL_SIG_IGN = 1 }; /* tl_sigaction.handler */

enum {
    TL_SA_SIGINFO = 4,
    TL_SA_EXPOSE_TAGBITS = 0x800,
    TL_SA_RESTORER = 0x04000000,
    TL_SA_ONSTACK = 0x08000000,
    TL_SA_RESTART = 0x10000000,
    TL_SA_NODEFER = 0x40000000
};
#define TL_SA_RESETHAND 0x80000000u

/* What rt_sigaction takes and gives. */
struct tl_sigaction {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
};

struct tl_siginfo {
    int32_t number, error, code, pad;
    uint64_t addr; /* of a fault; of others whatever they have there */
    uint64_t rest[13];
};

enum { /* tl_siginfo.code */
       TL_SI_USER = 0,
       TL_SI_QUEUE = -1,
       TL_SI_TKILL = -6,
       TL_SI_KERNEL = 0x80,
       TL_TRAP_BRKPT = 1,
       TL_TRAP_TRACE = 2,
       TL_TRAP_HWBKPT = 4,
       TL_TRAP_PERF = 6 /* rest[0]: sig_data; rest[1]: type | flags << 32 */
};
enum { TL_VECTOR_DEBUG = 1, TL_VECTOR_BREAKPOINT = 3 }; /* tl_context.vector */
enum { TL_FLAG_TRAP = 1 << 8, TL_FLAG_DIRECTION = 1 << 10, TL_FLAG_RESUME = 1 << 16, TL_FLAG_ALIGNMENT = 1 << 18 };

struct tl_sigstack {
    uint64_t start;
    uint32_t flags, pad;
    uint64_t size;
};
enum { TL_SS_DISABLE = 2 };
#define TL_SS_AUTODISARM 0x80000000u

/* struct ucontext with the registers of struct sigcontext in it. */
struct tl_context {
    uint64_t flags, link;
    struct tl_sigstack stack;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
    uint16_t cs, gs, fs, ss;
    uint64_t error, vector, old_mask, cr2;
    uint64_t fpstate; /* address of the vector state, or 0 */
    uint64_t reserved[8];
    uint64_t mask; /* blocked where the signal came */
};

/* What lies on the stack when a handler is entered; the vector state lies somewhere above. */
struct tl_signal_frame {
    uint64_t restorer; /* the handler's return address */
    struct tl_context context;
    struct tl_siginfo info;
};

_Static_assert(sizeof(struct tl_siginfo) == 128, "as the kernel's");
_Static_assert(sizeof(struct tl_context) == 304, "as the kernel's");

#endif
