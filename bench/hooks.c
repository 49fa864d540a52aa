/* SPDX-License-Identifier: MIT */
#include "hooks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trace/reader.h"

enum { LOOK_NS = 1000000, NAP_NS = 100000 };

/* The four bytes of a relative jump that stands at `at` (or `call`), five bytes long. */
static void put_distance(uint8_t *field, const uint8_t *at, const uint8_t *target)
{
    int32_t distance = (int32_t)(target - (at + 5));
    memcpy(field, &distance, 4);
}

/* Room for a loop, aligned like those of hit_pads.S. */
static uint8_t *reserve_loop(struct world *world)
{
    uint8_t *loop = (uint8_t *)(((uintptr_t)world->code + 63) & ~(uintptr_t)63);
    world->code = loop + 64;
    return loop;
}

static loop_fn *place_loop(struct world *world, uint8_t *loop, const uint8_t *code, size_t size)
{
    static const struct tl_hook none = {.kind = TL_HOOK_NONE};
    uint8_t *next = world->code;
    loop_fn *function;
    world->code = loop;
    world_trampoline(world, &none, code, size);
    world->code = next;
    memcpy(&function, &loop, sizeof function);
    return function;
}

/* A trampoline: hook, displaced instruction, jump back to `back`. */
static uint8_t *displace(struct world *world, enum tl_hook_kind kind, uint32_t index, const uint8_t *back)
{
    struct tl_hook hook = world_hook(world, kind, index);
    uint8_t body[10] = {0x48, 0x8d, 0x44, 0x36, 0x40, 0xe9}; /* lea rax, [rsi + rsi + 64]; jmp */
    uint8_t emitted[TL_HOOK_BYTES_MAX];
    size_t length;
    if (tl_hook_emit(&hook, (uint64_t)(uintptr_t)world->code, emitted, &length))
        abort();
    put_distance(body + 6, world->code + length + 5, back);
    return world_trampoline(world, &hook, body, sizeof body);
}

loop_fn *probed_loop(struct world *world, enum tl_hook_kind kind, uint32_t index)
{
    uint8_t code[] = {0xe9, 0, 0, 0, 0, 0x48, 0xff, 0xcf, 0x75, 0xf6, 0xc3}; /* jmp; dec rdi; jnz; ret */
    uint8_t *loop = reserve_loop(world);
    put_distance(code + 1, loop, displace(world, kind, index, loop + 5));
    return place_loop(world, loop, code, sizeof code);
}

loop_fn *probed_call(struct world *world, enum tl_hook_kind kind, uint32_t entry, int leave)
{
    uint8_t code[48] = {0xe8, 27, 0, 0, 0, 0x48, 0xff, 0xcf, 0x75, 0xf6, 0xc3}; /* call +32; dec rdi; jnz; ret */
    uint8_t *loop = reserve_loop(world);
    code[32] = 0xe9; /* jmp */
    put_distance(code + 33, loop + 32, displace(world, kind, entry, loop + 37));
    code[37] = 0xc3;
    if (leave != NO_EXIT) {
        struct tl_hook hook = world_hook(world, kind, (uint32_t)leave);
        code[37] = 0xe9;
        put_distance(code + 38, loop + 37, world_trampoline(world, &hook, "\xc3", 1));
    }
    return place_loop(world, loop, code, sizeof code);
}

void run_loop(const struct line *line)
{
    loop_fn *const *loop = line->subject;
    (*loop)(line->turns);
}

static const struct world *read_world;
static pthread_t thread;
static atomic_bool stop;
static uint64_t sum;

static int see_event(void *unused, const struct tl_record *record)
{
    (void)unused;
    sum += record->time_ns + record->tid + record->values[0] + record->values[1];
    return 0;
}

static void nap(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static void *read_events(void *unused)
{
    struct tl_hit_control *area = read_world->area;
    struct tl_reader *reader;
    if (tl_reader_open(area, area->lanes + area->lane_count * area->lane_stride, area, NULL, &reader))
        abort();
    while (!atomic_load(&stop)) {
        tl_reader_poll(reader, see_event, NULL);
        nap(LOOK_NS);
    }
    tl_reader_close(reader);
    return unused;
}

void reader_start(const struct world *world)
{
    read_world = world;
    if (pthread_create(&thread, NULL, read_events, NULL))
        abort();
}

void reader_stop(void)
{
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

void reader_wait(const struct line *line)
{
    (void)line;
    for (uint32_t i = 0; i < read_world->area->lane_count; i++) {
        const struct tl_lane *lane = world_lane(read_world, i);
        while (lane->head - __atomic_load_n(&lane->tail, __ATOMIC_ACQUIRE) > read_world->area->lane_bytes / 2)
            nap(NAP_NS);
    }
}
