/* SPDX-License-Identifier: MIT */
#include "producer.h"

#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

static uint64_t up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

struct area area_make(uint32_t lanes, uint64_t ring_bytes, uint32_t probes, int table_shift)
{
    struct area area = {0};
    struct tl_hit_control *layout = &area.layout;
    layout->magic = TL_HIT_MAGIC;
    layout->lane_count = lanes;
    while (2u << layout->lane_shift < lanes) /* at least one lane is for anybody */
        layout->lane_shift++;
    layout->lane_bytes = ring_bytes;
    layout->probe_count = probes;
    layout->site_count = probes;
    layout->lane_stride = up(sizeof(struct tl_lane) + up(probes * 8, 64) + ring_bytes, 64);
    uint64_t end = up(sizeof(*layout), 64);
    layout->missed = end;
    end = up(end + 8 * probes, 64);
    if (table_shift >= 0) {
        layout->blocks = end;
        layout->table_shift = (uint32_t)table_shift;
        layout->block_shift = 6;
        while ((1u << layout->block_shift) < TL_COUNT_BLOCK_HEAD + 8 * probes)
            layout->block_shift++;
        end += ((1u << table_shift) + 1ull) << layout->block_shift;
    }
    layout->lanes = end;
    area.size = layout->area_size = end + lanes * layout->lane_stride;
    area.base = aligned_alloc(64, area.size);
    if (!area.base)
        abort();
    memset(area.base, 0, area.size);
    memcpy(area.base, layout, sizeof(*layout));
    return area;
}

void area_free(struct area *area)
{
    free(area->base);
}

struct tl_hit_control *area_control(const struct area *area)
{
    return (struct tl_hit_control *)area->base;
}

struct tl_lane *area_lane(const struct area *area, uint32_t lane)
{
    return (struct tl_lane *)(area->base + area->layout.lanes + lane * area->layout.lane_stride);
}

uint64_t *area_lane_counts(const struct area *area, uint32_t lane)
{
    return area_lane(area, lane)->counts_and_ring;
}

uint8_t *area_ring(const struct area *area, uint32_t lane)
{
    return (uint8_t *)area_lane_counts(area, lane) + up(area->layout.probe_count * 8, 64);
}

uint64_t *area_missed(const struct area *area)
{
    return (uint64_t *)(area->base + area->layout.missed);
}

struct tl_count_block *area_block(const struct area *area, uint64_t block)
{
    return (struct tl_count_block *)(area->base + area->layout.blocks + (block << area->layout.block_shift));
}

bool area_append(const struct area *area, uint32_t lane, const void *bytes, uint32_t size)
{
    struct tl_lane *shared = area_lane(area, lane);
    uint64_t tail = __atomic_load_n(&shared->tail, __ATOMIC_ACQUIRE), head = shared->head;
    uint64_t ring_bytes = area->layout.lane_bytes;
    if (head + size - tail > ring_bytes) {
        __atomic_store_n(&shared->lost, shared->lost + 1, __ATOMIC_RELAXED);
        return false;
    }
    for (uint32_t i = 0; i < size; i += 8) /* whole words, also where somebody scribbled on head */
        memcpy(area_ring(area, lane) + ((head + i) & (ring_bytes - 8)), (const uint8_t *)bytes + i, 8);
    __atomic_store_n(&shared->head, head + size, __ATOMIC_RELEASE);
    return true;
}

bool area_event(const struct area *area, uint32_t lane, uint64_t tsc, uint32_t probe, uint32_t tid)
{
    struct tl_event event = {.size = sizeof(event), .probe = probe, .site = probe, .tsc = tsc, .tid = tid};
    return area_append(area, lane, &event, sizeof(event));
}

static void write_event(const struct area *area, uint32_t lane, struct tl_event *event)
{
    struct tl_lane *shared = area_lane(area, lane);
    __atomic_store_n(&shared->busy, 1, __ATOMIC_RELAXED);
    __asm__ volatile("" ::: "memory");
    event->tsc = __rdtsc();
    area_append(area, lane, event, event->size);
    __atomic_store_n(&shared->busy, 0, __ATOMIC_RELEASE);
}

void area_hit(const struct area *area, uint32_t probe, uint32_t tid, uint64_t value)
{
    struct {
        struct tl_event event;
        uint64_t value;
    } bytes = {{.size = sizeof(bytes), .probe = probe, .site = probe, .tid = tid, .stored = 1}, value};

    const uint32_t owned = 1u << area->layout.lane_shift;
    if (tid < owned) {
        struct tl_lane *own = area_lane(area, tid);
        own->owner = tid + 1;
        if (!own->busy) {
            write_event(area, tid, &bytes.event);
            return;
        }
    }
    for (uint32_t lane = owned; lane < area->layout.lane_count; lane++)
        if (!__atomic_exchange_n(&area_lane(area, lane)->busy, 1, __ATOMIC_ACQ_REL)) {
            write_event(area, lane, &bytes.event);
            return;
        }
    __atomic_add_fetch(&area_missed(area)[probe], 1, __ATOMIC_RELAXED);
}
