/* SPDX-License-Identifier: MIT
 *
 * Guards: a program that blocks SIGTRAP, or looks whether it is blocked, is told what it believes, while the kernel
 * never blocks it: an int3 that is met while it is blocked kills the program.
 *
 * Only that one bit of a mask is make-believe. Whatever can be left to the program's own system call is: then signals
 * that it lets through arrive at the program's own instruction. Guards that do the call in the program's place do what
 * the kernel does in the same order, with the same results for bad pointers.
 *
 * A bad pointer gives EFAULT. Where it was not seen that SEGV and BUS are unblocked, so that a look at the memory may
 * fault, the kernel looks.
 */
#include "hit/guard.h"

enum { PROCESS_VM_READV = 310, PROCESS_VM_WRITEV = 311 };

/* Where the kernel must not be asked, as in a process that somebody has confined: with the faults let through for a
 * moment. */
static __attribute__((noinline)) bool by_force(uint64_t to, uint64_t from, uint64_t size)
{
    uint64_t old;
    if (tl_mask_change(TL_SIG_UNBLOCK, TL_LOAD_BITS, &old))
        return false;
    bool result = tl_fault_copy((void *)to, from, size) == size;
    tl_mask_change(TL_SIG_SETMASK, old, NULL);
    return result;
}

static bool copy_memory(const struct tl_caller *caller, uint64_t number, uint64_t to, uint64_t from, uint64_t size)
{
    uint64_t ours[2] = {number == PROCESS_VM_READV ? to : from, size};
    uint64_t theirs[2] = {number == PROCESS_VM_READV ? from : to, size};
    if (caller->thread && caller->thread->safe)
        return tl_fault_copy((void *)to, from, size) == size;
    if (!tl_may(caller->broker, number == PROCESS_VM_READV ? TL_OWN_VM_READV : TL_OWN_VM_WRITEV)) {
        if (tl_broker_may_load(caller->broker, tl_caller_fs_base(caller->broker), true))
            return tl_fault_copy((void *)to, from, size) == size;
        return tl_may(caller->broker, TL_OWN_SIGPROCMASK) && by_force(to, from, size);
    }
    int64_t result = tl_kernel(number, caller->pid, tl_address(ours), 1, tl_address(theirs), 1, 0);
    return result == -TL_EPERM || result == -TL_ENOSYS ? by_force(to, from, size) : (uint64_t)result == size;
}

bool tl_guard_load(const struct tl_caller *caller, void *to, uint64_t from, size_t size)
{
    return copy_memory(caller, PROCESS_VM_READV, tl_address(to), from, size);
}

bool tl_guard_store(const struct tl_caller *caller, uint64_t to, const void *from, size_t size)
{
    return copy_memory(caller, PROCESS_VM_WRITEV, to, tl_address(from), size);
}

/* Whether the kernel would look at the mask at all. */
static bool is_a_set(uint64_t size)
{
    return size == 8;
}

static __attribute__((noinline)) enum tl_guard_verdict sigprocmask(struct tl_caller *caller, struct tl_hit_regs *regs)
{
    struct tl_broker_thread *thread = caller->thread;
    int how = (int)regs->r[TL_RDI];
    uint64_t given = regs->r[TL_RSI], old_at = regs->r[TL_RDX], set = 0, old;
    if (!is_a_set(regs->r[TL_R10]) || !thread)
        return TL_GUARD_PLAIN;
    bool blocks = thread->trap_blocked;
    if (given) {
        if (!tl_guard_load(caller, &set, given, sizeof set) || (unsigned)how > TL_SIG_SETMASK)
            return TL_GUARD_PLAIN; /* the kernel knows what to say */
        if (how == TL_SIG_SETMASK || set & TL_TRAP_BIT)
            blocks = how != TL_SIG_UNBLOCK && set & TL_TRAP_BIT;
        if (how != TL_SIG_UNBLOCK && set & TL_LOAD_BITS) {
            struct tl_broker_thread *shared =
                caller->is_child ? tl_broker_thread(caller->broker, tl_caller_fs_base(caller->broker)) : NULL;
            thread->safe = 0;
            if (shared)
                shared->safe = 0;
        }
    }
    if (!blocks) {
        bool was_blocked = thread->trap_blocked;
        thread->trap_blocked = 0;
        if (was_blocked)
            tl_pending_hand_over(caller);
        return TL_GUARD_PLAIN;
    }
    bool was_blocked = thread->trap_blocked;
    if (!given && !old_at)
        return TL_GUARD_PLAIN;
    thread->trap_blocked = 1;
    set &= ~TL_TRAP_BIT;
    int64_t result =
        given ? tl_mask_change(how, set, &old) : tl_kernel(TL_SYS_RT_SIGPROCMASK, 0, 0, tl_address(&old), 8, 0, 0);
    if (was_blocked)
        old |= TL_TRAP_BIT;
    if (result == 0 && old_at && !tl_guard_store(caller, old_at, &old, sizeof old))
        result = -TL_EFAULT;
    return tl_guard_done(regs, result);
}

