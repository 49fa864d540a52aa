/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: events in a lane's ring. As safe as runtime.h says.
 */
#ifndef TRAPLINE_EVENT_H
#define TRAPLINE_EVENT_H

#include "hit/ring.h"

/* Write the event, or count it as lost. */
void tl_event_write(const struct tl_hit *hit, uint32_t probe);

/* Nearly all programs put registers into slots 0, 1, … and end (`code` NULL: no program at all). The values of such an
 * event are written straight into the ring: how many there are. Negative where the program does more, or where the
 * ring's end or a reader that lags needs care: then nothing has happened. */
static inline int64_t tl_event_put_registers(const struct tl_hit_control *area, struct tl_lane *lane,
                                             const struct tl_hit_regs *regs, const struct tl_operation *code)
{
    enum { MOST = sizeof(struct tl_event) + 8 * TL_EVENT_ARGS };
    uint64_t at = lane->position & (area->lane_bytes - 1);
    if (at + MOST > area->lane_bytes || !tl_lane_fits(area, lane, MOST))
        return -1;
    uint64_t *values = tl_lane_ring(area, lane) + (at + sizeof(struct tl_event)) / 8;
    int64_t slot = 0;
    for (; code && code->op != TL_OP_END; code += 2, slot++) {
        if (code[0].op != TL_OP_REG || code[0].a == TL_RFLAGS || code[1].op != TL_OP_STORE || code[1].a != slot)
            return -1;
        values[slot] = regs->r[code[0].a];
    }
    return slot;
}

/* The event's head before that many values, and the end of it. */
static inline void tl_event_publish(const struct tl_hit_control *area, struct tl_lane *lane, uint32_t probe,
                                    uint64_t tsc, uint64_t tid_site, uint64_t fs_base, uint64_t values)
{
    uint64_t *event = tl_lane_ring(area, lane) + (lane->position & (area->lane_bytes - 1)) / 8;
    uint64_t size = sizeof(struct tl_event) + 8 * values;
    event[0] = size | (uint64_t)probe << 32;
    event[1] = tsc;
    event[2] = tid_site;
    event[3] = fs_base;
    event[4] = ((uint64_t)1 << values) - 1;
    tl_lane_publish(lane, size);
}

#endif
