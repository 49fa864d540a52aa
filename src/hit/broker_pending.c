/* SPDX-License-Identifier: MIT
 *
 * SIGTRAPs that somebody has sent to a program that has SIGTRAP blocked. The kernel never keeps them, since the signal
 * is not really blocked; it is the broker that does, one for a thread and one for the process, as the kernel would.
 *
 * When the program unblocks the signal, what is kept is given back to the kernel: it is really blocked, sent again with
 * its siginfo, and then the program's own system call unblocks it. So it comes where and when it should, and the call
 * tells the program the old mask itself.
 */
#include "hit/brokering.h"

static bool put(uint32_t *pending, struct tl_siginfo *place, const struct tl_siginfo *info)
{
    if (__atomic_load_n(pending, __ATOMIC_ACQUIRE))
        return false; /* one is enough: this is how signals without a queue are */
    TL_COPY(place, info);
    __atomic_store_n(pending, 1, __ATOMIC_SEQ_CST);
    return true;
}

static bool take(uint32_t *pending, const struct tl_siginfo *place, struct tl_siginfo *info)
{
    if (!__atomic_load_n(pending, __ATOMIC_ACQUIRE))
        return false;
    TL_COPY(info, place);
    return __atomic_exchange_n(pending, 0, __ATOMIC_SEQ_CST) != 0;
}

/* A thread that would take a signal of the process: one that waits for it, or else has it unblocked. */
static uint32_t taker(struct tl_broker *broker)
{
    uint32_t unblocked = 0;
    for (uint32_t i = 0; i < TL_BROKER_THREADS; i++) {
        if (!__atomic_load_n(&broker->keys[i], __ATOMIC_ACQUIRE))
            continue;
        const struct tl_broker_thread *thread = &broker->threads[i];
        if (__atomic_load_n(&thread->waiting, __ATOMIC_SEQ_CST))
            return thread->tid;
        if (!thread->trap_blocked && thread->tid)
            unblocked = thread->tid;
    }
    return unblocked;
}

/* What came while a handler of the program had SIGTRAP blocked is to come when it returns. Nobody tells us of that; so
 * it returns with TF set, and the trap behind the next instruction tells. */
static void notice_return(struct tl_broker_thread *thread)
{
    uint64_t flags, at = thread->handler + offsetof(struct tl_signal_frame, context.rflags);
    if (!thread->handler || thread->trap_after || thread->kick ||
        tl_fault_copy(&flags, at, sizeof flags) != sizeof flags || flags & TL_FLAG_TRAP)
        return;
    flags |= TL_FLAG_TRAP;
    if (tl_fault_store(at, &flags, sizeof flags))
        thread->kick = 1;
}

void tl_pending_add(struct tl_caller *caller, struct tl_signal_frame *frame)
{
    struct tl_broker_thread *thread = caller->thread;
    struct tl_context *context = &frame->context;
    struct tl_siginfo *info = &frame->info;
    if (thread->waiting) {
        put(&thread->pending, &thread->info, info);
        thread->wake = 1;
        /* Behind the system call it has a result. */
        if (tl_is_drowsy(context->rip) && context->rip != (uint64_t)(uintptr_t)tl_guard_asleep)
            context->rip = tl_address(tl_guard_awake);
        return;
    }
    notice_return(thread);
    if (info->code == TL_SI_TKILL || caller->is_child) {
        put(&thread->pending, &thread->info, info);
        return;
    }
    if (!put(&caller->process->pending, &caller->process->info, info))
        return;
    uint32_t other = taker(caller->broker);
    struct tl_siginfo back;
    if (!other || !tl_may_raise(caller->broker) || !take(&caller->process->pending, &caller->process->info, &back))
        return;
    int32_t code = back.code;
    if (code >= 0) /* as from kill: no thread may send that to another */
        back.code = TL_SI_QUEUE;
    if (tl_raise(caller, other, &back) >= 0)
        return;
    back.code = code;
    put(&caller->process->pending, &caller->process->info, &back); /* it is not there any more */
}

bool tl_pending_is(const struct tl_caller *caller)
{
    return (caller->thread && __atomic_load_n(&caller->thread->pending, __ATOMIC_SEQ_CST)) ||
           __atomic_load_n(&caller->process->pending, __ATOMIC_SEQ_CST);
}

bool tl_pending_take(struct tl_caller *caller, struct tl_siginfo *info)
{
    return (caller->thread && take(&caller->thread->pending, &caller->thread->info, info)) ||
           take(&caller->process->pending, &caller->process->info, info);
}

void tl_pending_hand_over(struct tl_caller *caller)
{
    struct tl_siginfo info;
    if (!tl_may(caller->broker, TL_OWN_SIGPROCMASK))
        return;
    tl_mask_change(TL_SIG_BLOCK, TL_TRAP_BIT, NULL);
    if (!tl_may_raise(caller->broker)) /* of a confined program: it stays where it is */
        return;
    if (caller->thread && take(&caller->thread->pending, &caller->thread->info, &info))
        tl_raise(caller, tl_thread_id(), &info);
    if (take(&caller->process->pending, &caller->process->info, &info))
        tl_raise(caller, 0, &info);
}
