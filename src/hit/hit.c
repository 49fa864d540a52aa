/* SPDX-License-Identifier: MIT
 *
 * A hit: find a lane, do each action of the site in order, leave. The commonest kind, one event of some registers, goes
 * a shorter way.
 */
#include "hit/brokering.h"
#include "hit/event.h"

static inline uint64_t fs_base(uint32_t flags)
{
    uint64_t base = 0;
    if (TL_LIKELY(flags & TL_HIT_FSGSBASE))
        __asm__ volatile("rdfsbase %0" : "=r"(base));
    else if (flags & TL_HIT_FS_SELF)
        __asm__ volatile("movq %%fs:0, %0" : "=r"(base));
    return base;
}

/* Whether this thread's id stands there. */
static bool has_tid(const struct tl_hit_control *area, uint64_t base, int32_t offset, uint32_t tid)
{
    uint32_t there = 0;
    return tl_memory_read(area, base, base + (uint64_t)(int64_t)offset, &there, sizeof there) == sizeof there &&
           there == tid;
}

/* A program that makes its thread blocks itself, as static ones do, had none when the tool looked. Where this thread's
 * id stands in one of the usual places, and in no other, that is the place. */
static void learn_tid_offset(struct tl_hit_control *area, uint64_t base)
{
    if (!tl_hit_may(area, TL_OWN_GETTID))
        return;
    uint32_t tid = (uint32_t)tl_ask_thread();
    bool is_glibc = has_tid(area, base, TL_TID_GLIBC, tid), is_musl = has_tid(area, base, TL_TID_MUSL, tid);
    if (is_glibc != is_musl)
        __atomic_store_n(&area->tid_offset, is_glibc ? TL_TID_GLIBC : TL_TID_MUSL, __ATOMIC_RELAXED);
}

/* Whether a C library's thread block stands at `base`: its first word is its own address. */
static bool is_thread_block(struct tl_hit_control *area, uint64_t base)
{
    uint64_t self = 0;
    uint32_t tid;
    if (base % 8)
        return false;
    if (area->flags & TL_HIT_NO_MEMORY && !area->broker) /* then the kernel cannot be asked what is there */
        return area->tid_offset != INT32_MIN && *(const volatile uint64_t *)base == base;
    if (tl_memory_read(area, base, base, &self, sizeof self) != sizeof self || self != base)
        return false;
    if (area->tid_offset == INT32_MIN)
        learn_tid_offset(area, base);
    return area->tid_offset != INT32_MIN &&
           tl_memory_read(area, base, base + (uint64_t)(int64_t)area->tid_offset, &tid, sizeof tid) == sizeof tid;
}

static __attribute__((noinline)) void look_at_thread_block(struct tl_hit_control *area, struct tl_lane *lane,
                                                           uint64_t base)
{
    lane->known = is_thread_block(area, base) ? base : ~base;
}

static inline uint64_t noted_tid(const struct tl_hit_control *area, uint64_t base)
{
    return *(const volatile uint32_t *)(base + (uint64_t)(int64_t)area->tid_offset);
}

static inline uint64_t thread_id(struct tl_hit_control *area, struct tl_lane *lane, uint64_t base)
{
    if (!base)
        return 0;
    if (!TL_LIKELY(lane->known == base)) {
        if (lane->known != ~base)
            look_at_thread_block(area, lane, base);
        if (lane->known != base)
            return 0;
    }
    return noted_tid(area, base);
}

static inline uint64_t ticks(const struct tl_hit_control *area)
{
    return TL_LIKELY(!(area->flags & TL_HIT_NO_CLOCK)) ? tl_clock_ticks() : 0;
}

static inline const struct tl_operation *program(const struct tl_hit_control *area, const struct tl_hit_action *action)
{
    const struct tl_operation *operations = (const struct tl_operation *)((const char *)area + area->operations);
    return action->operations ? operations + action->first_operation : NULL;
}

