/* SPDX-License-Identifier: MIT
 *
 * Events of all lanes in order of time, as they happen.
 *
 * The question is when an event may be given out: not before every older one has become visible. A hit reads the
 * counter after it marked its lane as busy, so: read the counter (W), then look at each lane. A lane that is idle then
 * shows every event older than W that it will ever have. If all are idle, everything older than W can be merged and
 * given out; less TL_HIT_SETTLE, for the mark may be on its way to us for a while, and counters of different
 * processors may differ a little.
 *
 * A lane that is busy has one hit under way, whose event may be as old as the moment at which the lane was last known
 * to be idle, but not older than the last event in it. That is how far the merge may go once the lane is empty. Mostly
 * the next look finds the lane idle. But a thread may be preempted in a hit, or be killed there, so a hit is waited for
 * only so long (patience), and not at all when a ring is half full: order is worth less than an event. An event that
 * comes out behind a younger one is counted as late.
 *
 * One event of each lane is copied to our own memory and ordered by a heap; events of equal age come out in order of
 * their lanes. Each poll ends: it goes no further than the heads it saw at its beginning.
 */
#include "trace/merge.h"

#include <string.h>

static bool older(const struct tl_reader *reader, uint16_t a, uint16_t b)
{
    uint64_t x = reader->lanes[a].record.tsc, y = reader->lanes[b].record.tsc;
    return x < y || (x == y && a < b);
}

static void sink(struct tl_reader *reader, uint32_t at)
{
    uint16_t *order = reader->order, lane = order[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= reader->ordered)
            break;
        if (child + 1 < reader->ordered && older(reader, order[child + 1], order[child]))
            child++;
        if (!older(reader, order[child], lane))
            break;
        order[at] = order[child];
        at = child;
    }
    order[at] = lane;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Where a lane was idle at `tsc`, all events older than this are visible. */
static uint64_t certain(uint64_t tsc)
{
    return tsc > TL_HIT_SETTLE ? tsc - TL_HIT_SETTLE : 0;
}

/* How far the merge may go while this lane has no event to show. */
static uint64_t lane_bound(const struct tl_reader *reader, const struct tl_lane_reader *lane, uint64_t now_ns)
{
    if (!lane->busy || now_ns - lane->busy_since_ns >= reader->patience_ns)
        return UINT64_MAX;
    uint64_t settled = certain(lane->settled);
    return settled > lane->last_tsc ? settled : lane->last_tsc;
}

struct merge {
    tl_record_fn *fn;
    void *context;
    uint64_t newest; /* no honest event is younger */
    uint64_t now_ns;
    uint64_t bound; /* events older than this may be given out */
    bool wait;      /* for lanes that are busy */
};

/* Give out the events older than the bound. */
static size_t run(struct tl_reader *reader, struct merge *merge)
{
    size_t given = 0;
    int stop = 0;

    reader->ordered = 0;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++) {
        struct tl_lane_reader *lane = &reader->lanes[i];
        if (tl_lane_take(lane, &reader->limits, merge->newest))
            reader->order[reader->ordered++] = (uint16_t)i;
        else if (merge->wait)
            merge->bound = earlier(merge->bound, lane_bound(reader, lane, merge->now_ns));
    }
    for (uint32_t i = reader->ordered / 2; i-- > 0;)
        sink(reader, i);

    while (!stop && reader->ordered && reader->lanes[reader->order[0]].record.tsc < merge->bound) {
        struct tl_lane_reader *lane = &reader->lanes[reader->order[0]];
        struct tl_record *record = &lane->record;
        record->time_ns = tl_clock_ns(&reader->clock, record->tsc);
        if (record->tsc < reader->last_tsc)
            reader->late++;
        else
            reader->last_tsc = record->tsc;
        reader->seen++;
        given++;
        stop = merge->fn(merge->context, record);
        lane->front = false;
        if (!tl_lane_take(lane, &reader->limits, merge->newest)) {
            if (merge->wait)
                merge->bound = earlier(merge->bound, lane_bound(reader, lane, merge->now_ns));
            reader->order[0] = reader->order[--reader->ordered];
        }
        if (reader->ordered)
            sink(reader, 0);
    }
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        tl_lane_publish(&reader->lanes[i]);
    return given;
}

/* Look at all lanes. Returns whether a ring is half full. */
static bool look(struct tl_reader *reader, uint64_t tsc, uint64_t now_ns)
{
    bool full = false;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++) {
        struct tl_lane_reader *lane = &reader->lanes[i];
        tl_lane_look(lane, &reader->limits, tsc, now_ns);
        full |= lane->limit - lane->tail >= reader->limits.ring_bytes / 2;
    }
    return full;
}

size_t tl_reader_poll(struct tl_reader *reader, tl_record_fn *fn, void *context)
{
    struct tl_hit_control *control = (struct tl_hit_control *)reader->area;
    struct tl_clock_pair before = tl_clock_refresh(&reader->clock);

    __atomic_store_n(&control->heartbeat, before.tsc, __ATOMIC_RELAXED);
    bool full = look(reader, before.tsc, before.ns);
    struct tl_clock_pair after = tl_clock_refresh(&reader->clock);
    struct merge merge = {.fn = fn,
                          .context = context,
                          .newest = after.tsc,
                          .now_ns = before.ns,
                          .bound = certain(before.tsc),
                          .wait = !full};
    return run(reader, &merge);
}

size_t tl_reader_drain(struct tl_reader *reader, tl_record_fn *fn, void *context)
{
    struct tl_clock_pair now = tl_clock_refresh(&reader->clock);
    look(reader, now.tsc, now.ns);
    struct tl_clock_pair after = tl_clock_refresh(&reader->clock);

    reader->unfinished = 0;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        reader->unfinished += reader->lanes[i].busy;
    struct merge merge = {
        .fn = fn, .context = context, .newest = after.tsc, .now_ns = now.ns, .bound = UINT64_MAX, .wait = false};
    return run(reader, &merge);
}
