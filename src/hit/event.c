/* SPDX-License-Identifier: MIT */
#include "hit/event.h"

/* Write the event, `size` bytes in all and `fixed` of them before the strings, from word `at` of the ring on. */
static void put(const struct tl_hit *hit, uint32_t probe, uint64_t size, uint64_t fixed, uint64_t *ring, uint64_t at)
{
    const struct tl_lane *lane = hit->lane;
    uint64_t mask = hit->area->lane_bytes / 8 - 1;
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

/* The registers and the stack, as they stand at the end of an event, from word `at` of the ring on; how many bytes they
 * take. The kernel writes the stack where it belongs: there is no room for a copy on a stack that may be short. */
static uint64_t put_stack(const struct tl_hit *hit, uint64_t *ring, uint64_t at)
{
    const struct tl_hit_control *area = hit->area;
    uint64_t words = area->lane_bytes / 8;
    for (unsigned i = 0; i < TL_REG_COUNT; i++)
        ring[at++ & (words - 1)] = hit->regs->r[i];
    uint64_t read = tl_memory_read_to_ring(hit, hit->regs->r[TL_RSP] - TL_RED_ZONE, at, hit->stack_bytes);
    uint64_t taken = (read + 7) / 8;
    ring[(at + taken) & (words - 1)] = read;
    return 8 * (TL_REG_COUNT + taken + 1);
}

void tl_event_write(const struct tl_hit *hit, uint32_t probe)
{
    const struct tl_hit_control *area = hit->area;
    struct tl_lane *lane = hit->lane;
    uint64_t fixed = sizeof(struct tl_event);
    for (uint32_t left = (uint32_t)hit->slots; left; left &= left - 1)
        fixed += 8;
    uint64_t size = fixed + ((hit->scratch_used + 7) & ~(uint64_t)7);
    uint64_t most = hit->stack_bytes ? size + 8 * (TL_REG_COUNT + 1) + hit->stack_bytes : size;
    if (!tl_lane_has_room(area, lane, most)) {
        lane->lost++;
        return;
    }
    uint64_t *ring = tl_lane_ring(area, lane), at = (lane->position & (area->lane_bytes - 1)) / 8;
    if (hit->stack_bytes) {
        size += put_stack(hit, ring, at + size / 8);
        probe |= TL_EVENT_STACK;
    }
    put(hit, probe, size, fixed, ring, at);
    tl_lane_publish(lane, size);
}
