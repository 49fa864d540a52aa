/* SPDX-License-Identifier: MIT
 *
 * One lane: a ring with one writer at a time, in memory that the probed program can scribble on.
 *
 * Honest writers first. A hit marks the lane (busy = 1), reads the counter, writes the event, stores head, and leaves
 * the lane (busy = 0). We read in the opposite order: busy, then head. So if busy is 0, head covers every hit whose
 * mark has reached us; all others read the counter after our reading of it, or just before.
 *
 * Events may have to wait until it is certain that no other lane has an older one, and a ring is small. So a look
 * copies whatever is in the ring to a store of our own, and gives the room back at once. Stores have a limit together
 * (what is beyond it stays in the rings, where it may be lost, and counted), but one that is empty takes a whole ring,
 * so that no lane starves.
 *
 * Then the others. head, and every byte below it, are numbers from an enemy. Events are judged in the store, where they
 * cannot change any more; what makes no sense costs the lane all that it holds (there is no way to find the next event
 * behind a broken one) and is counted as damage. The shared tail is ours to write and never believed: scribbling on it
 * can make the writer overwrite events, which is damage again, but cannot lead us anywhere.
 */
#include "trace/lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKS = 32, STACK_FIXED = sizeof(struct tl_hit_regs) + 8 };
enum { EVENT_MAX = sizeof(struct tl_event) + 8 * TL_EVENT_ARGS + TL_EVENT_STRINGS + STACK_FIXED + TL_STACK_BYTES_MAX };

#define ALL_SLOTS (TL_EVENT_ARGS == 32 ? UINT32_MAX : (1u << (TL_EVENT_ARGS % 32)) - 1)

void tl_lane_look(struct tl_lane_reader *lane, struct tl_lane_limits *limits, uint64_t tsc, uint64_t now_ns)
{
    uint64_t before = lane->last_head;
    lane->busy = true;
    /* A hit takes far less than a microsecond: mostly it is over within a few looks. */
    for (int i = 0; lane->busy && i < LOOKS; i++) {
        if (i)
            __builtin_ia32_pause();
        lane->busy = __atomic_load_n(&lane->shared->busy, __ATOMIC_ACQUIRE) != 0;
    }
    lane->behind = !tl_lane_absorb(lane, limits);
    lane->limit = lane->to;
    if (!lane->busy || lane->last_head != before || lane->busy_since_ns == 0)
        lane->busy_since_ns = now_ns;
    if (!lane->busy && !lane->behind)
        lane->settled = tsc;
}

/* `size` more bytes fit behind `to`. */
static bool make_room(struct tl_lane_reader *lane, size_t size)
{
    if (lane->store_size - lane->to >= size)
        return true;
    if (lane->from) {
        memmove(lane->store, lane->store + lane->from, lane->to - lane->from);
        lane->to -= lane->from;
        lane->limit -= lane->from;
        lane->mark -= lane->mark ? lane->from : 0;
        lane->from = 0;
    }
    size_t bigger = lane->store_size ? lane->store_size : 4096;
    while (bigger - lane->to < size)
        bigger *= 2;
    uint8_t *store = bigger > lane->store_size ? realloc(lane->store, bigger) : lane->store;
    if (!store)
        return false;
    lane->store = store;
    lane->store_size = bigger;
    return true;
}

/* `size` bytes of the ring from our tail on, across its end. */
static void copy_out(const struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint8_t *to, size_t size)
{
    uint64_t start = lane->tail & (limits->ring_bytes - 1), first = limits->ring_bytes - start;
    if (first > size)
        first = size;
    memcpy(to, lane->ring + start, first);
    memcpy(to + first, lane->ring, size - first);
}

/* What is put into the store comes behind what was lost so far. Of several such places in it only the first is kept. */
static void note_losses(struct tl_lane_reader *lane)
{
    if (lane->from == lane->to) {
        lane->lost_here = lane->lost;
    } else if (!lane->mark) {
        lane->mark = lane->to;
        lane->lost_next = lane->lost;
    }
}

bool tl_lane_absorb(struct tl_lane_reader *lane, struct tl_lane_limits *limits)
{
    uint64_t lost = __atomic_load_n(&lane->shared->lost, __ATOMIC_ACQUIRE);
    uint64_t head = __atomic_load_n(&lane->shared->head, __ATOMIC_ACQUIRE), size = head - lane->tail;
    lane->last_head = head;
    if (size > limits->ring_bytes || head % 8 != 0) {
        size = 0;
        head -= head % 8;
        lane->damaged++;
    }
    if (size && lane->to > lane->from && limits->stored + size > limits->store_most)
        return false;
    if (size && !make_room(lane, size)) {
        if (lane->to > lane->from)
            return false;
        size = 0; /* not even one ring's worth of memory: then it cannot be kept */
        lane->damaged++;
    }
    if (size) {
        note_losses(lane);
        copy_out(lane, limits, lane->store + lane->to, size);
        lane->to += size;
        limits->stored += size;
    }
    lane->tail = head;
    lane->lost = lost;
    /* Compared, so that lanes in which nothing happens stay in everybody's cache, and what was scribbled is mended. */
    if (__atomic_load_n(&lane->shared->tail, __ATOMIC_RELAXED) != head)
        __atomic_store_n(&lane->shared->tail, head, __ATOMIC_RELEASE);
    return true;
}

