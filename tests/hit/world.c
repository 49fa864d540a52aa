/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <assert.h>
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, CODE_BYTES = 64 * PAGE };

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) & ~(to - 1);
}

uint32_t world_features(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    return (getauxval(AT_HWCAP2) & 2 ? TL_HIT_FSGSBASE : TL_HIT_FS_SELF) | (c >> 22 & 1 ? TL_HIT_RDPID : 0);
}

static uint64_t place(uint64_t *at, uint64_t bytes, uint64_t alignment)
{
    uint64_t start = round_up(*at, alignment);
    *at = start + bytes;
    return start;
}

static struct tl_hit_control lay_out(const struct world_shape *shape)
{
    struct tl_hit_control control = {.magic = TL_HIT_MAGIC, .flags = shape->flags, .pid = (uint32_t)getpid()};
    uint64_t at = sizeof(control);
    control.tid_offset = world_tid_offset();
    control.site_count = (uint32_t)shape->site_count;
    control.action_count = (uint32_t)shape->action_count;
    control.operation_count = (uint32_t)shape->operation_count;
    control.strings_size = (uint32_t)shape->strings_size;
    control.probe_count = shape->probes;
    control.table_shift = shape->table_shift ? shape->table_shift : 8;
    control.block_shift = 7;
    while (1u << control.block_shift < TL_COUNT_BLOCK_HEAD + 8 * shape->probes)
        control.block_shift++;
    control.lane_shift = shape->lane_count ? shape->lane_shift : 4;
    control.lane_count = shape->lane_count ? shape->lane_count : 32;
    control.lane_bytes = shape->ring_bytes ? shape->ring_bytes : 1 << 16;
    control.lane_stride = round_up(sizeof(struct tl_lane) + round_up(8 * shape->probes, 64) + control.lane_bytes, PAGE);
    control.sites = place(&at, shape->site_count * sizeof(struct tl_hit_site), 64);
    control.actions = place(&at, shape->action_count * sizeof(struct tl_hit_action), 64);
    control.operations = place(&at, shape->operation_count * sizeof(struct tl_operation), 64);
    control.strings = place(&at, shape->strings_size, 64);
    control.missed = place(&at, 8ull * shape->probes, 64);
    control.blocks = place(&at, (uint64_t)((1u << control.table_shift) + 1) << control.block_shift, PAGE);
    control.lanes = place(&at, control.lane_count * control.lane_stride, PAGE);
    control.area_size = at;
    return control;
}

