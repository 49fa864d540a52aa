/* SPDX-License-Identifier: MIT
 *
 * A signal for the program, delivered as the kernel would.
 *
 * The kernel has pushed a frame for the broker. Where it is what the program's handler would have found, it is left
 * where it is; if the handler was not to run on the alternate stack, but the broker does, the frame moves to the stack
 * that was interrupted. Then the broker leaves by a second frame, which leads to the handler: returning from it sets
 * mask and registers at once, as a delivery does, and nothing of ours is on the way back from the handler. It holds no
 * vector state, so that the handler begins with the initial one, as in a delivery.
 *
 * Where the program would die, the signal gets its default action back, and is sent again to the thread, which has it
 * blocked, to be delivered in the moment in which the thread is back at its own place with its own registers: so exit
 * status and core dump are those of the program alone.
 */
#include "hit/guard.h"

enum {
    FRAME = sizeof(struct tl_signal_frame),
    RED_ZONE = 128,
    VECTOR_ALIGNMENT = 64,
    LEGACY_BYTES = 512,
    SIZE_AT = 464 /* in the vector state: a magic word, then its size */
};
#define VECTOR_MAGIC 0x46505853u

static bool may_end(const struct tl_broker *broker)
{
    return tl_may_raise(broker) && tl_may(broker, TL_OWN_SIGACTION);
}

/* In a confined program: what raises the signal anew, with the signal blocked. */
static struct tl_signal_frame *die_alone(struct tl_signal_frame *frame)
{
    frame->context.mask |= TL_THE_FIVE;
    frame->context.rdi = (uint64_t)frame->info.number;
    frame->context.rflags |= TL_FLAG_ALIGNMENT;
    frame->context.rip = tl_address(tl_end_here);
    return frame;
}

bool tl_ends_in_place(struct tl_broker *broker, int number)
{
    struct tl_caller caller;
    struct tl_sigaction action;
    if (may_end(broker))
        return false;
    tl_caller_find(&caller, broker);
    tl_action_get(caller.process, number, &action);
    return action.handler == TL_SIG_DFL || action.handler == TL_SIG_IGN ||
           (number == TL_SIGTRAP && caller.thread && caller.thread->trap_blocked);
}

static struct tl_signal_frame *die(struct tl_caller *caller, struct tl_signal_frame *frame)
{
    int number = frame->info.number;
    struct tl_sigaction none;
    if (!may_end(caller->broker))
        return die_alone(frame);
    tl_clear_words(&none, sizeof none);
    tl_mask_change(TL_SIG_BLOCK, TL_SIGNAL_BIT(number), NULL);
    tl_kernel(TL_SYS_RT_SIGACTION, (uint64_t)number, tl_address(&none), 0, 8, 0, 0);
    tl_raise(caller, tl_thread_id(), &frame->info);
    frame->context.mask &= ~TL_SIGNAL_BIT(number);
    return frame;
}

int64_t tl_raise(const struct tl_caller *caller, uint32_t tid, const struct tl_siginfo *info)
{
    if (tid)
        return tl_kernel(TL_SYS_RT_TGSIGQUEUEINFO, caller->pid, tid, (uint64_t)info->number, tl_address(info), 0, 0);
    return tl_kernel(TL_SYS_RT_SIGQUEUEINFO, caller->pid, (uint64_t)info->number, tl_address(info), 0, 0, 0);
}

static uint64_t vector_bytes(uint64_t state)
{
    const uint32_t *words = (const uint32_t *)(state + SIZE_AT);
    return words[0] == VECTOR_MAGIC ? words[1] : LEGACY_BYTES;
}

static bool is_within(const struct tl_sigstack *stack, uint64_t rsp)
{
    return rsp > stack->start && rsp - stack->start <= stack->size;
}

/* Whether the kernel went to the alternate stack for the broker. */
static bool has_switched(const struct tl_context *context)
{
    const struct tl_sigstack *stack = &context->stack;
    if (stack->flags & TL_SS_DISABLE || !stack->size)
        return false;
    return stack->flags & TL_SS_AUTODISARM || !is_within(stack, context->rsp);
}

/* Move the frame to the interrupted stack; NULL where there is no room. */
static struct tl_signal_frame *move(struct tl_signal_frame *frame)
{
    struct tl_context *context = &frame->context;
    uint64_t top = context->rsp - RED_ZONE, state = context->fpstate;
    if (state) {
        uint64_t size = vector_bytes(state);
        top = (top - size) & ~(uint64_t)(VECTOR_ALIGNMENT - 1);
        if (!tl_fault_store(top, (const void *)state, size))
            return NULL;
        context->fpstate = top;
    }
    top = ((top - FRAME) & ~(uint64_t)15) - 8;
    return tl_fault_store(top, frame, FRAME) ? (struct tl_signal_frame *)top : NULL;
}

/* Masks are the kernel's business, and real. */
static bool is_dormant(const struct tl_caller *caller)
{
    return (caller->broker->flags & TL_BROKER_DORMANT) != 0;
}

