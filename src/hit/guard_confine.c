/* SPDX-License-Identifier: MIT
 *
 * Guards of prctl and seccomp: a program that confines itself from now on, or forbids itself to look at the clock.
 *
 * Where a filter forbids the return from signals, nothing of ours that raises one may be in the program any more, and
 * the tool has to take it out: the thread waits for that, asleep as in other guards, so that it can be moved back to
 * its own system call. It does not wait for long, since there may be nobody.
 */
#include "hit/guard.h"

enum { PR_SET_SECCOMP = 22, PR_SET_TSC = 26, PR_TSC_SIGSEGV = 2 };
enum { PR_MODE_STRICT = 1, PR_MODE_FILTER = 2 };   /* of prctl */
enum { SET_MODE_STRICT = 0, SET_MODE_FILTER = 1 }; /* of seccomp */

struct change {
    uint64_t forbidden;
    bool no_clock, filters;
    uint64_t filter;
};

/* Whether the call is of interest. */
static bool is_change(const struct tl_hit_regs *regs, struct change *change)
{
    uint64_t what = (uint32_t)regs->r[TL_RDI], mode = regs->r[TL_RSI];
    bool strict;
    if ((uint32_t)regs->r[TL_RAX] == TL_SYS_SECCOMP) {
        strict = what == SET_MODE_STRICT;
        change->filters = what == SET_MODE_FILTER;
    } else if (what == PR_SET_TSC && (uint32_t)mode == PR_TSC_SIGSEGV) {
        change->no_clock = true;
        return true;
    } else {
        strict = what == PR_SET_SECCOMP && mode == PR_MODE_STRICT;
        change->filters = what == PR_SET_SECCOMP && mode == PR_MODE_FILTER;
    }
    change->filter = regs->r[TL_RDX];
    change->no_clock = strict;
    if (strict) /* it may read, write, end, and return from signals */
        change->forbidden = TL_OWN_ALL & ~((uint64_t)1 << TL_OWN_SIGRETURN);
    return strict || change->filters;
}

/* The hit area, unless this is a fork child, which shares it with its parent, but has no hits. */
static struct tl_hit_control *own_area(const struct tl_caller *caller)
{
    struct tl_hit_control *area = (struct tl_hit_control *)caller->broker->area;
    return area && area->pid == caller->broker->process.pid ? area : NULL;
}

enum { TURNS = 500, TURN_NS = 20000000 }; /* ten seconds: a busy machine is no dead tool */

static enum tl_guard_verdict fall_asleep(const struct tl_caller *caller, struct tl_guard_call *call)
{
    call->number = TL_SYS_NANOSLEEP;
    call->arguments[0] = tl_address(call->pair);
    call->arguments[1] = 0;
    call->pair[0] = 0;
    call->pair[1] = TURN_NS;
    call->zero = 0;
    call->wake = tl_address(&call->zero);
    call->blocked_at = tl_address(&caller->thread->trap_blocked);
    call->blocked = caller->thread->trap_blocked;
    return TL_GUARD_SLEEP;
}

/* First nothing is done any more that will be forbidden, and hits ask the broker; a change that fails is taken back. A
 * vfork child's filter is not its parent's: but then neither is asked who it is. */
static enum tl_guard_verdict confine(struct tl_caller *caller, struct tl_hit_regs *regs, struct tl_guard_call *call,
                                     bool may_wait)
{
    struct change change = {0};
    struct tl_hit_control *area = own_area(caller);
    uint64_t *forbidden = &caller->broker->forbidden;
    if (!is_change(regs, &change) || (change.filters && !tl_filter_forbids(caller, change.filter, &change.forbidden)))
        return TL_GUARD_PLAIN;
    if (may_wait && area && caller->thread && !caller->is_child && change.forbidden >> TL_OWN_SIGRETURN & 1 &&
        tl_may(caller->broker, TL_OWN_SIGRETURN) && tl_may(caller->broker, TL_OWN_NANOSLEEP)) {
        __atomic_store_n(&area->leave, 1, __ATOMIC_SEQ_CST);
        call->mask = TURNS;
        return fall_asleep(caller, call);
    }
    uint64_t before = __atomic_fetch_or(forbidden, change.forbidden, __ATOMIC_SEQ_CST);
    uint32_t clock = change.no_clock && area ? TL_HIT_NO_CLOCK : 0;
    uint32_t flags = clock ? __atomic_fetch_or(&area->flags, clock, __ATOMIC_SEQ_CST) : 0;
    uint64_t asked = area ? area->broker : 0;
    if (area && change.forbidden)
        __atomic_store_n(&area->broker, tl_address(caller->broker), __ATOMIC_SEQ_CST);
    int64_t result = tl_kernel(regs->r[TL_RAX], regs->r[TL_RDI], regs->r[TL_RSI], regs->r[TL_RDX], regs->r[TL_R10],
                               regs->r[TL_R8], regs->r[TL_R9]);
    if (result < 0) {
        __atomic_fetch_and(forbidden, ~(change.forbidden & ~before), __ATOMIC_SEQ_CST);
        if (area && !asked)
            __atomic_store_n(&area->broker, 0, __ATOMIC_SEQ_CST);
        if (clock & ~flags)
            __atomic_fetch_and(&area->flags, ~clock, __ATOMIC_SEQ_CST);
    }
    return tl_guard_done(regs, result);
}

enum tl_guard_verdict tl_guard_confine(struct tl_caller *caller, struct tl_hit_regs *regs, struct tl_guard_call *call)
{
    return confine(caller, regs, call, true);
}

enum tl_guard_verdict tl_guard_confine_slept(struct tl_caller *caller, struct tl_hit_regs *regs,
                                             struct tl_guard_call *call)
{
    return --call->mask ? fall_asleep(caller, call) : confine(caller, regs, call, false);
}