/* Judge the event at the front of the store, of which `available` bytes are there. */
static bool decode(struct tl_lane_reader *lane, const struct tl_lane_limits *limits, size_t available)
{
    struct tl_event event;
    struct tl_record *record = &lane->record;

    if (available < sizeof(event))
        return false;
    memcpy(&event, lane->store + lane->from, sizeof(event));
    uint64_t fixed = sizeof(event) + 8 * (uint64_t)__builtin_popcount(event.stored);
    uint32_t probe = event.probe & ~TL_EVENT_STACK;
    if (event.size % 8 != 0 || event.size < fixed || event.size > available || event.size > EVENT_MAX ||
        probe >= limits->probe_count || event.site >= limits->site_count || event.stored & event.faulted ||
        (event.stored | event.faulted) & ~ALL_SLOTS)
        return false;
    record->probe = probe;
    record->has_stack = probe != event.probe;
    record->site = event.site;
    record->tid = event.tid;
    record->stored = event.stored;
    record->faulted = event.faulted;
    record->size = event.size;
    record->fs_base = event.fs_base;
    record->tsc = event.tsc;
    const uint8_t *value = lane->store + lane->from + sizeof(event);
    for (uint32_t left = event.stored; left; left &= left - 1, value += 8)
        memcpy(&record->values[__builtin_ctz(left)], value, 8);
    return true;
}

static void forget(struct tl_lane_reader *lane, struct tl_lane_limits *limits, size_t size)
{
    lane->front = false;
    lane->from += size;
    limits->stored -= size;
    if (lane->mark && lane->from >= lane->mark) {
        lane->lost_here = lane->lost_next;
        lane->mark = 0;
    }
    if (lane->from == lane->to)
        lane->from = lane->to = lane->limit = 0;
}

bool tl_lane_take(struct tl_lane_reader *lane, struct tl_lane_limits *limits, uint64_t newest)
{
    if (lane->front || lane->from == lane->limit)
        return lane->front;
    if (!decode(lane, limits, lane->limit - lane->from)) {
        lane->damaged++;
        forget(lane, limits, lane->to - lane->from);
        return false;
    }
    struct tl_record *record = &lane->record;
    if (record->tsc > newest || record->tsc == 0) /* 0: no clock on that side */
        record->tsc = newest;
    if (record->tsc > lane->last_tsc)
        lane->last_tsc = record->tsc;
    lane->front = true;
    return true;
}

struct tl_record *tl_lane_record(struct tl_lane_reader *lane)
{
    lane->record.bytes = lane->store + lane->from;
    return &lane->record;
}

void tl_lane_drop(struct tl_lane_reader *lane, struct tl_lane_limits *limits)
{
    forget(lane, limits, lane->record.size);
}

int tl_record_string(const struct tl_record *record, unsigned slot, const char **text, size_t *length)
{
    if (slot >= TL_EVENT_ARGS)
        return -ENOENT;
    if (record->faulted >> slot & 1)
        return -EFAULT;
    if (!(record->stored >> slot & 1))
        return -ENOENT;
    uint64_t value = record->values[slot];
    uint32_t size = (uint32_t)value, offset = (uint32_t)(value >> 32);
    if (offset > record->size || size > record->size - offset)
        return -EFAULT;
    *text = (const char *)record->bytes + offset;
    *length = size;
    return 0;
}

int tl_record_stack(const struct tl_record *record, struct tl_hit_regs *regs, const uint8_t **stack, size_t *size)
{
    uint64_t taken, fixed = sizeof(struct tl_event) + 8 * (uint64_t)__builtin_popcount(record->stored) + STACK_FIXED;
    if (!record->has_stack)
        return -ENOENT;
    if (record->size < fixed)
        return -EFAULT;
    const uint8_t *end = record->bytes + record->size - sizeof(taken);
    memcpy(&taken, end, sizeof(taken));
    if (taken > record->size - fixed)
        return -EFAULT;
    *stack = end - (taken + 7) / 8 * 8;
    *size = taken;
    memcpy(regs, *stack - sizeof(*regs), sizeof(*regs));
    return 0;
}
