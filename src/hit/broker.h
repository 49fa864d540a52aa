/* SPDX-License-Identifier: MIT
 *
 * The signal broker: it owns the kernel's actions of SIGTRAP, SIGSEGV, SIGBUS, SIGILL and SIGFPE in a process with
 * probes, and gives the program what it would have had without.
 *
 * The same code serves a process of one's own (linked) and another one (in the blob). All its state is struct
 * tl_broker, in private memory that the host provides; a fork child has its own copy. Hosts fill it in, and read it,
 * with the functions at the end, which are pure and for hosted code; for another process they work on a copy of it.
 *
 * Nothing of it is for the program's threads to wait on: the one lock is held with all signals blocked.
 *
 * How to arm. (1) Trampolines, tables and the broker's memory are in place. (2) tl_broker_init; tl_broker_publish.
 * (3) With all other threads stopped, or before there are any: for each signal 1 to 64, read the kernel's action, ask
 * tl_broker_adopt_action, and where it says so set what it gave. (4) For each thread that has SIGTRAP blocked:
 * tl_broker_adopt_thread, and unblock it. (5) Guards (src/probe/guards.h), which lead to tl_guard_entry. All before
 * the first int3; (3) to (5) while no thread runs. A SIGTRAP that is really pending in step (4) comes to the broker,
 * which knows by then that it is blocked.
 * Who may die in the middle, the program running on, sets up with TL_BROKER_DORMANT: guards come before (3), between
 * (3) and (4) the flag is cleared, and set again when the masks are back; guards go last.
 *
 * How to disarm. (1) No int3 is left in the text. (2) Guards are taken out, and no thread is in our memory, or in the
 * broker's handler (tl_broker_is_inside). (3) For
 * each thread of which tl_broker_blocks_trap says so: block SIGTRAP. (4) For each signal tl_broker_restore_action; set
 * what it gives. For SIGTRAP set SIG_IGN first: that throws away a trap that is pending. (5) A pending SIGTRAP of the
 * program, if tl_broker_pending says that there is one, is sent again. (6) The memory goes.
 *
 * Changing tables. An image is immutable once it is published. A trap's entry has to be in force before its int3 is
 * written, and stays until the original byte is back and every thread has passed a barrier; then it may become GONE
 * (not before: a GONE trap whose int3 still stands is taken for the program's own). An image that was replaced may be
 * read until every thread has passed a barrier outside of the broker: keep it, or reuse it late.
 *
 * How it is done: broker.c (what a signal is), broker_deliver.c (giving it to the program), broker_pending.c (SIGTRAP
 * that is blocked), guard.c, guard_action.c, guard_wait.c, guard_confine.c (system calls), broker_caller.c (whose
 * threads these are), confine.c (what a confined program allows us).
 *
 * Limits, where a program is not quite as without us:
 *   - A fault in a displaced instruction while its signal is blocked kills as it should; the core dump has it in the
 * copy.
 *   - signalfd never shows a SIGTRAP; it stays pending for sigtimedwait and for being unblocked.
 *   - Where there is no guard on the return from handlers, since unwinders know the C library's restorer by its bytes
 *     (musl, Go; src/probe/guards.c): the mask in a handler's frame does not show that SIGTRAP is blocked; a handler
 *     that writes it in there really blocks it by returning, which a breakpoint does not survive; and that a handler
 *     is over which had SIGTRAP blocked is noticed later, by where the stack pointer is.
 *   - A signal that comes to a thread which just then is in the broker's or a guard's own code (some hundred
 * instructions) shows its handler that place.
 *   - A SIGTRAP for the whole process that meets a thread which blocks it goes on to a thread that waits for it, or is
 *     known to have it unblocked; a thread that has never come to a guard is not known.
 *   - In a program that has confined itself (confine.h) and allows no signals to be sent, a SIGTRAP that somebody sends
 *     while it is blocked does not come; and if it may not ask who it is either, a vfork child is taken for its parent.
 *   - Signals of the five that the program ignores, sent by somebody, end sleeps that no signal handler lets restart.
 *   - A signal handler is asked for 1,300 bytes more of its stack, for the time of the broker's looks before and
 * behind.
 *   - clone3 with CLONE_CLEAR_SIGHAND fails with ENOSYS, and the C library takes another way. Shadow stacks (CET) are
 *     not supported: hosts have to refuse.
 */
#ifndef TRAPLINE_BROKER_H
#define TRAPLINE_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hit/program.h"
#include "hit/signal.h"
#include "insn/insn.h"

