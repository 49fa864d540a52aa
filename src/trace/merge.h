/* SPDX-License-Identifier: MIT
 *
 * The reader's state. Internal to src/trace. For threads and signals reader.h holds here too.
 */
#ifndef TRAPLINE_MERGE_H
#define TRAPLINE_MERGE_H

#include "trace/clock.h"
#include "trace/lane.h"

struct tl_reader {
    uint8_t *area;
    struct tl_hit_control layout; /* ours, not the area's */
    struct tl_lane_limits limits;
    struct tl_clock clock;
    uint64_t patience_ns;
    uint64_t seen, late, unfinished;
    uint64_t lost_before;         /* what was lost before the event that ended a poll last… */
    bool stopped;                 /* …if one has */
    uint64_t last_tsc;            /* of the youngest event given out */
    uint16_t order[TL_LANES_MAX]; /* a heap of the lanes that have a front, the oldest on top */
    uint32_t ordered;
    struct tl_lane_reader lanes[]; /* layout.lane_count */
};

#endif