static enum tl_guard_verdict sigpending(struct tl_caller *caller, struct tl_hit_regs *regs)
{
    uint64_t set = 0, size = regs->r[TL_RSI];
    if (size > sizeof set || !tl_pending_is(caller))
        return TL_GUARD_PLAIN;
    tl_kernel(TL_SYS_RT_SIGPENDING, tl_address(&set), 8, 0, 0, 0, 0);
    set |= TL_TRAP_BIT;
    return tl_guard_done(regs, tl_guard_store(caller, regs->r[TL_RDI], &set, size) ? 0 : -TL_EFAULT);
}

static uint64_t mask_in_frame(const struct tl_hit_regs *regs)
{
    return regs->r[TL_RSP] - 8 + offsetof(struct tl_signal_frame, context.mask);
}

/* A handler returns, by a mask that the broker has nothing to do with, as nearly always: then it is not even asked who
 * the process is. Where the frame cannot be read the kernel will find that out too, with the same signal. */
static bool is_plain_return(const struct tl_broker *broker, const struct tl_hit_regs *regs)
{
    const struct tl_broker_thread *thread =
        tl_broker_thread((struct tl_broker *)(uintptr_t)broker, tl_caller_fs_base(broker));
    uint64_t mask;
    return !broker->shared && __atomic_load_n((const uint64_t *)broker->marker, __ATOMIC_ACQUIRE) &&
           (!thread || (!thread->trap_blocked && !thread->handler)) && tl_fault_load(mask_in_frame(regs), &mask) &&
           !(mask & (TL_TRAP_BIT | TL_LOAD_BITS));
}

/* A handler returns. The mask in its frame is the program's: it was shown SIGTRAP in there where that was blocked, and
 * may have changed it. */
static enum tl_guard_verdict sigreturn(struct tl_caller *caller, const struct tl_hit_regs *regs)
{
    struct tl_broker_thread *thread = caller->thread;
    uint64_t frame = regs->r[TL_RSP] - 8, mask;
    if (!thread || !tl_guard_load(caller, &mask, mask_in_frame(regs), sizeof mask))
        return TL_GUARD_PLAIN;
    if (mask & TL_LOAD_BITS)
        thread->safe = 0;
    bool is_shown = mask & TL_TRAP_BIT, blocks = is_shown;
    if (thread->handler == frame) { /* it began before there was a guard here */
        blocks |= thread->trap_after;
        thread->handler = 0;
    }
    mask &= ~TL_TRAP_BIT;
    if (is_shown && !tl_guard_store(caller, mask_in_frame(regs), &mask, sizeof mask))
        return TL_GUARD_PLAIN;
    bool is_over = !blocks && thread->trap_blocked;
    thread->trap_blocked = blocks;
    if (is_over && tl_pending_is(caller))
        tl_pending_hand_over(caller);
    return is_shown && tl_may(caller->broker, TL_OWN_SIGRETURN) ? TL_GUARD_LEAVE : TL_GUARD_PLAIN;
}

/* A thread begins with the mask of its maker. What is noted of an earlier one with the same thread pointer is over. */
static void begin_thread(struct tl_caller *caller, uint64_t flags, uint64_t fs_base)
{
    enum { CLONE_VM = 0x100, CLONE_THREAD = 0x10000, CLONE_SETTLS = 0x80000 };
    struct tl_broker_thread *thread;
    uint8_t trap_blocked = caller->thread && caller->thread->trap_blocked;
    if ((flags & (CLONE_VM | CLONE_THREAD)) == CLONE_VM)
        caller->broker->shared = 1;
    if ((flags & (CLONE_VM | CLONE_SETTLS)) != (CLONE_VM | CLONE_SETTLS))
        return;
    thread = trap_blocked ? tl_thread_claim(caller->broker, fs_base) : tl_broker_thread(caller->broker, fs_base);
    if (!thread || thread == caller->thread)
        return;
    tl_clear_words(thread, sizeof *thread);
    thread->trap_blocked = trap_blocked;
}