/* A hit in its general form: any actions, the lane claimed. `tsc` may have been read already. */
static __attribute__((noinline)) void act(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t index,
                                          struct tl_lane *lane, uint64_t tsc, const struct tl_watched *watched)
{
    const struct tl_hit_site *site = tl_site_at(area, index);
    const struct tl_hit_action *action = tl_first_action(area, site), *end = action + site->action_count;
    struct tl_hit hit;
    hit.area = area;
    hit.lane = lane;
    hit.regs = regs;
    hit.tsc = tsc;
    hit.watched = watched;
    hit.fs_base = fs_base(area->flags);
    uint64_t tid = thread_id(area, lane, hit.fs_base);
    if (watched && !tid && tl_hit_may(area, TL_OWN_GETTID)) /* a signal has been taken for it: what is a system call */
        tid = tl_ask_thread();
    hit.tid_site = tid | (uint64_t)index << 32;
    __atomic_store_n(&lane->progress, 0, __ATOMIC_RELAXED);
    for (; action != end; action++) {
        tl_lane_progress(lane, lane->progress >> TL_PROGRESS_SHIFT,
                         action->kind == TL_ACTION_COUNT ? lane->counts_and_ring[action->probe]
                                                         : lane->position + lane->lost);
        const struct tl_operation *code = program(area, action);
        if (action->kind == TL_ACTION_EVENT && !hit.tsc)
            hit.tsc = ticks(area); /* once a hit */
        hit.slots = hit.strings = hit.scratch_used = 0;
        hit.stack_bytes = action->stack_bytes;
        if (code && !tl_fetch_run(&hit, code))
            continue;
        if (action->kind == TL_ACTION_COUNT)
            lane->counts_and_ring[action->probe]++;
        else
            tl_event_write(&hit, action->probe);
    }
    __atomic_store_n(&lane->progress, 0, __ATOMIC_RELAXED);
    tl_lane_release(lane);
}

/* Any hit, from the beginning. */
static __attribute__((noinline)) void hit(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t index)
{
    const struct tl_hit_site *site = tl_site_at(area, index);
    struct tl_lane *lane = tl_lane_claim(area, fs_base(area->flags), regs);
    if (lane) {
        lane->site = index;
        regs->r[TL_RIP] = site->addr;
        act(area, regs, index, lane, 0, NULL);
    } else {
        const struct tl_hit_action *action = tl_first_action(area, site);
        tl_missed(area, action, action + site->action_count);
    }
}

/* The commonest kind, in a lane that the thread has had before, is done here. This calls nothing, and goes elsewhere by
 * jumps only: so it needs few registers, and saves none. */
void tl_hit(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t index)
{
    const struct tl_hit_site *site = tl_site_at(area, index);
    const struct tl_hit_action *action = tl_first_action(area, site);
    uint64_t base = fs_base(area->flags);
    struct tl_lane *lane = tl_lane_at(area, tl_hash(base, area->lane_shift));
    if (!TL_LIKELY(site->action_count == 1 && action->kind == TL_ACTION_EVENT && !action->stack_bytes &&
                   tl_lane_is_idle(lane, base))) {
        hit(area, regs, index);
        return;
    }
    tl_lane_hold(lane, regs);
    lane->site = index;
    regs->r[TL_RIP] = site->addr;
    tl_lane_progress(lane, 0, lane->position + lane->lost);
    uint64_t tsc = ticks(area), known = lane->known;
    uint64_t *event = tl_event_place(area, lane);
    int64_t values = TL_LIKELY(event) ? tl_event_put_registers(event, regs, program(area, action)) : -1;
    if (!TL_LIKELY(values >= 0 && (known == base || known == ~base))) {
        act(area, regs, index, lane, tsc, NULL);
        return;
    }
    uint64_t tid = known == base ? noted_tid(area, base) : 0;
    tl_event_publish(lane, event, action->probe, tsc, tid | (uint64_t)index << 32, base, (uint64_t)values);
    tl_lane_release(lane);
}

void tl_hit_watched(struct tl_hit_control *area, struct tl_hit_regs *regs, uint32_t index,
                    const struct tl_watched *watched)
{
    struct tl_lane *lane = tl_lane_claim(area, fs_base(area->flags), regs);
    if (lane) {
        lane->site = index;
        act(area, regs, index, lane, 0, watched);
    } else {
        const struct tl_hit_site *site = tl_site_at(area, index);
        const struct tl_hit_action *action = tl_first_action(area, site);
        tl_missed(area, action, action + site->action_count);
    }
}
