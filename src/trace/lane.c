/* SPDX-License-Identifier: MIT
 *
 * One lane: a ring with one writer at a time, in memory that the probed program can scribble on.
 *
 * Honest writers first. A hit marks the lane (busy = 1), reads the counter, writes the event, stores head, and leaves
 * the lane (busy = 0). We read in the opposite order: busy, then head. So if busy is 0, head covers every hit whose
 * mark has reached us; all others read the counter after our reading of it, or just before.
 *
 * Then the others. head, and every byte below it, are numbers from an enemy. Each is read once, into our own memory,
 * and judged there; what makes no sense costs the lane all that it holds (there is no way to find the next event behind
 * a broken one) and is counted as damage. The shared tail is ours to write and never believed: scribbling on it can
 * make the writer overwrite events, which is damage again, but cannot lead us anywhere.
 */
#include "trace/lane.h"

#include <errno.h>
#include <string.h>

enum { LOOKS = 32 };

#define ALL_SLOTS (TL_EVENT_ARGS == 32 ? UINT32_MAX : (1u << (TL_EVENT_ARGS % 32)) - 1)

void tl_lane_look(struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint64_t tsc, uint64_t now_ns)
{
    uint64_t head = 0;
    lane->busy = true;
    /* A hit takes far less than a microsecond: mostly it is over within a few looks. */
    for (int i = 0; lane->busy && i < LOOKS; i++) {
        if (i)
            __builtin_ia32_pause();
        lane->busy = __atomic_load_n(&lane->shared->busy, __ATOMIC_ACQUIRE) != 0;
        head = __atomic_load_n(&lane->shared->head, __ATOMIC_ACQUIRE);
    }
    if (!lane->busy || head != lane->limit || lane->busy_since_ns == 0)
        lane->busy_since_ns = now_ns;
    if (!lane->busy)
        lane->settled = tsc;
    if (head - lane->tail > limits->ring_bytes || head % 8 != 0) {
        head -= head % 8;
        lane->tail = head;
        lane->damaged++;
    }
    lane->limit = head;
}

void tl_lane_publish(struct tl_lane_reader *lane)
{
    /* Compared, so that lanes in which nothing happens stay in everybody's cache, and what was scribbled is mended. */
    if (__atomic_load_n(&lane->shared->tail, __ATOMIC_RELAXED) != lane->tail)
        __atomic_store_n(&lane->shared->tail, lane->tail, __ATOMIC_RELEASE);
    lane->published = lane->tail;
}

/* `size` bytes of the ring from position `at` on, across its end. */
static void copy_out(const struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint64_t at, void *to,
                     size_t size)
{
    uint64_t start = at & (limits->ring_bytes - 1), first = limits->ring_bytes - start;
    if (first > size)
        first = size;
    memcpy(to, lane->ring + start, first);
    memcpy((uint8_t *)to + first, lane->ring, size - first);
}

/* Copy the event at the tail, of which at most `available` bytes are there, and judge it. */
static bool decode(struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint64_t available)
{
    struct tl_event event;
    struct tl_record *record = &lane->record;

    if (available < sizeof(event))
        return false;
    copy_out(lane, limits, lane->tail, &event, sizeof(event));
    uint64_t fixed = sizeof(event) + 8 * (uint64_t)__builtin_popcount(event.stored);
    if (event.size % 8 != 0 || event.size < fixed || event.size > available || event.size > TL_EVENT_MAX ||
        event.probe >= limits->probe_count || event.site >= limits->site_count || event.stored & event.faulted ||
        (event.stored | event.faulted) & ~ALL_SLOTS)
        return false;
    copy_out(lane, limits, lane->tail + sizeof(event), (uint8_t *)lane->bytes + sizeof(event),
             event.size - sizeof(event));
    memcpy(lane->bytes, &event, sizeof(event));

    record->probe = event.probe;
    record->site = event.site;
    record->tid = event.tid;
    record->stored = event.stored;
    record->faulted = event.faulted;
    record->size = event.size;
    record->fs_base = event.fs_base;
    record->tsc = event.tsc;
    record->bytes = (const uint8_t *)lane->bytes;
    const uint64_t *value = lane->bytes + sizeof(event) / 8;
    for (uint32_t left = event.stored; left; left &= left - 1)
        record->values[__builtin_ctz(left)] = *value++;
    return true;
}

bool tl_lane_take(struct tl_lane_reader *lane, const struct tl_lane_limits *limits, uint64_t newest)
{
    uint64_t available = lane->limit - lane->tail;
    if (lane->front || available == 0)
        return lane->front;
    if (!decode(lane, limits, available)) {
        lane->tail = lane->limit;
        lane->damaged++;
        return false;
    }
    struct tl_record *record = &lane->record;
    if (record->tsc > newest || record->tsc == 0) /* 0: no clock on that side */
        record->tsc = newest;
    if (record->tsc > lane->last_tsc)
        lane->last_tsc = record->tsc;
    lane->tail += record->size;
    if (lane->tail - lane->published > limits->ring_bytes / 8)
        tl_lane_publish(lane);
    lane->front = true;
    return true;
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
