/* SPDX-License-Identifier: MIT
 *
 * What a signal of the five is: a trap of ours, a fault in our own look at the program's memory, the end of a step, or
 * the program's business. The commonest, the int3 of a site, is decided first and makes no system call but the return
 * from the signal: the thread goes on in the site's trampoline, so that no hook ever runs in a handler.
 *
 * What is the program's is first moved to where it would have happened without us: a thread that faults in a displaced
 * copy has the address and the registers that it would have at the original instruction.
 *
 * A program that steps itself (TF) through a site traps behind each instruction of ours. It is shown none of these, but
 * for the first of each copy of an instruction of its own that another copy leads to.
 */
#include "hit/brokering.h"

#define LIKELY(condition) __builtin_expect(!!(condition), 1)

enum { INT3 = 0xcc, INT_N = 0xcd, BUS_MEMORY_FAILURE_LATER = 5, VECTOR_PAGE_FAULT = 14 };

/* By what the thread did, in contrast to what somebody has sent, or the kernel by the way. */
static bool is_raised(const struct tl_siginfo *info)
{
    return info->code > 0 && !(info->number == TL_SIGBUS && info->code == BUS_MEMORY_FAILURE_LATER);
}

static bool is_claimed(const struct tl_broker *broker, enum tl_exception exception, struct tl_signal_frame *frame,
                       const struct tl_trap *trap, const struct tl_trap_range *range)
{
    const struct tl_notification notification = {exception, frame, trap, range};
    return tl_notify(broker->notify, broker->notify_context, &notification);
}

/* The signal is the program's, and so is the place. */
static struct tl_signal_frame *give_to_program(struct tl_broker *broker, struct tl_signal_frame *frame,
                                               struct tl_signal_frame *second)
{
    struct tl_caller caller;
    tl_caller_find(&caller, broker);
    if (caller.thread)
        tl_thread_settle(caller.thread, frame->context.rsp);
    return tl_deliver(&caller, frame, second, is_raised(&frame->info));
}

static void map_back(const struct tl_broker_tables *tables, const struct tl_trap_range *range,
                     struct tl_signal_frame *frame)
{
    uint64_t was = frame->context.rip;
    if (range && tl_trap_map_back(tables, range, &frame->context) && is_raised(&frame->info) && frame->info.addr == was)
        frame->info.addr = frame->context.rip;
}

static void end_in_place(struct tl_signal_frame *frame, uint64_t rip)
{
    frame->context.mask |= TL_THE_FIVE;
    frame->context.rip = rip;
}

/* Whether there is no breakpoint any more at the address that a trap says. */
static bool has_vanished(uint64_t addr)
{
    uint8_t bytes[2];
    if (tl_fault_copy(&bytes[1], addr, 1) != 1 || bytes[1] == INT3)
        return false;
    return bytes[1] != 3 || tl_fault_copy(&bytes[0], addr - 1, 1) != 1 || bytes[0] != INT_N; /* int 3, two bytes */
}

/* Go to the slot and trap behind its instruction. */
static void begin_step(struct tl_broker *broker, struct tl_signal_frame *frame, uint64_t slot)
{
    struct tl_caller caller;
    tl_caller_find(&caller, broker);
    if (caller.thread) {
        caller.thread->step = slot;
        caller.thread->step_flags = frame->context.rflags & TL_FLAG_TRAP;
        frame->context.rflags |= TL_FLAG_TRAP;
    }
    frame->context.rip = slot;
}

static __attribute__((noinline)) struct tl_signal_frame *
other_breakpoint(struct tl_broker *broker, struct tl_signal_frame *frame, struct tl_signal_frame *second,
                 const struct tl_broker_tables *tables, const struct tl_trap *trap)
{
    uint64_t addr = frame->context.rip - 1;
    if (addr + 1 == tl_address(tl_asked)) {
        frame->context.rax = frame->context.mask;
        return frame;
    }
    bool is_step = trap && trap->how == TL_TRAP_STEP; /* in our own code: nobody's business */
    if (broker->notify && !is_step) {
        const struct tl_trap_range *range = tl_trap_range_find(tables, addr);
        if (is_claimed(broker, TL_EXCEPTION_BREAKPOINT, frame, trap, range))
            return frame;
    }
    if (trap && trap->how == TL_TRAP_JUMP)
        frame->context.rip = trap->to;
    else if (is_step)
        begin_step(broker, frame, trap->to);
    else if (has_vanished(addr))
        frame->context.rip = addr;
    else if (tl_ends_in_place(broker, TL_SIGTRAP))
        end_in_place(frame, addr);
    else {
        map_back(tables, tl_trap_range_find(tables, frame->context.rip), frame);
        return give_to_program(broker, frame, second);
    }
    return frame;
}

