/* SPDX-License-Identifier: MIT
 *
 * A list in its general form: its actions one after the other, and what handlers may ask about themselves.
 */
#include "hit/call_state.h"

/* Stack arguments of a jump probe: as many of them as can be read without a fault. The page of the return address can
 * be read; others may not be there, where a stack begins. */
static ON_HIT uint64_t readable(uint64_t from, uint64_t bytes)
{
    enum { PAGE = 4096 };
    uint64_t end = from + bytes, page = ((from - 1) | (PAGE - 1)) + 1, word;
    for (; tl_call_platform.peek && page < end; page += PAGE)
        if (!tl_call_platform.peek(page, &word))
            return (page - from) & ~(uint64_t)15;
    return bytes;
}

static ON_HIT void jump(const struct tl_call_action *action, struct tl_regs *regs, struct tl_call_record *record)
{
    uint64_t bytes = ((uint64_t)action->stack_bytes + 15) & ~(uint64_t)15;
    tl_call_jump(action->jump, regs, record, readable(regs->rsp + 8, bytes));
}

/* Whether the program is to be resumed at regs->rip. */
static ON_HIT bool act(const struct tl_call_action *action, struct tl_regs *regs, struct tl_call_record *record)
{
    switch (action->kind) {
    case TL_CALL_PRE:
        return action->pre && action->pre(action->probe, regs);
    case TL_CALL_ENTRY:
        tl_call_enters(action->calls, regs);
        break;
    case TL_CALL_EXIT:
    case TL_CALL_TAIL:
        tl_call_leaves(action->calls, regs, action->kind == TL_CALL_TAIL);
        break;
    case TL_CALL_BACK:
        tl_call_comes_back(action->calls, regs, true);
        return true;
    case TL_CALL_JUMP:
        jump(action, regs, record);
        break;
    case TL_CALL_POST:
        break;
    }
    return false;
}

static ON_HIT void now_runs(struct tl_call_record *record, const struct tl_call_action *action)
{
    __atomic_store_n(&record->action, action, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

int ON_HIT tl_call_dispatch(void *argument, struct tl_regs *regs)
{
    const struct tl_call_list *list = argument;
    const struct tl_call_action *action, *end = list->actions + list->count;
    struct tl_call_record *record = tl_call_self;
    bool emulated = false;
    for (action = list->actions; action != end; action++) {
        now_runs(record, action);
        if (act(action, regs, record))
            return 1;
    }
    if (list->emulation) {
        /* What cannot be emulated, because it would fault, the copy does: and faults. */
        if (!tl_call_platform.emulate || tl_call_platform.emulate(list->emulation, regs))
            return 0;
        emulated = true;
    }
    for (action = list->actions; list->posts && action != end; action++) {
        now_runs(record, action);
        if (action->kind == TL_CALL_POST)
            action->post(action->probe, regs);
    }
    return emulated;
}

/* The list is in force as long as there is such a call. */
void ON_HIT tl_call_unseen(uint32_t index, struct tl_regs *regs)
{
    const struct tl_call_list *list = __atomic_load_n(&tl_call_lists[index], __ATOMIC_ACQUIRE);
    tl_call_comes_back(list->actions->calls, regs, false);
}

bool ON_HIT tl_call_inside(void)
{
    return tl_call_is_inside((uint64_t)(uintptr_t)__builtin_frame_address(0), 0); /* rbp was pushed there */
}

const struct tl_call_action *ON_HIT tl_call_current(uint64_t rsp, uint64_t rbp)
{
    if (!tl_call_is_inside(rsp, rbp))
        return NULL;
    struct tl_call_record *record = tl_call_self;
    return record->list->run == tl_call_dispatch ? record->action : record->list->actions;
}

const void *ON_HIT tl_call_hit_at(uint64_t rsp, uint64_t rbp)
{
    return tl_call_is_inside(rsp, rbp) ? tl_call_self->frame : NULL;
}
