/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: the parts of the broker. Freestanding, general registers only, like the rest of the runtime.
 *
 * The broker runs in its signal handlers, and in guards, which stand for the program's system calls. No lock is held
 * while anything can interrupt it on the same thread.
 */
#ifndef TRAPLINE_BROKERING_H
#define TRAPLINE_BROKERING_H

#include "hit/abi.h"
#include "hit/broker.h"
#include "hit/confine.h"

#define TL_HERE __attribute__((visibility("hidden")))

enum { /* numbers of system calls */
       TL_SYS_RT_SIGACTION = 13,
       TL_SYS_RT_SIGPROCMASK = 14,
       TL_SYS_SCHED_YIELD = 24,
       TL_SYS_GETPID = 39,
       TL_SYS_KILL = 62,
       TL_SYS_RT_SIGPENDING = 127,
       TL_SYS_RT_SIGTIMEDWAIT = 128,
       TL_SYS_RT_SIGQUEUEINFO = 129,
       TL_SYS_ARCH_PRCTL = 158,
       TL_SYS_GETTID = 186,
       TL_SYS_RT_TGSIGQUEUEINFO = 297
};
enum { TL_SIG_BLOCK, TL_SIG_UNBLOCK, TL_SIG_SETMASK };
enum { TL_ARCH_SET_FS = 0x1002, TL_ARCH_GET_FS = 0x1003 };
enum { TL_EPERM = 1, TL_EFAULT = 14, TL_ENOSYS = 38 };

#define TL_TRAP_BIT TL_SIGNAL_BIT(TL_SIGTRAP)
/* What has to be unblocked for loads that may fault. */
#define TL_LOAD_BITS (TL_SIGNAL_BIT(TL_SIGSEGV) | TL_SIGNAL_BIT(TL_SIGBUS))
/* In tl_broker_process.pid of a vfork child that tries to execute another program. */
#define TL_CHILD_IS_LEAVING (1u << 31)
/* What the kernel keeps of the flags that a program gives it; the others it clears, by which programs find out. */
#define TL_SA_KNOWN 0xdc000807u
/* The kernel never blocks these. */
#define TL_NEVER_BLOCKED (TL_SIGNAL_BIT(9) | TL_SIGNAL_BIT(19))

