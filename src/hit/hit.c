/* SPDX-License-Identifier: MIT
 *
 * A hit: find a lane, do each action of the site in order, leave.
 */
#include "hit/event.h"

static inline uint64_t fs_base(uint32_t flags)
{
    uint64_t base = 0;
    if (flags & TL_HIT_FS_SELF)
        __asm__ volatile("movq %%fs:0, %0" : "=r"(base));
    else if (flags & TL_HIT_FSGSBASE)
        __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static inline uint64_t thread_id(const struct tl_hit_control *area, uint64_t base)
{
    if (!base || area->tid_offset == INT32_MIN)
        return 0;
    return *(const volatile uint32_t *)(base + (uint64_t)(int64_t)area->tid_offset);
}

/* What most programs begin with, and many consist of: registers into slots. The rest is the interpreter's. */
static inline bool accept(struct tl_hit *hit, const struct tl_operation *code)
{
    while (code[0].op == TL_OP_REG && code[0].a != TL_RFLAGS && code[1].op == TL_OP_STORE) {
        tl_slot_store(hit, code[1].a, hit->regs->r[code[0].a]);
        code += 2;
    }
    return code->op == TL_OP_END || tl_fetch_run(hit, code);
}

static inline void act(struct tl_hit *hit, const struct tl_hit_action *action)
{
    const struct tl_operation *operations = (const struct tl_operation *)((char *)hit->area + hit->area->operations);
    hit->slots = hit->strings = hit->scratch_used = 0;
    if (action->operations && !accept(hit, operations + action->first_operation))
        return;
    if (action->kind == TL_ACTION_COUNT)
        hit->lane->counts_and_ring[action->probe]++;
    else
        tl_event_write(hit, action->probe);
}

void tl_hit(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t index)
{
    const struct tl_hit_site *site = (const struct tl_hit_site *)((char *)area + area->sites) + index;
    const struct tl_hit_action *action =
        (const struct tl_hit_action *)((char *)area + area->actions) + site->first_action;
    const struct tl_hit_action *end = action + site->action_count;
    struct tl_hit hit;
    hit.fs_base = fs_base(area->flags);
    hit.lane = tl_lane_claim(area, hit.fs_base);
    if (!hit.lane) {
        __atomic_fetch_add(&area->missed, site->action_count, __ATOMIC_RELAXED);
        return;
    }
    hit.area = area;
    hit.regs = regs;
    hit.tid_site = thread_id(area, hit.fs_base) | (uint64_t)index << 32;
    hit.tsc = 0;
    regs->r[TL_RIP] = site->addr;
    for (; action != end; action++) {
        if (action->kind == TL_ACTION_EVENT && !hit.tsc && !(area->flags & TL_HIT_NO_CLOCK))
            hit.tsc = tl_clock_ticks(); /* once a hit */
        act(&hit, action);
    }
    tl_lane_release(hit.lane);
}
