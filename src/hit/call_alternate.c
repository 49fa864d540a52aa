/* SPDX-License-Identifier: MIT
 *
 * Hits on the alternate signal stack: in a signal handler of the program's.
 *
 * Handlers run on another stack, and the kernel goes by rsp: it would believe that the alternate one is free, and put
 * the frame of the next signal (a breakpoint in what a handler calls, a fault, or somebody else's) over those of the
 * program's signal handler. So the thread has none while the probe's handler runs: signals come on the handler's stack.
 * All are blocked from before rsp leaves the one until the other is given up, and likewise on the way back.
 *
 * Whether rsp is on it has to be known without a system call. So the record holds the bounds, asked for at the thread's
 * first hit; and the guard of sigaltstack makes the end ~0, so that the next hit asks again.
 *
 * Limits. Not seen is a stack that is set where no guard can be; one that a signal handler has set, and the kernel
 * takes back when that returns; one that is set while a signal comes, and hits, between the guard and the call itself.
 * Nor is one in a program that has confined itself, if that forbids the system calls (the platform makes none of those).
 * Then frames may still be overwritten. Who looks meanwhile finds no alternate stack; and who leaves such a handler by
 * longjmp, out of a signal handler above it, and the signal handler below it as well, has none until it is set again.
 */
#include "hit/call_state.h"

enum { RT_SIGPROCMASK = 14, SIGALTSTACK = 131, SET_MASK = 2, MASK_BYTES = 8 };

#define NOT_KNOWN (~(uint64_t)0)

static ON_HIT uint64_t address(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

void ON_HIT tl_call_alternate_forget(struct tl_call_record *record)
{
    record->alternate = 0;
    record->alternate_end = tl_call_platform.kernel ? NOT_KNOWN : 0;
    record->has_given_up = 0;
}

/* It is watched first: so what is set from then on is noticed. */
static ON_HIT void ask(struct tl_call_record *record)
{
    struct tl_sigstack now = {0};
    if (tl_call_platform.watch_alternate)
        tl_call_platform.watch_alternate(&record->alternate_end);
    int64_t result = tl_call_platform.kernel(SIGALTSTACK, 0, address(&now), 0, 0);
    record->alternate = now.start;
    record->alternate_end = result < 0 || now.flags & TL_SS_DISABLE ? 0 : now.start + now.size;
}

static ON_HIT void set_mask(struct tl_call_record *record, uint64_t mask, bool is_kept)
{
    tl_call_platform.kernel(RT_SIGPROCMASK, SET_MASK, address(&mask), is_kept ? address(&record->mask) : 0, MASK_BYTES);
}

/* On the program's stack: whether it is the alternate one. If so, all signals are blocked now. */
bool ON_HIT tl_call_alternate_block(struct tl_call_record *record, const struct tl_call_frame *frame)
{
    if (record->alternate_end == NOT_KNOWN)
        ask(record);
    if (address(frame) < record->alternate || address(frame) >= record->alternate_end)
        return false;
    set_mask(record, ~(uint64_t)0, true);
    return true;
}

/* On the handlers' stack. */
void ON_HIT tl_call_alternate_give_up(struct tl_call_record *record)
{
    const struct tl_sigstack none = {.flags = TL_SS_DISABLE};
    record->has_given_up = tl_call_platform.kernel(SIGALTSTACK, address(&none), address(&record->given_up), 0, 0) >= 0;
    set_mask(record, record->mask, false);
}

int ON_HIT tl_call_alternate_take_back(struct tl_call_record *record, int resume)
{
    set_mask(record, ~(uint64_t)0, true);
    if (record->has_given_up)
        tl_call_platform.kernel(SIGALTSTACK, address(&record->given_up), 0, 0, 0);
    record->has_given_up = 0;
    return resume;
}

/* On the program's again. */
int ON_HIT tl_call_alternate_unblock(struct tl_call_record *record, int resume)
{
    set_mask(record, record->mask, false);
    return resume;
}