/* broker.S */
TL_HERE int64_t tl_kernel(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
TL_HERE uint64_t tl_ask_mask(void), tl_ask_mask_by_trap(void), tl_ask_process(void), tl_ask_thread(void);
extern TL_HERE const char tl_asked[], tl_end_here[];
TL_HERE bool tl_notify(uint64_t notifier, uint64_t context, const struct tl_notification *notification);
extern TL_HERE const char tl_fault_begin[], tl_fault_end[];
extern TL_HERE const char tl_guard_drowsy[], tl_guard_awake[];
/* Whether a thread at `rip` is about to go to sleep in a guard, or is just woken. */
static inline bool tl_is_drowsy(uint64_t rip)
{
    return rip >= (uint64_t)(uintptr_t)tl_guard_drowsy && rip < (uint64_t)(uintptr_t)tl_guard_awake;
}

static inline uint64_t tl_address(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

/* Assignment of structures, but never a call of memcpy. */
static inline void tl_copy_words(void *to, const void *from, size_t size)
{
    volatile uint64_t *out = to;
    const uint64_t *in = from;
    for (size_t i = 0; i < size / 8; i++)
        out[i] = in[i];
}
#define TL_COPY(to, from) tl_copy_words((to), (from), sizeof *(to))

static inline void tl_clear_words(void *to, size_t size)
{
    volatile uint64_t *out = to;
    for (size_t i = 0; i < size / 8; i++)
        out[i] = 0;
}

/* Whether the program, if it is confined, allows it to us. */
static inline bool tl_may(const struct tl_broker *broker, enum tl_own_call call)
{
    return !(__atomic_load_n(&broker->forbidden, __ATOMIC_RELAXED) >> call & 1);
}

/* Whether a signal may be sent from one thread to another, or to itself. */
static inline bool tl_may_raise(const struct tl_broker *broker)
{
    return tl_may(broker, TL_OWN_SIGPROCMASK) && tl_may(broker, TL_OWN_GETTID) && tl_may(broker, TL_OWN_SIGQUEUEINFO) &&
           tl_may(broker, TL_OWN_TGSIGQUEUEINFO);
}

/* The same as tl_may on a hit. */
static inline bool tl_hit_may(const struct tl_hit_control *area, enum tl_own_call call)
{
    const struct tl_broker *broker = (const struct tl_broker *)area->broker;
    return !(area->flags & TL_HIT_NO_MEMORY) && (!broker || tl_may(broker, call));
}

/* ---- who we are: broker_caller.c ---- */

struct tl_caller {
    struct tl_broker *broker;
    struct tl_broker_process *process; /* a vfork child's own, if it is one */
    struct tl_broker_thread *thread;   /* NULL: no record to be had */
    uint32_t pid;
    bool is_child;    /* a vfork child: what it shares with its parent is the parent's */
    bool is_stranger; /* the same, and there is no room for what is its own */
};

/* The calling process and thread; a record is made where there is none yet. While the broker is dormant threads have
 * none. */
void tl_caller_find(struct tl_caller *caller, struct tl_broker *broker);
/* The same, as a rule without a system call. */
void tl_caller_find_quickly(struct tl_caller *caller, struct tl_broker *broker);
uint64_t tl_caller_fs_base(const struct tl_broker *broker);
/* Find, or make, the record of a key that is not 0; NULL: there is no room. */
struct tl_broker_thread *tl_thread_claim(struct tl_broker *broker, uint64_t fs_base);
/* The program's handler that runs with SIGTRAP blocked may be over: `rsp` is the program's. */
void tl_thread_settle(struct tl_broker_thread *thread, uint64_t rsp);
static inline uint32_t tl_thread_id(void)
{
    return (uint32_t)tl_kernel(TL_SYS_GETTID, 0, 0, 0, 0, 0, 0);
}

/* ---- actions: broker_action.c ---- */

static inline bool tl_is_of_the_five(int number)
{
    return (TL_THE_FIVE >> (number - 1) & 1) != 0;
}

/* What the program sees. Only of signals in `changed`. */
void tl_action_get(const struct tl_broker_process *process, int number, struct tl_sigaction *action);
/* The caller has the lock. */
void tl_action_set(struct tl_broker_process *process, int number, const struct tl_sigaction *action);
/* What the kernel has to have for the program to have `programs`; whether it differs. */
bool tl_action_for_kernel(const struct tl_broker *broker, int number, const struct tl_sigaction *programs,
                          struct tl_sigaction *kernels);
/* What the program is to see where the kernel has `kernels`; whether it differs. */
bool tl_action_for_program(const struct tl_broker_process *process, int number, const struct tl_sigaction *kernels,
                           struct tl_sigaction *programs);
/* All signals are blocked while the lock is held. `mask`: for unlocking. */
void tl_action_lock(struct tl_caller *caller, uint64_t *mask);
void tl_action_unlock(struct tl_caller *caller, uint64_t mask);

/* ---- signals: broker.c, broker_deliver.c, broker_pending.c ---- */

/* The signal in `frame` is the program's; `raised` by what the thread itself did, so that it cannot be ignored. The
 * frame to leave by: `frame`, or `second`, which leads to the program's handler. */
struct tl_signal_frame *tl_deliver(struct tl_caller *caller, struct tl_signal_frame *frame,
                                   struct tl_signal_frame *second, bool raised);
/* Whether this signal, which the thread has raised, is the program's end, and no system call may help it to that: the
 * instruction has to be executed again with the signal blocked. */
bool tl_ends_in_place(struct tl_broker *broker, int number);
/* The program's handler for this signal is about to be entered, and finds `frame`: note what is blocked from here on,
 * and show it what was. */
void tl_handler_begins(struct tl_caller *caller, const struct tl_sigaction *action, int number,
                       struct tl_signal_frame *frame);
/* Send a signal to the calling thread, or (tid 0) the process. */
int64_t tl_raise(const struct tl_caller *caller, uint32_t tid, const struct tl_siginfo *info);
/* A SIGTRAP that somebody has sent while this thread has it blocked: kept, or given to another thread. */
void tl_pending_add(struct tl_caller *caller, struct tl_signal_frame *frame);
/* Take a pending SIGTRAP, of the thread or else of the process. */
bool tl_pending_take(struct tl_caller *caller, struct tl_siginfo *info);
bool tl_pending_is(const struct tl_caller *caller);
/* Have the kernel keep what is pending, with SIGTRAP really blocked, until the program's own call unblocks it. */
void tl_pending_hand_over(struct tl_caller *caller);

/* From entry code. */
struct tl_signal_frame *tl_broker_signal(struct tl_broker *broker, struct tl_signal_frame *frame,
                                         struct tl_signal_frame *second);
uint64_t tl_broker_passing(struct tl_broker *broker, int number, struct tl_signal_frame *frame);

static inline int64_t tl_mask_change(int how, uint64_t set, uint64_t *old)
{
    return tl_kernel(TL_SYS_RT_SIGPROCMASK, (uint64_t)how, tl_address(&set), tl_address(old), 8, 0, 0);
}

#endif
