/* SPDX-License-Identifier: MIT
 *
 * Guards of rt_sigaction, and of execve, which has to find what the program believes.
 */
#include "hit/guard.h"

/* Ignoring a signal throws away those that are pending. */
static __attribute__((noinline)) void throw_away(struct tl_caller *caller, int number)
{
    uint64_t pending = 0, set = TL_SIGNAL_BIT(number), no_time[2] = {0, 0};
    struct tl_siginfo info;
    if (number == TL_SIGTRAP)
        while (tl_pending_take(caller, &info))
            continue;
    if (!tl_may(caller->broker, TL_OWN_SIGPENDING) || !tl_may(caller->broker, TL_OWN_SIGTIMEDWAIT))
        return;
    tl_kernel(TL_SYS_RT_SIGPENDING, tl_address(&pending), 8, 0, 0, 0, 0);
    while (pending & set &&
           tl_kernel(TL_SYS_RT_SIGTIMEDWAIT, tl_address(&set), 0, tl_address(no_time), 8, 0, 0) == number)
        continue;
}

/* The kernel would keep it so. */
static void clean(struct tl_sigaction *action)
{
    action->flags &= TL_SA_KNOWN;
    action->mask &= ~TL_NEVER_BLOCKED;
}

static __attribute__((noinline)) int64_t change(struct tl_caller *caller, int number, const struct tl_sigaction *wanted,
                                                struct tl_sigaction *old)
{
    struct tl_broker_process *process = caller->process;
    uint64_t bit = TL_SIGNAL_BIT(number);
    struct tl_sigaction kernels, was;
    bool differs = wanted && tl_action_for_kernel(caller->broker, number, wanted, &kernels);
    if (differs && caller->is_child && !tl_is_of_the_five(number))
        kernels.handler = wanted->handler; /* what tl_broker_pass knows is the parent's */
    int64_t result = tl_kernel(TL_SYS_RT_SIGACTION, (uint64_t)number, 0, tl_address(&was), 8, 0, 0);
    if (result < 0)
        return result;
    tl_action_for_program(process, number, &was, old);
    if (!wanted)
        return 0;
    if (differs)
        tl_action_set(process, number, wanted);
    result = tl_kernel(TL_SYS_RT_SIGACTION, (uint64_t)number, tl_address(&kernels), 0, 8, 0, 0);
    process->changed = differs ? process->changed | bit : process->changed & ~bit;
    return result;
}

enum tl_guard_verdict tl_guard_sigaction(struct tl_caller *caller, struct tl_hit_regs *regs)
{
    uint64_t wanted_at = regs->r[TL_RSI], old_at = regs->r[TL_RDX], mask;
    int number = (int)regs->r[TL_RDI];
    struct tl_sigaction wanted, old;
    if (regs->r[TL_R10] != 8 || number < 1 || number > TL_SIGNALS || (TL_NEVER_BLOCKED >> (number - 1) & 1))
        return TL_GUARD_PLAIN;
    if (wanted_at && !tl_guard_load(caller, &wanted, wanted_at, sizeof wanted))
        return TL_GUARD_PLAIN; /* EFAULT, and nothing has happened */
    if (wanted_at)
        clean(&wanted);
    if (!(caller->process->changed >> (number - 1) & 1) &&
        (!wanted_at || wanted.handler == TL_SIG_DFL || wanted.handler == TL_SIG_IGN))
        return TL_GUARD_PLAIN;
    tl_action_lock(caller, &mask);
    int64_t result = change(caller, number, wanted_at ? &wanted : NULL, &old);
    if (result == 0 && wanted_at && wanted.handler == TL_SIG_IGN && tl_is_of_the_five(number))
        throw_away(caller, number);
    tl_action_unlock(caller, mask);
    if (result == 0 && old_at && !tl_guard_store(caller, old_at, &old, sizeof old))
        result = -TL_EFAULT;
    return tl_guard_done(regs, result);
}

/* The new program inherits which signals are ignored, the mask, and what is pending: all of it has to be real. The
 * mask first, so that nothing is delivered; and back, where there is no new program. */
enum tl_guard_verdict tl_guard_execve(struct tl_caller *caller, struct tl_hit_regs *regs)
{
    static const uint8_t five[] = {TL_SIGILL, TL_SIGTRAP, TL_SIGBUS, TL_SIGFPE, TL_SIGSEGV};
    struct tl_broker_process *process = caller->process;
    uint64_t ignored = 0;
    uint32_t pid = caller->pid, leaving = pid | TL_CHILD_IS_LEAVING;
    bool blocks = caller->thread && caller->thread->trap_blocked && tl_may(caller->broker, TL_OWN_SIGPROCMASK);
    struct tl_sigaction action, kernels;
    for (unsigned i = 0; i < sizeof five && tl_may(caller->broker, TL_OWN_SIGACTION); i++) {
        tl_action_get(process, five[i], &action);
        if (action.handler == TL_SIG_IGN)
            ignored |= TL_SIGNAL_BIT(five[i]);
    }
    if (!ignored && !blocks && !caller->is_child)
        return TL_GUARD_PLAIN;
    if (blocks)
        tl_pending_hand_over(caller);
    for (unsigned i = 0; i < sizeof five; i++) {
        tl_clear_words(&kernels, sizeof kernels);
        kernels.handler = TL_SIG_IGN;
        if (ignored & TL_SIGNAL_BIT(five[i]))
            tl_kernel(TL_SYS_RT_SIGACTION, five[i], tl_address(&kernels), 0, 8, 0, 0);
    }
    if (caller->is_child)
        __atomic_store_n(&process->pid, leaving, __ATOMIC_RELEASE);
    regs->r[TL_RAX] = (uint64_t)tl_kernel(regs->r[TL_RAX], regs->r[TL_RDI], regs->r[TL_RSI], regs->r[TL_RDX],
                                          regs->r[TL_R10], regs->r[TL_R8], 0);
    if (caller->is_child)
        __atomic_compare_exchange_n(&process->pid, &leaving, pid, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < sizeof five; i++) {
        if (!(ignored & TL_SIGNAL_BIT(five[i])))
            continue;
        tl_action_get(process, five[i], &action);
        tl_action_for_kernel(caller->broker, five[i], &action, &kernels);
        tl_kernel(TL_SYS_RT_SIGACTION, five[i], tl_address(&kernels), 0, 8, 0, 0);
    }
    if (blocks)
        tl_mask_change(TL_SIG_UNBLOCK, TL_TRAP_BIT, NULL);
    return TL_GUARD_DONE;
}
