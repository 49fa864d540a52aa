/* SPDX-License-Identifier: MIT
 *
 * Opening an area, and what is read of it besides events: totals and counts.
 */
#include "trace/merge.h"

#include <errno.h>
#include <stdlib.h>

static bool fits(uint64_t offset, uint64_t step, uint64_t count, uint64_t size)
{
    uint64_t bytes;
    return offset <= size && !__builtin_mul_overflow(step, count, &bytes) && bytes <= size - offset;
}

static uint64_t counts_bytes(uint32_t probe_count)
{
    return ((uint64_t)probe_count * 8 + 63) / 64 * 64;
}

/* Count blocks: the table, and the overflow block behind it. None at all where `blocks` is 0. */
static uint64_t block_count(const struct tl_hit_control *layout)
{
    return layout->blocks ? ((uint64_t)1 << layout->table_shift) + 1 : 0;
}

static bool blocks_fit(const struct tl_hit_control *layout, uint64_t size)
{
    if (layout->blocks == 0)
        return true;
    if (layout->blocks % 64 || layout->table_shift > 30 || layout->block_shift < 6 || layout->block_shift > 40)
        return false;
    uint64_t block = (uint64_t)1 << layout->block_shift;
    return (uint64_t)layout->probe_count * 8 <= block - TL_COUNT_BLOCK_HEAD &&
           fits(layout->blocks, block, block_count(layout), size);
}

/* None where `missed` is 0. */
static bool missed_fit(const struct tl_hit_control *layout, uint64_t size)
{
    return layout->missed % 8 == 0 && fits(layout->missed, 8, layout->probe_count, size);
}

static bool lanes_fit(const struct tl_hit_control *layout, uint64_t size)
{
    uint64_t ring = layout->lane_bytes;
    if (layout->lane_count > TL_LANES_MAX || layout->lane_shift > 31 ||
        1u << layout->lane_shift >= layout->lane_count || layout->lanes % 64 || layout->lane_stride % 64 || ring < 64 ||
        ring > (uint64_t)1 << 40 || ring & (ring - 1))
        return false;
    return layout->lane_stride >= sizeof(struct tl_lane) + counts_bytes(layout->probe_count) + ring &&
           fits(layout->lanes, layout->lane_stride, layout->lane_count, size);
}

/* Where the runtime's reader left off, should the area have been read before; else nothing can be trusted to be whole.
 */
static void resume(struct tl_lane_reader *lane, const struct tl_lane_limits *limits)
{
    uint64_t head = __atomic_load_n(&lane->shared->head, __ATOMIC_ACQUIRE);
    uint64_t tail = __atomic_load_n(&lane->shared->tail, __ATOMIC_RELAXED);
    if (head - tail > limits->ring_bytes || head % 8 || tail % 8)
        tail = head - head % 8;
    lane->tail = lane->last_head = tail;
}

int tl_reader_open(void *area, size_t size, const struct tl_hit_control *layout,
                   const struct tl_reader_options *options, struct tl_reader **out)
{
    if ((uintptr_t)area % 64 || layout->magic != TL_HIT_MAGIC || size < sizeof(*layout) || !blocks_fit(layout, size) ||
        !missed_fit(layout, size) || !lanes_fit(layout, size))
        return -EINVAL;
    size_t bytes = sizeof(struct tl_reader) + layout->lane_count * sizeof(struct tl_lane_reader);
    struct tl_reader *reader = calloc(1, bytes);
    if (!reader)
        return -ENOMEM;
    reader->area = area;
    reader->layout = *layout;
    reader->patience_ns = options ? options->patience_ns : TL_READER_PATIENCE_NS;
    reader->limits.store_most = options && options->store_bytes ? options->store_bytes : TL_READER_STORE_BYTES;
    reader->limits.ring_bytes = layout->lane_bytes;
    reader->limits.probe_count = layout->probe_count;
    reader->limits.site_count = layout->site_count;
    for (uint32_t i = 0; i < layout->lane_count; i++) {
        struct tl_lane_reader *lane = &reader->lanes[i];
        lane->shared = (struct tl_lane *)(reader->area + layout->lanes + i * layout->lane_stride);
        lane->ring = (const uint8_t *)lane->shared->counts_and_ring + counts_bytes(layout->probe_count);
        resume(lane, &reader->limits);
    }
    tl_clock_init(&reader->clock);
    *out = reader;
    return 0;
}

void tl_reader_close(struct tl_reader *reader)
{
    if (!reader)
        return;
    for (uint32_t i = 0; i < reader->layout.lane_count; i++)
        free(reader->lanes[i].store);
    free(reader);
}

static const uint64_t *missed_by_probe(const struct tl_reader *reader)
{
    return reader->layout.missed ? (const uint64_t *)(reader->area + reader->layout.missed) : NULL;
}

void tl_reader_totals(const struct tl_reader *reader, struct tl_reader_totals *totals)
{
    const uint64_t *missed = missed_by_probe(reader);
    *totals = (struct tl_reader_totals){.seen = reader->seen, .late = reader->late, .unfinished = reader->unfinished};
    for (uint32_t i = 0; missed && i < reader->layout.probe_count; i++)
        totals->missed += __atomic_load_n(&missed[i], __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < reader->layout.lane_count; i++) {
        totals->lost += __atomic_load_n(&reader->lanes[i].shared->lost, __ATOMIC_RELAXED);
        totals->damaged += reader->lanes[i].damaged;
    }
    totals->lost_before = reader->stopped ? reader->lost_before : totals->lost;
}

static void add(const uint64_t *from, uint32_t count, uint64_t *to)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* A block or lane that nobody owns holds nothing, and looking through it would make the kernel allocate it. The
 * overflow block, the last, and the lanes behind those of threads belong to nobody in particular. */
void tl_reader_counts(const struct tl_reader *reader, uint64_t *counts)
{
    const struct tl_hit_control *layout = &reader->layout;
    uint64_t blocks = block_count(layout);
    for (uint64_t i = 0; i < blocks; i++) {
        const struct tl_count_block *block =
            (const struct tl_count_block *)(reader->area + layout->blocks + (i << layout->block_shift));
        /* A block that nobody owns holds nothing, and looking through it would make the kernel allocate it. The last,
         * the overflow block, belongs to nobody in particular. */
        if (i == blocks - 1 || __atomic_load_n(&block->owner, __ATOMIC_ACQUIRE) != 0)
            add(block->counts, layout->probe_count, counts);
    }
    for (uint32_t i = 0; i < layout->lane_count; i++) {
        const struct tl_lane *lane = reader->lanes[i].shared;
        if (i >> layout->lane_shift || __atomic_load_n(&lane->owner, __ATOMIC_ACQUIRE) != 0)
            add(lane->counts_and_ring, layout->probe_count, counts);
    }
}

void tl_reader_missed(const struct tl_reader *reader, uint64_t *counts)
{
    const uint64_t *missed = missed_by_probe(reader);
    if (missed)
        add(missed, reader->layout.probe_count, counts);
}

uint64_t tl_reader_time(struct tl_reader *reader, uint64_t tsc)
{
    return tl_clock_ns(&reader->clock, tsc);
}