/* The one instruction in a slot has been executed, or has faulted. A call has pushed the address behind it. */
static void end_step(const struct tl_broker_tables *tables, struct tl_broker_thread *thread,
                     struct tl_signal_frame *frame, bool is_done)
{
    const struct tl_trap_range *range = tl_trap_range_find(tables, thread->step);
    struct tl_context *context = &frame->context;
    uint64_t pushed;
    thread->step = 0;
    context->rflags = (context->rflags & ~(uint64_t)TL_FLAG_TRAP) | thread->step_flags;
    if (!range)
        return;
    uint64_t slot_end = range->start + range->length, next = range->addr + range->length;
    if (!is_done) {
        map_back(tables, range, frame);
        return;
    }
    if (context->rip == slot_end) {
        context->rip = next;
        if (range->flags & TL_RANGE_SYSCALL)
            context->rcx = next;
    } else if (tl_fault_copy(&pushed, context->rsp, 8) == 8 && pushed == slot_end)
        tl_fault_store(context->rsp, &next, 8);
    frame->info.addr = context->rip;
}

/* A handler of the program's has returned to where we wanted to hear of it. The trap is ours; what has been pending
 * comes now. */
static struct tl_signal_frame *after_handler(struct tl_caller *caller, struct tl_signal_frame *frame,
                                             struct tl_signal_frame *second)
{
    struct tl_broker_thread *thread = caller->thread;
    thread->kick = 0;
    frame->context.rflags &= ~(uint64_t)TL_FLAG_TRAP;
    tl_thread_settle(thread, frame->context.rsp);
    if (thread->trap_blocked || !tl_pending_take(caller, &frame->info))
        return frame;
    return tl_deliver(caller, frame, second, false);
}

/* SIGTRAP by a step, a hardware breakpoint, int1. */
static struct tl_signal_frame *debug_trap(struct tl_broker *broker, struct tl_signal_frame *frame,
                                          struct tl_signal_frame *second, const struct tl_broker_tables *tables)
{
    struct tl_context *context = &frame->context;
    struct tl_caller caller;
    tl_caller_find(&caller, broker);
    if (caller.thread && caller.thread->step && frame->info.code == TL_TRAP_TRACE) {
        end_step(tables, caller.thread, frame, true);
        if (!(context->rflags & TL_FLAG_TRAP))
            return frame;
    }
    const struct tl_trap_range *range = tl_trap_range_find(tables, context->rip);
    if (broker->notify && is_claimed(broker, TL_EXCEPTION_DEBUG, frame, NULL, range))
        return frame;
    if (frame->info.code == TL_TRAP_TRACE && tl_trap_is_ours(tables, context->rip) &&
        !(range && range->flags & TL_RANGE_BEHIND && range->start == context->rip))
        return frame;
    map_back(tables, range, frame);
    if (caller.thread && caller.thread->kick && frame->info.code == TL_TRAP_TRACE)
        return after_handler(&caller, frame, second);
    if (caller.thread)
        tl_thread_settle(caller.thread, context->rsp);
    return tl_deliver(&caller, frame, second, true);
}

/* A fault. */
static struct tl_signal_frame *fault(struct tl_broker *broker, struct tl_signal_frame *frame,
                                     struct tl_signal_frame *second, const struct tl_broker_tables *tables)
{
    struct tl_context *context = &frame->context;
    const struct tl_trap_range *range = tl_trap_range_find(tables, context->rip);
    enum tl_exception exception = context->vector == VECTOR_PAGE_FAULT ? TL_EXCEPTION_PAGE : TL_EXCEPTION_PROTECTION;
    if (broker->notify && is_claimed(broker, exception, frame, NULL, range))
        return frame;
    if (tl_ends_in_place(broker, frame->info.number)) {
        end_in_place(frame, context->rip);
        return frame;
    }
    if (range && context->rflags & TL_FLAG_TRAP) {
        struct tl_caller caller;
        tl_caller_find(&caller, broker);
        if (caller.thread && caller.thread->step == range->start) {
            end_step(tables, caller.thread, frame, false);
            range = NULL;
        }
    }
    map_back(tables, range, frame);
    return give_to_program(broker, frame, second);
}

