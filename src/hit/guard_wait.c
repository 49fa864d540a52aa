/* SPDX-License-Identifier: MIT
 *
 * Guards of system calls that wait: with another mask for the time being, or for signals themselves.
 */
#include "hit/guard.h"

enum { INTERRUPTED = -4 };
static const uint8_t argument_registers[6] = {TL_RDI, TL_RSI, TL_RDX, TL_R10, TL_R8, TL_R9};

static void prepare(struct tl_broker_thread *thread, const struct tl_hit_regs *regs, struct tl_guard_call *call)
{
    call->number = regs->r[TL_RAX];
    for (unsigned i = 0; i < 6; i++)
        call->arguments[i] = regs->r[argument_registers[i]];
    call->zero = 0;
    call->wake = tl_address(&call->zero);
    call->blocked_at = tl_address(&thread->trap_blocked);
    call->blocked = call->trap_blocked = thread->trap_blocked;
    call->may_hand_over = false;
}

/* From here on a SIGTRAP that comes is pending, and ends the wait. */
static void begin_waiting(struct tl_caller *caller, struct tl_guard_call *call)
{
    struct tl_broker_thread *thread = caller->thread;
    if (tl_may(caller->broker, TL_OWN_GETTID))
        thread->tid = tl_thread_id();
    thread->wake = 0;
    __atomic_store_n(&thread->waiting, 1, __ATOMIC_SEQ_CST);
    if (tl_pending_is(caller))
        thread->wake = 1;
    call->wake = tl_address(&thread->wake);
}

enum tl_guard_verdict tl_guard_wait(struct tl_caller *caller, const struct tl_hit_regs *regs,
                                    struct tl_guard_call *call, unsigned mask_at, bool is_indirect)
{
    struct tl_broker_thread *thread = caller->thread;
    uint64_t mask_pointer = regs->r[argument_registers[mask_at]];
    if (!thread || !mask_pointer)
        return TL_GUARD_PLAIN;
    prepare(thread, regs, call);
    if (is_indirect) {
        /* pselect6 has two words there, io_uring_enter three; the third of two is never looked at. */
        if (!tl_guard_load(caller, call->pair, mask_pointer, call->number == TL_SYS_PSELECT6 ? 16 : 24))
            return TL_GUARD_PLAIN;
        mask_pointer = call->pair[0];
        if (!mask_pointer || (uint32_t)call->pair[1] != 8)
            return TL_GUARD_PLAIN;
        call->arguments[mask_at] = tl_address(call->pair);
        call->pair[0] = tl_address(&call->mask);
    } else
        call->arguments[mask_at] = tl_address(&call->mask);
    if (!tl_guard_load(caller, &call->mask, mask_pointer, sizeof call->mask))
        return TL_GUARD_PLAIN;

    bool blocks = (call->mask & TL_TRAP_BIT) != 0;
    call->is_safe = thread->safe && !(call->mask & TL_LOAD_BITS);
    if (!blocks && !call->trap_blocked && call->is_safe)
        return TL_GUARD_PLAIN;
    call->mask &= ~TL_TRAP_BIT;
    if (!call->is_safe)
        thread->safe = 0;
    call->blocked = blocks;
    call->may_hand_over = !blocks && call->trap_blocked;
    if (call->may_hand_over)
        begin_waiting(caller, call);
    return TL_GUARD_SLEEP;
}

/* What was pending before, or came so early that the call has not begun, or in the middle: now it is delivered, by the
 * same call once more. */
static enum tl_guard_verdict hand_over(struct tl_caller *caller, struct tl_guard_call *call)
{
    call->may_hand_over = false;
    call->wake = tl_address(&call->zero);
    tl_pending_hand_over(caller);
    return TL_GUARD_SLEEP;
}

static enum tl_guard_verdict waited(struct tl_caller *caller, struct tl_hit_regs *regs, struct tl_guard_call *call)
{
    struct tl_broker_thread *thread = caller->thread;
    tl_thread_settle(thread, regs->r[TL_RSP]);
    thread->trap_blocked = call->trap_blocked;
    if (call->may_hand_over) {
        __atomic_store_n(&thread->waiting, 0, __ATOMIC_SEQ_CST);
        if (call->result == INTERRUPTED && tl_pending_is(caller))
            return hand_over(caller, call);
    } else if (!call->blocked && call->trap_blocked && tl_may(caller->broker, TL_OWN_SIGPROCMASK))
        tl_mask_change(TL_SIG_UNBLOCK, TL_TRAP_BIT, NULL);
    if (!call->is_safe)
        thread->safe = 0;
    return tl_guard_done(regs, call->result);
}

/* What was pending is what the program has waited for. */
static enum tl_guard_verdict take(struct tl_caller *caller, struct tl_hit_regs *regs)
{
    struct tl_siginfo info;
    uint64_t info_at = regs->r[TL_RSI];
    if (!tl_pending_take(caller, &info))
        return TL_GUARD_PLAIN;
    if (info_at && !tl_guard_store(caller, info_at, &info, sizeof info))
        return tl_guard_done(regs, -TL_EFAULT);
    return tl_guard_done(regs, TL_SIGTRAP);
}

enum tl_guard_verdict tl_guard_sigtimedwait(struct tl_caller *caller, struct tl_hit_regs *regs,
                                            struct tl_guard_call *call)
{
    struct tl_broker_thread *thread = caller->thread;
    uint64_t set;
    if (!thread || regs->r[TL_R10] != 8 || !tl_guard_load(caller, &set, regs->r[TL_RDI], sizeof set) ||
        !(set & TL_TRAP_BIT))
        return TL_GUARD_PLAIN;
    prepare(thread, regs, call);
    begin_waiting(caller, call);
    if (take(caller, regs) == TL_GUARD_DONE) {
        thread->waiting = 0;
        return TL_GUARD_DONE;
    }
    return TL_GUARD_SLEEP;
}

enum tl_guard_verdict tl_guard_slept(struct tl_broker *broker, struct tl_hit_regs *regs, struct tl_guard_call *call)
{
    struct tl_caller caller;
    tl_caller_find(&caller, broker);
    if (call->number == TL_SYS_NANOSLEEP)
        return tl_guard_confine_slept(&caller, regs, call);
    if (call->number != TL_SYS_RT_SIGTIMEDWAIT)
        return waited(&caller, regs, call);
    __atomic_store_n(&caller.thread->waiting, 0, __ATOMIC_SEQ_CST);
    if (call->result == INTERRUPTED && take(&caller, regs) == TL_GUARD_DONE)
        return TL_GUARD_DONE;
    return tl_guard_done(regs, call->result);
}
