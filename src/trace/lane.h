/* SPDX-License-Identifier: MIT
 *
 * One lane as the reader sees it. Internal to src/trace.
 */
#ifndef TRAPLINE_LANE_H
#define TRAPLINE_LANE_H

#include <stdbool.h>

#include "trace/reader.h"

enum { TL_EVENT_MAX = sizeof(struct tl_event) + 8 * TL_EVENT_ARGS + TL_EVENT_STRINGS };

struct tl_lane_limits { /* the same for all lanes; the reader's own copy */
    uint64_t ring_bytes;
    uint32_t probe_count, site_count;
};

struct tl_lane_reader {
    struct tl_lane *shared;
    const uint8_t *ring;
    uint64_t tail;          /* ours; the shared one is only ever written */
    uint64_t published;     /* the shared tail */
    uint64_t limit;         /* head at the last look */
    uint64_t settled;       /* tsc: every hit that began before is visible below `limit` */
    uint64_t last_tsc;      /* of the newest event taken */
    uint64_t busy_since_ns; /* of the hit under way, as far as known */
    uint64_t damaged;
    bool busy;  /* a hit was under way at the last look */
    bool front; /* `record` is an event that has been taken and not given out */
    struct tl_record record;
    uint64_t bytes[(TL_EVENT_MAX + 7) / 8];
};

/* Look at the lane, once the counter has been read as `tsc`: how far can be read, and is a hit under way? */
void tl_lane_look(struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint64_t tsc, uint64_t now_ns);
/* Take the next event below `limit` into `record`. False where there is none, or only damage (skipped). `newest` is a
 * reading of the counter taken after the look: what claims to be younger is as young as that. */
bool tl_lane_take(struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint64_t newest);
/* Let the writer have the room of what was taken. */
void tl_lane_publish(struct tl_lane_reader *lane);

#endif
