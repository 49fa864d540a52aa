/* SPDX-License-Identifier: MIT
 *
 * A hit at the end of the program's stack. The hook and the entry code need some of it that the program itself may
 * not: where it is not there, they fault (or, where rsp is no stack at all, whatever comes of that). Then the hit is
 * missed: the thread goes on behind the hook's call as if handlers had run, with the program's registers, and meets
 * the end of its stack where it would without a probe. On the way out of a hit it likewise has no need of the stack:
 * the return from the signal sets all registers at once.
 *
 * So the broker's signal handler must have a stack of its own. A thread without an alternate one, that comes so near to
 * the end, dies of the probe.
 */
#include "hit/call_state.h"

/* Behind each of these in a hook comes the next: push index; call [gate.call]; lea rsp, [rsp + 136]. In a stub, ud2. */
enum { PUSH_BYTES = 5, CALL_BYTES = 6, INDEX_BELOW_RETURN = CALL_BYTES + 4, PUSH = 0x68, UD2 = 0x0b0f };

struct end {
    uint32_t at, kind;
};
extern HIDDEN const struct end tl_call_ends[], tl_call_ends_end[];
extern HIDDEN const char tl_call_saved[], tl_call_returned_saved[];

static uint64_t address(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

static uint64_t code_of(void (*function)(void))
{
    return (uint64_t)(uintptr_t)function;
}

/* ---- registers ---- */

#define SAME_NAMES(X)                                                                                                  \
    X(rax)                                                                                                             \
    X(rcx) X(rdx) X(rbx) X(rbp) X(rsi) X(rdi) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15) X(rflags)

static void restore(struct tl_context *context, const struct tl_regs *regs)
{
#define PUT(name) context->name = regs->name;
    SAME_NAMES(PUT)
#undef PUT
}

/* A call has returned to a stub, and goes on where it was called from. */
static void go_on(struct tl_context *context, uint32_t index)
{
    struct tl_regs regs = {.rsp = context->rsp + HOOK_BYTES};
#define GET(name) regs.name = context->name;
    SAME_NAMES(GET)
#undef GET
    tl_call_unseen(index, &regs);
    restore(context, &regs);
    context->rip = regs.rip;
    context->rsp = regs.rsp;
}

/* ---- in the hook: registers are the program's ---- */

static bool is_call(const uint8_t *code)
{
    int32_t displacement;
    __builtin_memcpy(&displacement, code + 2, sizeof displacement);
    return code[0] == 0xff && code[1] == 0x15 &&
           *(void (*const *)(void))(const void *)(code + CALL_BYTES + displacement) == tl_call_enter;
}

/* To behind its call. */
static bool leave_hook(struct tl_context *context)
{
    const uint8_t *code = (const uint8_t *)context->rip; /* NOLINT: an address */
    bool is_push = code[0] == PUSH && is_call(code + PUSH_BYTES);
    if (!is_push && !is_call(code))
        return false;
    context->rip += is_push ? PUSH_BYTES + CALL_BYTES : CALL_BYTES;
    context->rsp -= is_push ? 8 : 0;
    return true;
}

/* ---- in the entry code ---- */

static void back_from(struct tl_context *context, uint64_t return_at)
{
    context->rip = *(const uint64_t *)return_at;
    context->rsp = return_at + 8;
}

static const struct end *end_at(uint64_t rip)
{
    for (const struct end *end = tl_call_ends; end < tl_call_ends_end; end++)
        if (rip - code_of(tl_call_enter) == end->at)
            return end;
    return NULL;
}

static bool is_within(uint64_t rip, void (*from)(void), const char *to)
{
    return rip > code_of(from) && rip < address(to);
}

/* Of a frame that is complete. */
static void take_back(struct tl_context *context, struct tl_call_frame *frame)
{
    if (tl_call_self->frame == frame)
        tl_call_self->frame = NULL;
    restore(context, &frame->regs);
    back_from(context, address(&frame->hook));
}

/* Back to the hook or the stub, or on to where a handler has sent it. */
static bool leave_entry(struct tl_context *context, bool *is_missed)
{
    const struct end *end = end_at(context->rip);
    struct tl_call_frame *frame = (struct tl_call_frame *)context->rsp; /* NOLINT: an address */
    *is_missed = !end || end->kind <= END_ENTERING;
    if (context->rip == code_of(tl_call_enter) || context->rip == code_of(tl_call_returned)) { /* pushfq */
        back_from(context, context->rsp);
    } else if (is_within(context->rip, tl_call_enter, tl_call_saved) ||
               is_within(context->rip, tl_call_returned, tl_call_returned_saved)) {
        back_from(context, address(&frame->hook));
    } else if (!end) {
        return false;
    } else if (end->kind == END_SAVING) {
        context->r13 = frame->regs.r13;
        back_from(context, address(&frame->hook));
    } else if (end->kind == END_RESUMING) {
        frame = (struct tl_call_frame *)context->rsi; /* NOLINT: an address */
        context->rip = context->rax;
        context->rsp = context->rdx + 8 + (context->rcx == RED_ZONE ? RED_ZONE : 0);
        restore(context, &frame->regs);
    } else {
        take_back(context, frame);
    }
    return true;
}

bool tl_call_has_no_room(struct tl_context *context, bool is_in_hook)
{
    uint32_t index;
    bool is_missed = true;
    if (!(is_in_hook ? leave_hook(context) : leave_entry(context, &is_missed)))
        return false;
    if (is_missed) {
        const uint8_t *back = (const uint8_t *)context->rip; /* NOLINT: an address */
        __builtin_memcpy(&index, back - INDEX_BELOW_RETURN, sizeof index);
        if (back[0] == (UD2 & 0xff) && back[1] == UD2 >> 8)
            go_on(context, index);
        else
            __atomic_fetch_add(&tl_call_missed_hits[index], 1, __ATOMIC_RELAXED);
    }
    return true;
}
