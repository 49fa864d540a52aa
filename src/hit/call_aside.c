/* SPDX-License-Identifier: MIT
 *
 * A handler that is not called by a hook: in a signal handler, say, in which the kernel has saved all registers. For
 * the thread's record it is a hit as any other, with a list that has no handlers of faults.
 */
#include "hit/call_state.h"

static ON_HIT int nothing(void *argument, struct tl_regs *regs)
{
    (void)argument;
    (void)regs;
    return 0;
}

static const struct tl_call_list aside = {
    .run = nothing, .flags = LIST_ASIDE, .count = 1, .actions = {{.kind = TL_CALL_PRE}}};

/* The frame's address is asked for, so that rbp holds it: who unwinds finds it from the other stack. */
static ON_HIT __attribute__((noinline)) void run_on(struct tl_call_record *record, void (*function)(void *),
                                                    void *argument)
{
    register void *top __asm__("rbx") = record;
    __asm__ volatile("" ::"r"(__builtin_frame_address(0)));
    __asm__ volatile("xchg %%rsp, %%rbx\n\t"
                     "call *%2\n\t"
                     "mov %%rbx, %%rsp"
                     : "+r"(top), "+D"(argument)
                     : "r"(function)
                     : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
}

bool ON_HIT tl_call_aside(void (*function)(void *argument), void *argument)
{
    struct tl_call_frame frame = {.mark = 0};
    struct tl_call_record *record = tl_call_self;
    if (record->frame) {
        record = tl_call_claim(record, &frame);
        if (!record)
            return false;
    }
    frame.mark = (uint64_t)(uintptr_t)record;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    record->frame = &frame;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    record->list = &aside;
    run_on(record, function, argument);
    *(volatile uint64_t *)&frame.mark = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&record->frame, NULL, __ATOMIC_RELEASE);
    return true;
}
