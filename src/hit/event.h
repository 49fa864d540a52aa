/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: events in a lane's ring. In line, since it is most of what a hit does.
 */
#ifndef TRAPLINE_EVENT_H
#define TRAPLINE_EVENT_H

#include "hit/ring.h"

/* Write the event, `fixed` bytes of it before the strings, at word `at` of the ring; `mask` wraps at its end. */
static inline __attribute__((always_inline)) void tl_event_put(const struct tl_hit *hit, uint32_t probe, uint64_t fixed,
                                                               uint64_t *ring, uint64_t at, uint64_t mask)
{
    const struct tl_lane *lane = hit->lane;
    uint64_t size = fixed + ((hit->scratch_used + 7) & ~(uint64_t)7);
    ring[at & mask] = size | (uint64_t)probe << 32;
    ring[(at + 1) & mask] = hit->tsc;
    ring[(at + 2) & mask] = hit->tid_site;
    ring[(at + 3) & mask] = hit->fs_base;
    ring[(at + 4) & mask] = hit->slots;
    at += 5;
    for (uint32_t left = (uint32_t)hit->slots; left; left &= left - 1, at++) {
        unsigned slot = (unsigned)__builtin_ctz(left);
        uint64_t value = lane->slots[slot];
        ring[at & mask] = hit->strings >> slot & 1 ? value + (fixed << 32) : value;
    }
    const uint64_t *strings = (const uint64_t *)(const void *)lane->scratch;
    for (uint64_t i = 0; i < hit->scratch_used; i += 8, at++)
        ring[at & mask] = strings[i / 8];
}

/* The same across the end of the ring. */
void tl_event_put_wrapped(const struct tl_hit *hit, uint32_t probe, uint64_t fixed, uint64_t *ring, uint64_t at);

/* Write the event, or count it as lost. */
static inline void tl_event_write(const struct tl_hit *hit, uint32_t probe)
{
    const struct tl_hit_control *area = hit->area;
    struct tl_lane *lane = hit->lane;
    uint64_t fixed = sizeof(struct tl_event);
    for (uint32_t left = (uint32_t)hit->slots; left; left &= left - 1)
        fixed += 8;
    uint64_t size = fixed + ((hit->scratch_used + 7) & ~(uint64_t)7);
    if (!tl_lane_has_room(area, lane, size)) {
        lane->lost++;
        return;
    }
    uint64_t *ring = tl_lane_ring(area, lane), at = lane->position & (area->lane_bytes - 1);
    if (TL_LIKELY(at + size <= area->lane_bytes))
        tl_event_put(hit, probe, fixed, ring, at / 8, ~(uint64_t)0);
    else
        tl_event_put_wrapped(hit, probe, fixed, ring, at / 8);
    tl_lane_publish(lane, size);
}

#endif