/* ---- tables: one position-independent image; offsets are from its start ---- */

enum tl_trap_how {
    TL_TRAP_JUMP, /* go on at `to` */
    /* Execute the one instruction at `to` (an out-of-line slot) with TF set, then go on as if it had been executed at
     * its own place. There has to be a range that begins at `to` and is as long as the instruction. */
    TL_TRAP_STEP,
    TL_TRAP_GONE /* there was an int3; whoever still meets it executes what stands there now */
};

struct tl_trap {
    uint64_t addr; /* of the int3: a site's, or one in a trampoline (behind the hook of a site that is stepped) */
    uint64_t to;
    uint32_t how; /* enum tl_trap_how */
    uint32_t index;
};

/* Code in a trampoline that stands for code of the program: a displaced copy, one of the copies behind it, or the
 * beginning of a hook (which may find the stack gone). */
enum {
    TL_RANGE_SYSCALL = 1, /* behind it (marks AFTER) rcx is the address as well */
    TL_RANGE_BEHIND = 2   /* a copy that control comes to from another copy, not from a hook */
};
struct tl_trap_range {
    uint64_t start, end; /* end is the first address behind; a thread at `end` is not inside */
    uint64_t addr;       /* of the instruction that it stands for */
    uint32_t index;      /* of the site */
    uint32_t first_mark;
    uint32_t mark_count; /* struct tl_mark, in order of `at`, which counts from `start`; see src/insn/insn.h */
    uint16_t length;     /* of that instruction */
    uint16_t flags;      /* TL_RANGE_… */
};

struct tl_trap_memory {
    uint64_t start, end;
};

#define TL_BROKER_TABLES_MAGIC 0x32424154504c5254ULL
struct tl_broker_tables {
    uint64_t magic, size;
    uint32_t trap_count, range_count, mark_count, memory_count;
    uint64_t traps;  /* struct tl_trap, sorted by addr, no address twice */
    uint64_t ranges; /* struct tl_trap_range, sorted by start, disjoint */
    uint64_t marks;  /* struct tl_mark */
    uint64_t memory; /* struct tl_trap_memory, sorted, disjoint: all code that is ours */
    /* uint64_t, sorted: the system calls rt_sigreturn that have a guard. A handler that returns to at most seven bytes
     * in front of one, where the number is loaded, is seen to return. */
    uint64_t returns, return_count;
    uint64_t older; /* in one's own process: the address of tables that hold what these do not; or 0 */
};

/* ---- the chain: whom the broker asks before anything is decided (one's own process only) ---- */

enum tl_exception {
    TL_EXCEPTION_BREAKPOINT, /* int3 */
    TL_EXCEPTION_DEBUG,      /* a step or a hardware breakpoint */
    TL_EXCEPTION_PROTECTION, /* SIGSEGV that is no page fault, SIGILL, SIGFPE */
    TL_EXCEPTION_PAGE        /* page fault: SIGSEGV or SIGBUS */
};

/* A notifier runs in the broker's signal handler: all signals but the five are blocked. Its `frame` is raw: in a copy,
 * rip is the copy's. `range` is where rip is, or NULL (for int3: where rip - 1 is); `trap` the table's entry of an int3
 * of ours, or NULL. Returns whether it claims: then the thread goes on with what frame->context says. Not asked about
 * signals that somebody sent. */
struct tl_notification {
    enum tl_exception exception;
    struct tl_signal_frame *frame;
    const struct tl_trap *trap;
    const struct tl_trap_range *range;
};
typedef bool tl_broker_notifier(void *context, const struct tl_notification *notification);

/* ---- state ---- */

enum { TL_BROKER_THREADS = 2048, TL_BROKER_CHILDREN = 16, TL_ACTION_SLOTS = 8 };

/* What is kept of a thread. */
struct tl_broker_thread {
    uint32_t tid;         /* 0: not known */
    uint8_t trap_blocked; /* the program has SIGTRAP blocked */
    uint8_t trap_after;   /* … and will have, when the handler at `handler` is over */
    uint8_t safe;         /* SIGSEGV and SIGBUS were seen not to be blocked, and nothing has blocked them since */
    uint8_t pad;
    uint32_t waiting; /* in a system call that takes SIGTRAP */
    uint32_t wake;    /* … and is to end: one is pending */
    uint32_t pending; /* `info` is a SIGTRAP that is pending for this thread */
    uint32_t kick;    /* the frame at `handler` has been given TF, so that its end is noticed: see broker_pending.c */
    uint64_t handler; /* frame of the handler that runs with SIGTRAP blocked and whose end no guard tells, or 0 */
    uint64_t handler_low; /* its stack ends here: with rsp below this the handler is over */
    uint64_t step;        /* the slot whose instruction is being stepped, or 0 */
    uint64_t step_flags;  /* TL_FLAG_TRAP if the program steps itself */
    uint64_t stack_end;   /* address of a word that becomes ~0 when this thread sets another alternate stack, or 0 */
    struct tl_siginfo info;
};

