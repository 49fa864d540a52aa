/* SPDX-License-Identifier: MIT
 *
 * Actions of signals: what the program has asked for, and what the kernel has instead.
 *
 *   the five       the kernel has the broker, always
 *   other signals  SIGTRAP is taken out of the mask, so that an int3 may be met in the handler, which is entered by way
 *                  of ours: it notes what is blocked from here on, and shows what was
 *
 * A reader copies the slot that is in force, and looks afterwards whether the writers have come around to it.
 */
#include "hit/brokering.h"

void tl_action_get(const struct tl_broker_process *process, int number, struct tl_sigaction *action)
{
    const struct tl_broker_action *all = &process->actions[number];
    uint32_t turn, now;
    do {
        turn = __atomic_load_n(&all->turn, __ATOMIC_ACQUIRE);
        TL_COPY(action, &all->slots[turn % TL_ACTION_SLOTS]);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        now = __atomic_load_n(&all->turn, __ATOMIC_ACQUIRE);
    } while (now - turn >= TL_ACTION_SLOTS - 1);
}

void tl_action_set(struct tl_broker_process *process, int number, const struct tl_sigaction *action)
{
    struct tl_broker_action *all = &process->actions[number];
    uint32_t turn = all->turn + 1;
    TL_COPY(&all->slots[turn % TL_ACTION_SLOTS], action);
    __atomic_store_n(&all->turn, turn, __ATOMIC_RELEASE);
}

bool tl_action_for_kernel(const struct tl_broker *broker, int number, const struct tl_sigaction *programs,
                          struct tl_sigaction *kernels)
{
    TL_COPY(kernels, programs);
    if (tl_is_of_the_five(number)) {
        /* A signal that is ignored, or that nobody handles, does not end a system call. */
        bool is_handled = programs->handler != TL_SIG_DFL && programs->handler != TL_SIG_IGN;
        uint64_t kept = programs->flags & (TL_SA_RESTART | TL_SA_EXPOSE_TAGBITS);
        kernels->handler = broker->entry;
        kernels->flags = TL_SA_SIGINFO | TL_SA_ONSTACK | TL_SA_RESTORER | TL_SA_NODEFER | kept;
        if (!is_handled)
            kernels->flags |= TL_SA_RESTART;
        kernels->restorer = broker->restorer;
        kernels->mask = ~TL_THE_FIVE;
        return true;
    }
    if (programs->handler == TL_SIG_DFL || programs->handler == TL_SIG_IGN)
        return false;
    kernels->mask &= ~TL_TRAP_BIT;
    kernels->handler = broker->pass;
    return true;
}

bool tl_action_for_program(const struct tl_broker_process *process, int number, const struct tl_sigaction *kernels,
                           struct tl_sigaction *programs)
{
    if (!(process->changed >> (number - 1) & 1)) {
        TL_COPY(programs, kernels);
        return false;
    }
    tl_action_get(process, number, programs);
    /* The kernel has reset it (SA_RESETHAND). */
    if (!tl_is_of_the_five(number) && kernels->handler == TL_SIG_DFL && programs->handler != TL_SIG_DFL)
        programs->handler = TL_SIG_DFL;
    return true;
}

/* No thread has this mask. In a confined process that allows no lock, two threads that change one signal's action at
 * the same time are not told apart. */
#define UNLOCKED (~(uint64_t)0)

void tl_action_lock(struct tl_caller *caller, uint64_t *mask)
{
    uint64_t *lock = &caller->process->lock, me;
    *mask = UNLOCKED;
    if (!tl_may(caller->broker, TL_OWN_GETTID) || !tl_may(caller->broker, TL_OWN_SIGPROCMASK))
        return;
    me = tl_thread_id();
    tl_mask_change(TL_SIG_SETMASK, ~(uint64_t)0, mask);
    for (uint64_t nobody = 0;
         !__atomic_compare_exchange_n(lock, &nobody, me, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED); nobody = 0)
        if (tl_may(caller->broker, TL_OWN_SCHED_YIELD))
            tl_kernel(TL_SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0);
}

void tl_action_unlock(struct tl_caller *caller, uint64_t mask)
{
    if (mask == UNLOCKED)
        return;
    __atomic_store_n(&caller->process->lock, 0, __ATOMIC_RELEASE);
    tl_mask_change(TL_SIG_SETMASK, mask, NULL);
}
