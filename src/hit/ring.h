/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: what nearly every hit does with lanes, in line; the rest is in ring.c, which also tells why it
 * is right. As safe as runtime.h says.
 */
#ifndef TRAPLINE_RING_H
#define TRAPLINE_RING_H

#include "hit/runtime.h"

#define TL_LIKELY(condition) __builtin_expect(!!(condition), 1)

/* A thread's first place in a table of 1 << shift. */
static inline uint32_t tl_hash(uint64_t key, uint32_t shift)
{
    return (uint32_t)((uint64_t)((uint32_t)key * TL_HASH_FACTOR) >> (32 - shift));
}

static inline struct tl_lane *tl_lane_at(struct tl_hit_control *area, uint64_t index)
{
    return (struct tl_lane *)((char *)area + area->lanes + index * area->lane_stride);
}

/* The word in a hit's frame that names its lane (abi.h): it has its place beside the flags, of which 16 bits are kept.
 */
static inline uint64_t tl_lane_name(const struct tl_lane *lane)
{
    return (uint64_t)(uintptr_t)lane << 16;
}

/* From here on the lane is in use. */
static inline void tl_lane_hold(struct tl_lane *lane, struct tl_hit_regs *regs)
{
    uint64_t *word = &regs->r[TL_RFLAGS];
    __atomic_store_n(word, tl_lane_name(lane) | (*word & 0xffff), __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&lane->busy, (uint64_t)(uintptr_t)word, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* The rest of tl_lane_claim: the thread's first look did not give it a lane. */
struct tl_lane *tl_lane_claim_slowly(struct tl_hit_control *area, uint64_t fs_base, struct tl_hit_regs *regs);
/* These actions of a hit come to nothing. */
void tl_missed(struct tl_hit_control *area, const struct tl_hit_action *action, const struct tl_hit_action *end);
/* The rest of tl_lane_has_room: the last tail seen leaves no room. Looks again, and with TL_HIT_BLOCK waits as long as
 * somebody reads. */
bool tl_lane_wait(const struct tl_hit_control *area, struct tl_lane *lane, uint64_t size);

/* The thread's own, and no hit uses it. */
static inline bool tl_lane_is_idle(const struct tl_lane *lane, uint64_t fs_base)
{
    return TL_LIKELY(lane->owner == fs_base && !lane->busy && fs_base != 0);
}

/* A lane for this hit, or NULL when there is none. */
static inline struct tl_lane *tl_lane_claim(struct tl_hit_control *area, uint64_t fs_base, struct tl_hit_regs *regs)
{
    struct tl_lane *lane = tl_lane_at(area, tl_hash(fs_base, area->lane_shift));
    if (tl_lane_is_idle(lane, fs_base))
        tl_lane_hold(lane, regs);
    else
        lane = tl_lane_claim_slowly(area, fs_base, regs);
    return lane;
}

/* In this order: a hit that is cut off between the last two leaves a lane that its thread can use. */
static inline void tl_lane_release(struct tl_lane *lane)
{
    uint16_t borrowed = lane->borrowed;
    if (!TL_LIKELY(!borrowed))
        lane->borrowed = 0;
    __atomic_store_n(&lane->busy, 0, __ATOMIC_RELEASE);
    if (!TL_LIKELY(!borrowed))
        __atomic_store_n(&lane->owner, 0, __ATOMIC_RELEASE);
}

/* How far a hit is: which of its actions is next (the upper bits: its number and 1; 0: nothing more is to be done), and
 * what the action will change by one store, whatever comes of it (the lower bits: head and lost together, or the
 * probe's count). So whoever finds the hit dead knows whether its last action was done. */
enum { TL_PROGRESS_SHIFT = 40 };

static inline void tl_lane_progress(struct tl_lane *lane, uint64_t action, uint64_t sum)
{
    uint64_t low = sum & (((uint64_t)1 << TL_PROGRESS_SHIFT) - 1);
    __atomic_store_n(&lane->progress, low | (action + 1) << TL_PROGRESS_SHIFT, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline bool tl_lane_fits(const struct tl_hit_control *area, const struct tl_lane *lane, uint64_t size)
{
    uint64_t used = lane->position - lane->tail_seen;
    return used <= area->lane_bytes && area->lane_bytes - used >= size;
}

static inline bool tl_lane_has_room(const struct tl_hit_control *area, struct tl_lane *lane, uint64_t size)
{
    return TL_LIKELY(tl_lane_fits(area, lane, size)) || tl_lane_wait(area, lane, size);
}

/* `size` bytes have been written behind `position`. */
static inline void tl_lane_publish(struct tl_lane *lane, uint64_t size)
{
    lane->position += size;
    __atomic_store_n(&lane->head, lane->position, __ATOMIC_RELEASE);
}

#endif