/* A signal's action as the program sees it. Written under the lock, read without: slots[turn % TL_ACTION_SLOTS]. */
struct tl_broker_action {
    uint32_t turn, pad;
    struct tl_sigaction slots[TL_ACTION_SLOTS];
};

/* What all threads of a process share. */
struct tl_broker_process {
    uint32_t pid;     /* in its own pid namespace; 0: free */
    uint32_t pending; /* `info` is a SIGTRAP that is pending for the process */
    uint64_t lock;    /* of writers of actions: the writer's thread id */
    uint64_t changed; /* bit n - 1: the kernel's action of signal n is not the program's, which is in actions[n] */
    struct tl_siginfo info;
    struct tl_broker_action actions[TL_SIGNALS + 1];
};

/* A vfork child shares all memory with its parent, but not these, until it executes another program. */
struct tl_broker_child {
    struct tl_broker_process process;
    struct tl_broker_thread thread;
};

enum {
    TL_BROKER_FSGSBASE = 1, /* rdfsbase works */
    TL_BROKER_FS_SELF = 2,  /* else: fs:0 holds the fs base in every thread */
    /* Guards leave everything to the kernel, and what is said of masks in here counts for nothing. One store makes all
     * guards at once a part of it, or none. */
    TL_BROKER_DORMANT = 4
};

struct tl_broker {
    uint64_t tables; /* address of the tables in force, or 0 */
    uint64_t notify; /* tl_broker_notifier, or 0 */
    uint64_t notify_context;
    uint64_t flags;                 /* TL_BROKER_… */
    uint64_t marker;                /* address of a word in a page that is wiped on fork; not 0: process.pid is right */
    uint64_t shared;                /* a vfork child may have been made, which shares all this */
    uint64_t entry, pass, restorer; /* where tl_broker_entry, … are in the process */
    uint64_t area;                  /* address of the hit area (abi.h), or 0: there is none */
    uint64_t forbidden;             /* bits 1 << enum tl_own_call (confine.h): a confined program does not allow them */
    struct tl_broker_process process;
    struct tl_broker_child children[TL_BROKER_CHILDREN];
    uint64_t keys[TL_BROKER_THREADS]; /* fs bases, hashed; 0: free */
    struct tl_broker_thread threads[TL_BROKER_THREADS];
};

/* ---- entry points, not to be called from C. In the blob: tl_blob_broker() and so on give their offsets ---- */

#define TL_ENTRY __attribute__((visibility("hidden")))

extern TL_ENTRY void tl_broker_entry(void);    /* the handler of the five */
extern TL_ENTRY void tl_broker_pass(void);     /* the handler of other signals, on the way to the program's */
extern TL_ENTRY const char tl_broker_passed[]; /* … and where it goes on when the broker has had its look */
extern TL_ENTRY void tl_broker_restorer(void); /* the sa_restorer of the five */
extern TL_ENTRY void
tl_guard_entry(void); /* tl_guard_hook.routine (src/probe/hook.h); its context is the broker's address */
/* A thread that a guard has sent to sleep stands at tl_guard_asleep, with rsp at a struct tl_hit_regs: the program's
 * registers, rip behind its `syscall`, rax the number. Moved to rip - 2 with these it makes its call again. */
extern TL_ENTRY void tl_guard_asleep(void);
/* A guard returns from the program's handler in its place: from the one to the other, and without a stack. */
extern TL_ENTRY const char tl_guard_leaves[], tl_guard_has_left[];
/* Linked, the entry points find the broker here. (In the blob it is in the head: tl_blob_set_broker.) */
extern TL_ENTRY struct tl_broker *tl_broker_here;

/* ---- for the runtime ---- */

/* Read up to `size` bytes at `from`; how many could be read, from the first on. May be called wherever SIGSEGV and
 * SIGBUS are not blocked and the broker is armed. tl_fault_load: 8 bytes, aligned or not if AC is clear. */
