/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: what nearly every hit does with lanes, in line; the rest is in ring.c, which also tells why it
 * is right.
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

/* The rest of tl_lane_claim: the thread's first look did not give it a lane. */
struct tl_lane *tl_lane_claim_slowly(struct tl_hit_control *area, uint64_t fs_base);
/* These actions of a hit come to nothing. */
void tl_missed(struct tl_hit_control *area, const struct tl_hit_action *action, const struct tl_hit_action *end);
/* The rest of tl_lane_has_room: the last tail seen leaves no room. Looks again, and with TL_HIT_BLOCK waits as long as
 * somebody reads. */
bool tl_lane_wait(const struct tl_hit_control *area, struct tl_lane *lane, uint64_t size);

/* A lane for this hit, or NULL when there is none. */
static inline struct tl_lane *tl_lane_claim(struct tl_hit_control *area, uint64_t fs_base)
{
    struct tl_lane *lane = tl_lane_at(area, tl_hash(fs_base, area->lane_shift));
    if (TL_LIKELY(lane->owner == fs_base && !lane->busy && fs_base != 0))
        __atomic_store_n(&lane->busy, 1, __ATOMIC_RELAXED);
    else
        lane = tl_lane_claim_slowly(area, fs_base);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return lane;
}

static inline void tl_lane_release(struct tl_lane *lane)
{
    __atomic_store_n(&lane->busy, 0, __ATOMIC_RELEASE);
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
