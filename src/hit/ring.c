/* SPDX-License-Identifier: MIT
 *
 * Lanes: who may write, where, and when the reader sees it. The scheme is told in abi.h.
 *
 * A thread's lane is taken without an atomic operation, because only this thread ever takes it: between the look at
 * `busy` and the store to it a signal handler may take the lane, but it gives it back before we go on. Everything else
 * of the lane is read after `busy` has been set, so that it is not older than what such a handler left.
 *
 * `tail` is the reader's, and whatever the program scribbled over it. A tail that makes no sense means no room. It is
 * read only when the last one seen leaves no room: its line moves between processors.
 */
#include "hit/ring.h"

/* How many places of a table are looked at: of lanes few, since each is a page of its own. */
enum { BLOCKS_TRIED = 16, LANES_TRIED = 4, LOOK_EVERY = 16, PAGE = 4096 };
#define NOBODY UINT64_MAX /* the owner of a lane that a thread without an fs base uses */

/* Whether the place is, or has just become, the property of `key`. */
static inline bool own(uint64_t *owner, uint64_t key)
{
    uint64_t seen = __atomic_load_n(owner, __ATOMIC_RELAXED);
    if (seen)
        return seen == key;
    return __atomic_compare_exchange_n(owner, &seen, key, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) || seen == key;
}

struct tl_count_block *tl_hit_claim(struct tl_hit_control *area, uint64_t key, uint32_t displacement)
{
    char *table = (char *)area + area->blocks;
    uint32_t size = 1u << area->table_shift;
    bool nobody = key == 0 || ~key == 0; /* no thread has such an fs base, or every thread may */
    for (uint32_t i = 0, at = tl_hash(key, area->table_shift); !nobody && i < BLOCKS_TRIED && i < size; i++) {
        struct tl_count_block *block =
            (struct tl_count_block *)(table + ((uint64_t)((at + i) & (size - 1)) << area->block_shift));
        if (own(&block->owner, key))
            return block;
    }
    struct tl_count_block *overflow = (struct tl_count_block *)(table + ((uint64_t)size << area->block_shift));
    __atomic_fetch_add((uint64_t *)((char *)overflow + displacement), 1, __ATOMIC_RELAXED);
    return (struct tl_count_block *)((char *)overflow->pad - displacement);
}

void tl_missed(struct tl_hit_control *area, const struct tl_hit_action *action, const struct tl_hit_action *end)
{
    uint64_t *missed = (uint64_t *)((char *)area + area->missed);
    for (; action < end; action++)
        __atomic_fetch_add(&missed[action->probe], 1, __ATOMIC_RELAXED);
}

/* The number of the processor, or anything where that cannot be had cheaply. */
static uint32_t processor(uint32_t flags)
{
    uint64_t number;
    if (flags & TL_HIT_RDPID)
        __asm__ volatile("rdpid %0" : "=r"(number));
    else
        __asm__ volatile("lsl %1, %0" : "=r"(number) : "r"(0x7bul) : "cc"); /* the kernel's segment for getcpu */
    return number & 0xfff;
}

/* Whether the hit whose frame is at `frame`, of this thread, is over although it never gave its lane back. Reading far
 * away costs a system call: not every look is made. */
static bool is_dead(struct tl_hit_control *area, struct tl_lane *lane, uint64_t frame, const struct tl_hit_regs *regs)
{
    uint64_t word = 0, here = (uint64_t)(uintptr_t)&word;
    if (frame >= here && frame < (uint64_t)(uintptr_t)(regs + 1))
        return true;
    if ((frame ^ here) < PAGE && frame % 8 == 0)
        word = *(const volatile uint64_t *)frame;
    else if (lane->looks++ % LOOK_EVERY || tl_memory_read_by_kernel(area, frame, &word, sizeof word) != sizeof word)
        return false;
    return (word ^ tl_lane_name(lane)) >> 16;
}