static __attribute__((noinline)) enum tl_guard_verdict clone3(struct tl_caller *caller, struct tl_hit_regs *regs)
{
    enum { FLAGS, TLS = 7, WORDS = 8 };
    uint64_t arguments[WORDS];
    if (regs->r[TL_RSI] < sizeof arguments || !tl_guard_load(caller, arguments, regs->r[TL_RDI], sizeof arguments))
        return TL_GUARD_PLAIN;
    /* CLEAR_SIGHAND: the child would have no broker. C libraries know kernels without this call. */
    if (arguments[FLAGS] >> 32 & 1)
        return tl_guard_done(regs, -TL_ENOSYS);
    begin_thread(caller, arguments[FLAGS], arguments[TLS]);
    return TL_GUARD_PLAIN;
}

/* The thread is going to be known by another fs base. */
static void set_fs(struct tl_caller *caller, uint64_t fs_base)
{
    struct tl_broker_thread *thread;
    if (caller->is_child || !caller->thread || !(thread = tl_thread_claim(caller->broker, fs_base)) ||
        thread == caller->thread)
        return;
    TL_COPY(thread, caller->thread);
    tl_clear_words(caller->thread, sizeof *caller->thread);
}

enum tl_guard_verdict tl_guard(struct tl_broker *broker, struct tl_hit_regs *regs, struct tl_guard_call *call)
{
    uint64_t number = (uint32_t)regs->r[TL_RAX];
    struct tl_caller caller;
    if (broker->flags & TL_BROKER_DORMANT || (number == TL_SYS_RT_SIGRETURN && is_plain_return(broker, regs)))
        return TL_GUARD_PLAIN;
    tl_caller_find(&caller, broker);
    if (caller.is_stranger)
        return TL_GUARD_PLAIN;
    if (caller.thread)
        tl_thread_settle(caller.thread, regs->r[TL_RSP]);
    if (caller.thread && !caller.thread->handler)
        caller.thread->kick = 0; /* it was left by longjmp */
    switch (number) {
    case TL_SYS_RT_SIGACTION:
        return tl_guard_sigaction(&caller, regs);
    case TL_SYS_RT_SIGPROCMASK:
        return sigprocmask(&caller, regs);
    case TL_SYS_RT_SIGRETURN:
        return sigreturn(&caller, regs);
    case TL_SYS_RT_SIGPENDING:
        return sigpending(&caller, regs);
    case TL_SYS_RT_SIGTIMEDWAIT:
        return tl_guard_sigtimedwait(&caller, regs, call);
    case TL_SYS_RT_SIGSUSPEND:
        return is_a_set(regs->r[TL_RSI]) ? tl_guard_wait(&caller, regs, call, 0, false) : TL_GUARD_PLAIN;
    case TL_SYS_PPOLL:
        return is_a_set(regs->r[TL_R8]) ? tl_guard_wait(&caller, regs, call, 3, false) : TL_GUARD_PLAIN;
    case TL_SYS_EPOLL_PWAIT:
    case TL_SYS_EPOLL_PWAIT2:
        return is_a_set(regs->r[TL_R9]) ? tl_guard_wait(&caller, regs, call, 4, false) : TL_GUARD_PLAIN;
    case TL_SYS_PSELECT6:
        return tl_guard_wait(&caller, regs, call, 5, true);
    case TL_SYS_IO_URING_ENTER: {
        enum { EXTENDED_ARGUMENT = 8 };
        bool is_extended = regs->r[TL_R10] & EXTENDED_ARGUMENT;
        return is_extended || is_a_set(regs->r[TL_R9]) ? tl_guard_wait(&caller, regs, call, 4, is_extended)
                                                       : TL_GUARD_PLAIN;
    }
    case TL_SYS_SIGALTSTACK:
        if (caller.thread && caller.thread->stack_end && regs->r[TL_RDI])
            *(uint64_t *)caller.thread->stack_end = ~(uint64_t)0;
        return TL_GUARD_PLAIN;
    case TL_SYS_CLONE:
        begin_thread(&caller, regs->r[TL_RDI], regs->r[TL_R8]);
        return TL_GUARD_PLAIN;
    case TL_SYS_VFORK:
        broker->shared = 1;
        return TL_GUARD_PLAIN;
    case TL_SYS_CLONE3:
        return clone3(&caller, regs);
    case TL_SYS_EXECVE:
    case TL_SYS_EXECVEAT:
        return tl_guard_execve(&caller, regs);
    case TL_SYS_PRCTL:
    case TL_SYS_SECCOMP:
        return tl_guard_confine(&caller, regs, call);
    case TL_SYS_ARCH_PRCTL:
        if ((uint32_t)regs->r[TL_RDI] == TL_ARCH_SET_FS)
            set_fs(&caller, regs->r[TL_RSI]);
        return TL_GUARD_PLAIN;
    default:
        return TL_GUARD_PLAIN;
    }
}
