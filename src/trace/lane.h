/* SPDX-License-Identifier: MIT
 *
 * One lane as the reader sees it. Internal to src/trace. For threads and signals reader.h holds here too.
 */
#ifndef TRAPLINE_LANE_H
#define TRAPLINE_LANE_H

#include <stdbool.h>

#include "trace/reader.h"

/* The same for all lanes; the reader's own copy. */
struct tl_lane_limits {
    uint64_t ring_bytes;
    uint32_t probe_count, site_count;
    uint64_t store_most; /* bytes that all stores together may hold, beyond a ring's worth each */
    uint64_t stored;     /* bytes that they hold */
};

struct tl_lane_reader {
    struct tl_lane *shared;
    const uint8_t *ring;
    uint64_t tail;          /* of the ring, ours; the shared one is only ever written */
    uint64_t last_head;     /* at the last look */
    uint64_t settled;       /* tsc: every hit that began before is in the store */
    uint64_t last_tsc;      /* of the newest event taken */
    uint64_t busy_since_ns; /* of the hit under way, as far as known */
    uint64_t damaged;
    bool busy;   /* a hit was under way at the last look */
    bool behind; /* the last look saw more than the store could take */
    bool front;  /* `record` is the event at store[from] */
    struct tl_record record;

    /* What was copied from the ring and is not done with: store[from … to). */
    uint8_t *store;
    size_t from, to, store_size;
    size_t limit; /* where the last look ended */

    /* Who finds the ring full loses his event, so what was lost by the time at which room is made comes before all that
     * is written then. */
    uint64_t lost;                 /* when room was made last */
    uint64_t lost_here, lost_next; /* before the event at store[from], and before those from store[mark] on */
    size_t mark;                   /* 0: none */
};

/* Look at the lane, once the counter has been read as `tsc`: is a hit under way? Then absorb. */
void tl_lane_look(struct tl_lane_reader *lane, struct tl_lane_limits *limits, uint64_t tsc, uint64_t now_ns);
/* Copy what is in the ring to the store, so that the writer has room again. False where the store may not grow. */
bool tl_lane_absorb(struct tl_lane_reader *lane, struct tl_lane_limits *limits);
/* Have the next event below `limit` in `record`. False where there is none, or only damage (thrown away). `newest` is a
 * reading of the counter taken after the look: what claims to be younger is as young as that. */
bool tl_lane_take(struct tl_lane_reader *lane, struct tl_lane_limits *limits, uint64_t newest);
/* The record, whole; it stands until the lane is asked for anything else. Then it is done with. */
struct tl_record *tl_lane_record(struct tl_lane_reader *lane);
void tl_lane_drop(struct tl_lane_reader *lane, struct tl_lane_limits *limits);

#endif
