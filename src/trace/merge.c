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
 * only so long (patience), and not at all while the stores are full: order is worth less than an event. An event that
 * comes out behind a younger one is counted as late.
 *
 * The oldest event of each lane is ordered by a heap; events of equal age come out in order of their lanes. Each poll
 * ends: it gives out no more than what it found at its beginning. What comes in while it works is only brought to
 * safety, so that rings do not run over because somebody reads slowly.
 */
#include "trace/merge.h"

/* Events after which the rings are seen to, while events are given out. */
enum { ABSORB_EVERY = 1024 };

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

struct merge {
    tl_record_fn *fn;
    void *context;
    uint64_t newest; /* no honest event is younger */
    uint64_t now_ns;
    uint64_t bound; /* events older than this may be given out */
    bool wait;      /* for lanes that are busy */
    bool stopped;   /* the callback has had enough */
};

/* How far the merge may go while this lane has no event to show. */
static uint64_t lane_bound(const struct tl_reader *reader, const struct tl_lane_reader *lane, const struct merge *merge)
{
    /* A hit under way may be given up on, what is in the ring and did not fit into the store may not. */
    bool wait = lane->busy && merge->wait && merge->now_ns - lane->busy_since_ns < reader->patience_ns;
    if (!wait && !lane->behind)
        return UINT64_MAX;
    uint64_t settled = certain(lane->settled);
    return settled > lane->last_tsc ? settled : lane->last_tsc;
}

/* Have a lane's next event, or let the merge go no further than is certain without. */
static bool advance(struct tl_reader *reader, struct tl_lane_reader *lane, struct merge *merge)
{
    if (tl_lane_take(lane, &reader->limits, merge->newest))
        return true;
    merge->bound = earlier(merge->bound, lane_bound(reader, lane, merge));
    return false;
}

static void note_stop(struct tl_reader *reader)
{
    reader->stopped = true;
    reader->lost_before = 0;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        reader->lost_before += reader->lanes[i].lost_here;
}

static void give(struct tl_reader *reader, struct tl_lane_reader *lane, struct merge *merge)
{
    struct tl_record *record = tl_lane_record(lane);
    record->time_ns = tl_clock_ns(&reader->clock, record->tsc);
    if (record->tsc < reader->last_tsc)
        reader->late++;
    else
        reader->last_tsc = record->tsc;
    reader->seen++;
    merge->stopped = merge->fn(merge->context, record) != 0;
    if (merge->stopped)
        note_stop(reader);
    tl_lane_drop(lane, &reader->limits);
}

static void beat(struct tl_reader *reader, uint64_t tsc)
{
    struct tl_hit_control *control = (struct tl_hit_control *)reader->area;
    __atomic_store_n(&control->heartbeat, tsc, __ATOMIC_RELAXED);
}

/* Bring to safety what has come in since the look, and let writers that wait for room know that there is some. */
static void absorb(struct tl_reader *reader)
{
    beat(reader, tl_clock_tsc());
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        tl_lane_absorb(&reader->lanes[i], &reader->limits);
}

/* Give out the events older than the bound. */
static size_t run(struct tl_reader *reader, struct merge *merge)
{
    uint16_t *order = reader->order;
    size_t given = 0;

    reader->ordered = 0;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        if (advance(reader, &reader->lanes[i], merge))
            order[reader->ordered++] = (uint16_t)i;
    for (uint32_t i = reader->ordered / 2; i-- > 0;)
        sink(reader, i);

    while (!merge->stopped && reader->ordered && reader->lanes[order[0]].record.tsc < merge->bound) {
        struct tl_lane_reader *lane = &reader->lanes[order[0]];
        give(reader, lane, merge);
        if (++given % ABSORB_EVERY == 0)
            absorb(reader);
        if (!advance(reader, lane, merge))
            order[0] = order[--reader->ordered];
        if (reader->ordered)
            sink(reader, 0);
    }
    return given;
}

/* Look at all lanes. Returns whether all of them could be absorbed. */
static bool look(struct tl_reader *reader, struct tl_clock_pair now)
{
    bool all = true;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++) {
        struct tl_lane_reader *lane = &reader->lanes[i];
        tl_lane_look(lane, &reader->limits, now.tsc, now.ns);
        all &= !lane->behind;
    }
    return all;
}

size_t tl_reader_poll(struct tl_reader *reader, tl_record_fn *fn, void *context)
{
    struct tl_clock_pair before = tl_clock_refresh(&reader->clock);

    beat(reader, before.tsc);
    look(reader, before);
    struct merge merge = {.fn = fn,
                          .context = context,
                          .newest = tl_clock_refresh(&reader->clock).tsc,
                          .now_ns = before.ns,
                          .bound = certain(before.tsc),
                          .wait = reader->limits.stored < reader->limits.store_most};
    return run(reader, &merge);
}

size_t tl_reader_drain(struct tl_reader *reader, tl_record_fn *fn, void *context)
{
    size_t given = 0;
    bool all = false;
    /* With nobody writing, each round empties at least one lane that was behind. */
    for (uint32_t round = 0; !all && round <= reader->layout.lane_count; round++) {
        all = look(reader, tl_clock_refresh(&reader->clock));
        struct merge merge = {.fn = fn,
                              .context = context,
                              .newest = tl_clock_refresh(&reader->clock).tsc,
                              .bound = UINT64_MAX,
                              .wait = false};
        given += run(reader, &merge);
        all |= merge.stopped;
    }
    reader->unfinished = 0;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        reader->unfinished += reader->lanes[i].busy;
    return given;
}