/* What the lane's last hit, which is dead, has left undone. The lane is in use again: by us. */
static void clear_up(struct tl_hit_control *area, struct tl_lane *lane)
{
    uint64_t progress = lane->progress, next = progress >> TL_PROGRESS_SHIFT;
    lane->position = lane->head;
    __atomic_store_n(&lane->progress, 0, __ATOMIC_RELAXED); /* none is counted twice, should we be left as well */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (next == 0 || lane->site >= area->site_count)
        return;
    const struct tl_hit_site *site = tl_site_at(area, lane->site);
    const struct tl_hit_action *first = tl_first_action(area, site), *action = first + (next - 1);
    if (next > site->action_count)
        return;
    uint64_t sum = action->kind == TL_ACTION_COUNT ? lane->counts_and_ring[action->probe] : lane->head + lane->lost;
    if ((sum ^ progress) << (64 - TL_PROGRESS_SHIFT))
        action++;
    tl_missed(area, action, first + site->action_count);
}

/* The lane is the thread's: use it, unless a hit does that lives. */
static bool use_own(struct tl_hit_control *area, struct tl_lane *lane, struct tl_hit_regs *regs)
{
    uint64_t busy = lane->busy;
    if (busy && !is_dead(area, lane, busy, regs))
        return false;
    tl_lane_hold(lane, regs);
    if (busy)
        clear_up(area, lane);
    return true;
}

static __attribute__((noinline)) struct tl_lane *claim_shared(struct tl_hit_control *area, uint64_t fs_base,
                                                              struct tl_hit_regs *regs)
{
    uint32_t first = 1u << area->lane_shift, count = area->lane_count - first;
    if (area->lane_count <= first)
        return NULL;
    for (uint32_t i = 0, at = processor(area->flags) % count; i < count; i++) {
        struct tl_lane *lane = tl_lane_at(area, first + at);
        uint64_t owner = __atomic_load_n(&lane->owner, __ATOMIC_RELAXED);
        if (owner == 0 && __atomic_compare_exchange_n(&lane->owner, &owner, fs_base ? fs_base : NOBODY, false,
                                                      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            tl_lane_hold(lane, regs);
            lane->borrowed = 1;
            return lane;
        }
        if (owner == fs_base && fs_base && use_own(area, lane, regs))
            return lane;
        at = at + 1 < count ? at + 1 : 0;
    }
    return NULL;
}

struct tl_lane *tl_lane_claim_slowly(struct tl_hit_control *area, uint64_t fs_base, struct tl_hit_regs *regs)
{
    uint32_t size = 1u << area->lane_shift;
    for (uint32_t i = 0, at = tl_hash(fs_base, area->lane_shift); fs_base && i < LANES_TRIED && i < size; i++) {
        struct tl_lane *lane = tl_lane_at(area, (at + i) & (size - 1));
        if (!own(&lane->owner, fs_base))
            continue;
        if (use_own(area, lane, regs))
            return lane;
        break;
    }
    return claim_shared(area, fs_base, regs);
}

/* The last tail seen leaves no room: look again, and with TL_HIT_BLOCK wait as long as somebody reads. */
bool tl_lane_wait(const struct tl_hit_control *area, struct tl_lane *lane, uint64_t size)
{
    bool wait = (area->flags & (TL_HIT_BLOCK | TL_HIT_NO_CLOCK)) == TL_HIT_BLOCK && size <= area->lane_bytes;
    for (;;) {
        lane->tail_seen = __atomic_load_n(&lane->tail, __ATOMIC_ACQUIRE);
        if (tl_lane_fits(area, lane, size))
            return true;
        uint64_t heartbeat = __atomic_load_n(&area->heartbeat, __ATOMIC_RELAXED);
        if (!wait || (int64_t)(tl_clock_ticks() - heartbeat) > (int64_t)area->heartbeat_max)
            return false;
        __builtin_ia32_pause();
    }
}