/* Behind a displaced system call the program finds itself behind its own. */
static void come_out_of_call(const struct tl_broker_tables *tables, struct tl_context *context)
{
    const struct tl_trap_range *range = tl_trap_range_find(tables, context->rip);
    if (range && range->flags & TL_RANGE_SYSCALL && range->start != context->rip)
        tl_trap_map_back(tables, range, context);
}

/* Somebody has sent it. */
static struct tl_signal_frame *sent(struct tl_broker *broker, struct tl_signal_frame *frame,
                                    struct tl_signal_frame *second, const struct tl_broker_tables *tables)
{
    struct tl_caller caller;
    come_out_of_call(tables, &frame->context);
    tl_caller_find(&caller, broker);
    if (caller.thread)
        tl_thread_settle(caller.thread, frame->context.rsp);
    if (frame->info.number == TL_SIGTRAP && caller.thread &&
        (caller.thread->trap_blocked || (caller.thread->waiting && tl_is_drowsy(frame->context.rip)))) {
        tl_pending_add(&caller, frame);
        return frame;
    }
    return tl_deliver(&caller, frame, second, false);
}

/* Where the program's handler is of another signal, for which the kernel has pushed this frame. */
static uint64_t pass(struct tl_broker *broker, int number, struct tl_signal_frame *frame)
{
    struct tl_caller caller;
    struct tl_sigaction action;
    come_out_of_call(tl_broker_tables(broker), &frame->context);
    tl_caller_find_quickly(&caller, broker);
    if (caller.thread) {
        tl_thread_settle(caller.thread, frame->context.rsp);
        /* In the middle of a guard that has had the kernel keep what the program's own call is to let through. */
        if (frame->context.mask & TL_TRAP_BIT && !caller.thread->trap_blocked && !tl_is_drowsy(frame->context.rip)) {
            frame->context.mask &= ~TL_TRAP_BIT;
            if (tl_may(broker, TL_OWN_SIGPROCMASK))
                tl_mask_change(TL_SIG_UNBLOCK, TL_TRAP_BIT, NULL);
        }
    }
    tl_action_get(caller.process, number, &action);
    tl_handler_begins(&caller, &action, number, frame);
    return action.handler;
}

/* Of several signals that come in one moment the last one's handler runs first, and interrupts the others at their
 * first instruction: with us, that is on their way to us. So what is to be done for them is done now, from the first
 * one on. */
static __attribute__((noinline)) void pass_interrupted(struct tl_broker *broker, struct tl_context *context)
{
    while (context->rip == broker->pass) {
        struct tl_context *above = context;
        struct tl_signal_frame *frame;
        while ((frame = (struct tl_signal_frame *)above->rsp)->context.rip == broker->pass)
            above = &frame->context;
        above->rip = pass(broker, (int)above->rdi, frame);
    }
}

uint64_t tl_broker_passing(struct tl_broker *broker, int number, struct tl_signal_frame *frame)
{
    if (frame->context.rip == broker->pass)
        pass_interrupted(broker, &frame->context);
    return pass(broker, number, frame);
}

struct tl_signal_frame *tl_broker_signal(struct tl_broker *broker, struct tl_signal_frame *frame,
                                         struct tl_signal_frame *second)
{
    const struct tl_broker_tables *tables = tl_broker_tables(broker);
    const struct tl_siginfo *info = &frame->info;
    if (LIKELY(info->number == TL_SIGTRAP && info->code == TL_SI_KERNEL &&
               frame->context.vector == TL_VECTOR_BREAKPOINT)) {
        const struct tl_trap *trap = tl_trap_find(tables, frame->context.rip - 1);
        if (LIKELY(trap && trap->how == TL_TRAP_JUMP && !broker->notify)) {
            frame->context.rip = trap->to;
            return frame;
        }
        return other_breakpoint(broker, frame, second, tables, trap);
    }
    if (frame->context.rip == broker->pass)
        pass_interrupted(broker, &frame->context);
    if (!is_raised(info))
        return sent(broker, frame, second, tables);
    if (info->number == TL_SIGTRAP)
        return debug_trap(broker, frame, second, tables);
    if (frame->context.rip >= tl_address(tl_fault_begin) && frame->context.rip < tl_address(tl_fault_end)) {
        frame->context.rip = tl_address(tl_fault_end);
        return frame;
    }
    return fault(broker, frame, second, tables);
}