static void *map(size_t size, int protection, int flags)
{
    void *memory = mmap(NULL, size, protection, flags | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

static void fill(void *area, uint64_t offset, const void *from, size_t size)
{
    if (size)
        memcpy((char *)area + offset, from, size);
}

struct world world_make(const struct world_shape *shape)
{
    struct world world;
    struct tl_hit_control control = lay_out(shape);
    world.area = map(control.area_size, PROT_READ | PROT_WRITE, MAP_SHARED);
    *world.area = control;
    world.area->flags |= world_features();
    fill(world.area, control.sites, shape->sites, shape->site_count * sizeof(struct tl_hit_site));
    fill(world.area, control.actions, shape->actions, shape->action_count * sizeof(struct tl_hit_action));
    fill(world.area, control.operations, shape->operations, shape->operation_count * sizeof(struct tl_operation));
    fill(world.area, control.strings, shape->strings, shape->strings_size);

    /* As in a target: code that cannot be written once it runs, and a gate that a fork child sees empty. */
    size_t blob_size = round_up(tl_blob_size, PAGE);
    world.blob = map(blob_size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memcpy(world.blob, tl_blob, tl_blob_size);
    tl_blob_prepare(world.blob, (uint64_t)(uintptr_t)world.area);
    if (mprotect(world.blob, blob_size, PROT_READ | PROT_EXEC))
        abort();
    world.mapping = map(PAGE + CODE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (madvise(world.mapping, PAGE, MADV_WIPEONFORK))
        abort();
    world.gate = (struct tl_gate *)world.mapping;
    world.gate->enter = (uint64_t)(uintptr_t)world.blob + tl_blob_enter();
    world.gate->claim = (uint64_t)(uintptr_t)world.blob + tl_blob_claim();
    world.gate->counts = (uint64_t)(uintptr_t)world.area + control.blocks;
    world.code = world.mapping + PAGE;
    world.code_end = world.code + CODE_BYTES;
    return world;
}

void world_free(struct world *world)
{
    munmap(world->area, world->area->area_size);
    munmap(world->blob, round_up(tl_blob_size, PAGE));
    munmap(world->mapping, PAGE + CODE_BYTES);
}

struct tl_hook world_hook(const struct world *world, enum tl_hook_kind kind, uint32_t index)
{
    return (struct tl_hook){.kind = kind,
                            .index = index,
                            .gate = (uint64_t)(uintptr_t)world->gate,
                            .block_shift = (uint8_t)world->area->block_shift,
                            .table_shift = (uint8_t)world->area->table_shift,
                            .has_fsgsbase = (world->area->flags & TL_HIT_FSGSBASE) != 0,
                            .fs_self = (world->area->flags & TL_HIT_FS_SELF) != 0};
}

void *world_trampoline(struct world *world, const struct tl_hook *hook, const void *body, size_t size)
{
    uint8_t *start = world->code;
    size_t length = 0, code_bytes = (size_t)(world->code_end - (world->mapping + PAGE));
    assert(world->code_end - start > TL_HOOK_BYTES_MAX + (ptrdiff_t)size);
    mprotect(world->mapping + PAGE, code_bytes, PROT_READ | PROT_WRITE);
    if (tl_hook_emit(hook, (uint64_t)(uintptr_t)start, start, &length))
        abort();
    memcpy(start + length, body, size);
    mprotect(world->mapping + PAGE, code_bytes, PROT_READ | PROT_EXEC);
    world->code = start + round_up(length + size, 16);
    return start;
}

world_fn *world_function(struct world *world, enum tl_hook_kind kind, uint32_t index)
{
    struct tl_hook hook = world_hook(world, kind, index);
    world_fn *function;
    void *code = world_trampoline(world, &hook, "\xc3", 1);
    memcpy(&function, &code, sizeof(function));
    return function;
}

struct tl_lane *world_lane(const struct world *world, uint32_t index)
{
    return (struct tl_lane *)((char *)world->area + world->area->lanes + index * world->area->lane_stride);
}

uint64_t world_count(const struct world *world, uint32_t probe)
{
    const struct tl_hit_control *area = world->area;
    uint64_t sum = 0;
    for (uint64_t i = 0; i <= 1ull << area->table_shift; i++) {
        struct tl_count_block *block = (void *)((char *)world->area + area->blocks + (i << area->block_shift));
        sum += block->counts[probe];
    }
    for (uint32_t i = 0; i < area->lane_count; i++)
        sum += world_lane(world, i)->counts_and_ring[probe];
    return sum;
}

uint64_t world_lost(const struct world *world)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < world->area->lane_count; i++)
        sum += world_lane(world, i)->lost;
    return sum;
}

uint64_t world_missed(const struct world *world, uint32_t probe)
{
    const uint64_t *missed = (const uint64_t *)((char *)world->area + world->area->missed);
    return __atomic_load_n(&missed[probe], __ATOMIC_RELAXED);
}

static size_t take_from(const struct world *world, struct tl_lane *lane, void *event, size_t size)
{
    uint64_t head = __atomic_load_n(&lane->head, __ATOMIC_ACQUIRE), words = world->area->lane_bytes / 8;
    uint64_t *ring = lane->counts_and_ring + round_up(world->area->probe_count, 8);
    if (head == lane->tail)
        return 0;
    uint32_t length = (uint32_t)ring[lane->tail / 8 % words];
    assert(length >= sizeof(struct tl_event) && length % 8 == 0 && length <= head - lane->tail);
    for (uint32_t i = 0; i < length && i < size; i += 8)
        memcpy((char *)event + i, &ring[(lane->tail + i) / 8 % words], 8);
    __atomic_store_n(&lane->tail, lane->tail + length, __ATOMIC_RELEASE);
    return length;
}

size_t world_take(const struct world *world, void *event, size_t size)
{
    size_t length = 0;
    for (uint32_t i = 0; i < world->area->lane_count && !length; i++)
        length = take_from(world, world_lane(world, i), event, size);
    return length;
}

uint64_t world_drain(const struct world *world)
{
    struct tl_event event;
    uint64_t events = 0;
    for (uint32_t i = 0; i < world->area->lane_count; i++)
        while (take_from(world, world_lane(world, i), &event, sizeof(event)))
            events++;
    return events;
}

int32_t world_tid_offset(void)
{
    char *base;
    pid_t tid = (pid_t)syscall(SYS_gettid);
    __asm__("movq %%fs:0, %0" : "=r"(base));
    for (int32_t offset = 0; offset < 1024; offset += 4)
        if (*(pid_t *)(base + offset) == tid)
            return offset;
    return INT32_MIN;
}