/* Leave by `second` for the handler, which finds `frame`. */
static void lead_to(const struct tl_caller *caller, const struct tl_sigaction *action, struct tl_signal_frame *frame,
                    struct tl_signal_frame *second)
{
    struct tl_context *context = &second->context;
    uint64_t mask = frame->context.mask | action->mask;
    tl_copy_words(second, frame, offsetof(struct tl_signal_frame, info));
    if (!(action->flags & TL_SA_NODEFER))
        mask |= TL_SIGNAL_BIT(frame->info.number);
    context->mask = is_dormant(caller) ? mask : mask & ~TL_TRAP_BIT;
    context->fpstate = 0;
    context->rip = action->handler;
    context->rsp = tl_address(frame);
    context->rdi = (uint64_t)frame->info.number;
    context->rsi = tl_address(&frame->info);
    context->rdx = tl_address(&frame->context);
    context->rax = 0;
    context->rflags &= ~(uint64_t)(TL_FLAG_DIRECTION | TL_FLAG_RESUME | TL_FLAG_TRAP);
    if (context->stack.flags & TL_SS_AUTODISARM) {
        context->stack.start = context->stack.size = 0;
        context->stack.flags = TL_SS_DISABLE;
    }
}

/* From here to the end of the handler the program has SIGTRAP blocked, and no guard tells of the end. */
static void block_trap(struct tl_broker_thread *thread, const struct tl_signal_frame *frame, uint8_t after)
{
    const struct tl_sigstack *stack = &frame->context.stack;
    uint64_t at = tl_address(frame);
    if (thread->trap_blocked)
        return;
    thread->trap_blocked = 1;
    thread->trap_after = after;
    thread->handler = at;
    thread->handler_low = !(stack->flags & TL_SS_DISABLE) && is_within(stack, at) ? stack->start : 0;
}

/* Whether the program has SIGTRAP blocked where the signal came. In a system call that waits with another mask that is
 * the mask which it comes back to. */
static bool was_blocked(const struct tl_broker_thread *thread, const struct tl_context *context)
{
    if (!tl_is_drowsy(context->rip))
        return thread->trap_blocked;
    const struct tl_guard_call *call = (const struct tl_guard_call *)(context->rsp + sizeof(struct tl_hit_regs));
    return call->trap_blocked;
}

void tl_handler_begins(struct tl_caller *caller, const struct tl_sigaction *action, int number,
                       struct tl_signal_frame *frame)
{
    struct tl_broker_thread *thread = caller->thread;
    uint64_t blocked = action->mask | (action->flags & TL_SA_NODEFER ? 0 : TL_SIGNAL_BIT(number));
    if (is_dormant(caller) && blocked & TL_TRAP_BIT && tl_may(caller->broker, TL_OWN_SIGPROCMASK))
        tl_mask_change(TL_SIG_BLOCK, TL_TRAP_BIT, NULL);
    if (!thread)
        return;
    if (blocked & TL_LOAD_BITS)
        thread->safe = 0;
    bool was = was_blocked(thread, &frame->context);
    if (!was && !(blocked & TL_TRAP_BIT))
        return;
    if (!tl_return_is_seen(tl_broker_tables(caller->broker), frame->restorer)) {
        if (blocked & TL_TRAP_BIT)
            block_trap(thread, frame, was);
        return;
    }
    if (was)
        frame->context.mask |= TL_TRAP_BIT;
    if (blocked & TL_TRAP_BIT)
        thread->trap_blocked = 1;
}

static void reset(struct tl_caller *caller, int number, struct tl_sigaction *action)
{
    uint64_t handler = action->handler, mask;
    action->handler = TL_SIG_DFL;
    tl_action_lock(caller, &mask);
    tl_action_set(caller->process, number, action);
    tl_action_unlock(caller, mask);
    action->handler = handler;
}

/* The frame as the handler is to find it; NULL where there is no room for it. */
static struct tl_signal_frame *put_frame(const struct tl_sigaction *action, struct tl_signal_frame *frame)
{
    return !(action->flags & TL_SA_ONSTACK) && has_switched(&frame->context) ? move(frame) : frame;
}

/* What the kernel makes of a signal for which it has no room. */
static void turn_into_fault(struct tl_signal_frame *frame)
{
    tl_clear_words(&frame->info, sizeof frame->info);
    frame->info.number = TL_SIGSEGV;
    frame->info.code = TL_SI_KERNEL;
}

struct tl_signal_frame *tl_deliver(struct tl_caller *caller, struct tl_signal_frame *frame,
                                   struct tl_signal_frame *second, bool raised)
{
    struct tl_broker_thread *thread = caller->thread;
    struct tl_signal_frame *place = NULL;
    struct tl_sigaction action;
    /* Handed over (broker_pending.c) in a call that unblocks it for a while. */
    if (!is_dormant(caller))
        frame->context.mask &= ~TL_TRAP_BIT;
    for (int number = 0; !place; raised = true) {
        int last = number;
        number = frame->info.number;
        bool is_blocked = number == TL_SIGTRAP && thread && thread->trap_blocked;
        tl_action_get(caller->process, number, &action);
        if (action.handler == TL_SIG_IGN && !raised)
            return frame;
        if (action.handler == TL_SIG_DFL || action.handler == TL_SIG_IGN || (raised && is_blocked) || last == number)
            return die(caller, frame);
        if (action.flags & TL_SA_RESETHAND)
            reset(caller, number, &action);
        place = put_frame(&action, frame);
        if (!place)
            turn_into_fault(frame);
    }
    place->restorer = action.restorer;
    tl_handler_begins(caller, &action, place->info.number, place);
    lead_to(caller, &action, place, second);
    return second;
}