size_t tl_fault_copy(void *to, uint64_t from, size_t size);
size_t tl_fault_copy_text(void *to, uint64_t from, size_t size); /* the same up to a byte that is 0 */
bool tl_fault_load(uint64_t from, uint64_t *value);
bool tl_fault_load_fs(uint64_t from, uint64_t *value); /* from: an offset from the segment's base */
bool tl_fault_load_gs(uint64_t from, uint64_t *value);
/* Write likewise; whether all could be written. */
static inline bool tl_fault_store(uint64_t to, const void *from, size_t size)
{
    return tl_fault_copy((void *)(uintptr_t)to, (uint64_t)(uintptr_t)from, size) == size;
}

/* The record of the thread with this fs base, or NULL. */
struct tl_broker_thread *tl_broker_thread(struct tl_broker *broker, uint64_t fs_base);
/* Whether a load through any pointer may be made by tl_fault_load. If it is not known, the kernel is asked, once a
 * thread (`may_ask`: two syscalls), or the answer is no. */
bool tl_broker_may_load(struct tl_broker *broker, uint64_t fs_base, bool may_ask);

/* From now on *end becomes ~0 when the calling thread, of this fs base, sets another alternate signal stack. */
void tl_broker_watch_stack(struct tl_broker *broker, uint64_t fs_base, uint64_t *end);

/* The tables in force, or NULL; and look-ups in them: NULL where there is none. */
const struct tl_broker_tables *tl_broker_tables(const struct tl_broker *broker);
const struct tl_trap *tl_trap_find(const struct tl_broker_tables *tables, uint64_t addr);
const struct tl_trap_range *tl_trap_range_find(const struct tl_broker_tables *tables, uint64_t addr);
bool tl_trap_is_ours(const struct tl_broker_tables *tables, uint64_t addr);
/* Whether a guard tells when a handler is over that returns to `restorer`. */
bool tl_return_is_seen(const struct tl_broker_tables *tables, uint64_t restorer);
/* The place in the program that a thread in `range` is at, with its registers there: *context is changed. False: it has
 * to run on. */
bool tl_trap_map_back(const struct tl_broker_tables *tables, const struct tl_trap_range *range,
                      struct tl_context *context);

/* ---- for hosts ---- */

/* *broker is zero but for nothing: all of it is set. `entries`: addresses in the process that is to be armed. */
struct tl_broker_setup {
    uint32_t flags, pid;
    uint64_t marker;
    uint64_t entry, pass, restorer;
    uint64_t notify, notify_context;
    uint64_t area; /* of hits, in a process that is not one's own, or 0 */
};
void tl_broker_init(struct tl_broker *broker, const struct tl_broker_setup *setup);
/* The tables in force: one store. `image` is their address in the process. */
void tl_broker_publish(struct tl_broker *broker, uint64_t image);
/* 0, or -EINVAL for an image that is not what this header says. Pure; safe on hostile input of `size` bytes. */
int tl_broker_tables_verify(const void *image, size_t size);

/* The kernel has `old` for this signal: note what the program sees, and give what the kernel has to have instead.
 * Whether that is anything else. */
bool tl_broker_adopt_action(struct tl_broker *broker, int number, const struct tl_sigaction *old,
                            struct tl_sigaction *kernels);
/* The other way round: what the program sees; `kernels` is what the kernel has. Whether that is anything else. */
bool tl_broker_restore_action(const struct tl_broker *broker, int number, const struct tl_sigaction *kernels,
                              struct tl_sigaction *programs);
/* A thread that has SIGTRAP blocked, which the host unblocks. 0, or -ENOSPC; -EINVAL for fs base 0. */
int tl_broker_adopt_thread(struct tl_broker *broker, uint64_t fs_base, uint32_t tid, bool trap_blocked);
/* Whether a stopped thread is in the broker's handler: it has to run on before its mask is changed, or masks are given
 * back, since it leaves by the mask that is saved in its frame. `mask`: what the kernel has blocked for it; `stack`:
 * `size` bytes from its rsp up, TL_BROKER_DEPTH or as many as there are. Now and then true of a thread that is not; not
 * for long. */
enum { TL_BROKER_DEPTH = 2048 };
bool tl_broker_is_inside(const struct tl_broker *broker, uint64_t mask, const void *stack, size_t size);
/* Whether the program believes that it has SIGTRAP blocked in this thread. */
bool tl_broker_blocks_trap(const struct tl_broker *broker, uint64_t fs_base);
/* A SIGTRAP of the program that has to be sent again: to the thread with this fs base, or (0) to the process. */
bool tl_broker_pending(const struct tl_broker *broker, uint64_t fs_base, struct tl_siginfo *info);

#endif
