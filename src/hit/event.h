/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: events in a lane's ring. As safe as runtime.h says.
 */
#ifndef TRAPLINE_EVENT_H
#define TRAPLINE_EVENT_H

#include "hit/ring.h"

/* Write the event, or count it as lost. */
void tl_event_write(const struct tl_hit *hit, uint32_t probe);

/* What an operation is, in one word: op, a << 8, b << 16. */
static inline uint64_t tl_operation_head(const struct tl_operation *operation)
{
    uint64_t head;
    __builtin_memcpy(&head, operation, sizeof head);
    return head;
}

/* Where the next event goes, be it as long as one without strings can be; NULL where the ring's end or a reader that
 * lags needs care. */
static inline uint64_t *tl_event_place(const struct tl_hit_control *area, struct tl_lane *lane)
{
    enum { MOST = sizeof(struct tl_event) + 8 * TL_EVENT_ARGS };
    uint64_t bytes = area->lane_bytes, at = lane->position & (bytes - 1), used = lane->position - lane->tail_seen;
    if (!TL_LIKELY(at + MOST <= bytes && used <= bytes - MOST))
        return NULL;
    return tl_lane_ring(area, lane) + at / 8;
}

/* Nearly all programs put registers into slots 0, 1, … and end (`code` NULL: no program at all). The values of such an
 * event are written straight into the ring: how many there are. Negative where the program does more. */
static inline int64_t tl_event_put_registers(uint64_t *event, const struct tl_hit_regs *regs,
                                             const struct tl_operation *code)
{
    uint64_t *values = event + sizeof(struct tl_event) / 8;
    uint64_t slot = 0, head;
    for (; code && (head = tl_operation_head(code)) != TL_OP_END; code += 2, slot++) {
        uint64_t distance = head - TL_OP_REG, reg = distance >> 8 | distance << 56; /* beyond all, if it is not REG */
        if (reg >= TL_RFLAGS || tl_operation_head(code + 1) != (TL_OP_STORE | slot << 8))
            return -1;
        values[slot] = regs->r[reg];
    }
    return (int64_t)slot;
}

/* The event's head before that many values, and the end of it. */
static inline void tl_event_publish(struct tl_lane *lane, uint64_t *event, uint32_t probe, uint64_t tsc,
                                    uint64_t tid_site, uint64_t fs_base, uint64_t values)
{
    enum { PREFETCHED = 64 }; /* some events on */
    uint64_t size = sizeof(struct tl_event) + 8 * values;
    /* The reader, on another processor, had the line last. (Where it is not there, nothing happens.) */
    __asm__ volatile("prefetchw %0" : : "m"(event[PREFETCHED]));
    event[0] = size | (uint64_t)probe << 32;
    event[1] = tsc;
    event[2] = tid_site;
    event[3] = fs_base;
    event[4] = ((uint64_t)1 << values) - 1;
    tl_lane_publish(lane, size);
}

#endif
