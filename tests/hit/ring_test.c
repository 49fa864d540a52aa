/* SPDX-License-Identifier: MIT
 *
 * Lanes and their rings: nothing is lost uncounted, whatever the tail says and whoever else uses the lane.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "hit/event.h"
#include "world.h"

enum { BARE_EVENT = sizeof(struct tl_event), RING = 256 };

static struct world world;
static const struct tl_hit_site site = {.addr = 0x1000, .action_count = 1};
static const struct tl_hit_action action = {.probe = 2, .kind = TL_ACTION_EVENT};

static struct world make(uint32_t lane_shift, uint32_t lane_count, uint32_t flags)
{
    return world_make(&(struct world_shape){.flags = flags,
                                            .probes = 3,
                                            .lane_shift = lane_shift,
                                            .lane_count = lane_count,
                                            .ring_bytes = RING,
                                            .sites = &site,
                                            .site_count = 1,
                                            .actions = &action,
                                            .action_count = 1});
}

static void __attribute__((noinline)) hit_once(void)
{
    struct tl_hit_regs regs = {{0}};
    tl_hit(world.area, &regs, 0);
}

static struct tl_lane *lane_of_thread(void)
{
    for (uint32_t i = 0; i < 1u << world.area->lane_shift; i++)
        if (world_lane(&world, i)->owner)
            return world_lane(&world, i);
    return NULL;
}

static void a_full_ring_loses_exactly_what_does_not_fit(void **unused)
{
    (void)unused;
    world = make(4, 32, 0);
    uint64_t seen = 0, hits = 0;
    for (int round = 1; round < 40; round++) {
        for (int i = 0; i < round; i++, hits++)
            hit_once();
        struct tl_event event;
        for (uint64_t last = 0; world_take(&world, &event, sizeof(event)); seen++, last = event.tsc) {
            assert_int_equal(event.size, BARE_EVENT);
            assert_int_equal(event.probe, 2);
            assert_true(event.tsc >= last);
        }
        assert_int_equal(seen + world_lost(&world), hits);
    }
    assert_true(world_lost(&world) > 0);
    /* At most six events fit; with fewer, none is lost. */
    for (int i = 0; i < 6; i++)
        hit_once();
    assert_int_equal(world_drain(&world), 6);
    world_free(&world);
}

/* Events of all sizes at all places of the ring come out as they went in. */
static void events_wrap_at_the_end_of_the_ring(void **unused)
{
    (void)unused;
    world = make(4, 32, 0);
    struct tl_lane *lane = world_lane(&world, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        unsigned values = i % 8, length = i % 13;
        struct tl_hit hit = {.area = world.area, .lane = lane, .fs_base = 9, .tsc = i, .tid_site = i};
        for (unsigned slot = 0; slot < values; slot++)
            tl_slot_store(&hit, 2 * slot, i * 100 + slot);
        tl_slot_fault(&hit, 31);
        if (length) {
            memset(lane->scratch, (int)('a' + length), length);
            tl_slot_store_string(&hit, 30, length);
            hit.scratch_used = length;
        }
        tl_event_write(&hit, 1);

        uint64_t words[RING / 8], slots = hit.slots;
        struct tl_event event;
        assert_int_equal(world_take(&world, words, sizeof(words)),
                         BARE_EVENT + 8 * (values + !!length) + (length + 7) / 8 * 8);
        memcpy(&event, words, sizeof(event));
        assert_int_equal(event.tsc, i);
        assert_int_equal(event.fs_base, 9);
        assert_int_equal(event.stored | (uint64_t)event.faulted << 32, slots);
        for (unsigned slot = 0; slot < values; slot++)
            assert_int_equal(words[BARE_EVENT / 8 + slot], i * 100 + slot);
        for (unsigned at = 0; at < length; at++) {
            uint64_t place = words[BARE_EVENT / 8 + values];
            assert_int_equal((uint32_t)place, length);
            assert_int_equal(((char *)words)[(place >> 32) + at], 'a' + length);
        }
    }
    assert_int_equal(lane->lost, 0);
    world_free(&world);
}

/* Likewise for those that are written without the interpreter, where the ring lets them. */
static void registers_come_out_as_they_went_in(void **unused)
{
    (void)unused;
    static const struct tl_operation code[] = {{.op = TL_OP_REG, .a = TL_RDI},
                                               {.op = TL_OP_STORE, .a = 0},
                                               {.op = TL_OP_REG, .a = TL_R15},
                                               {.op = TL_OP_STORE, .a = 1},
                                               {.op = TL_OP_END}};
    static const struct tl_hit_action fetching = {.kind = TL_ACTION_EVENT, .operations = 5};
    world = world_make(&(struct world_shape){.probes = 1,
                                             .ring_bytes = 1024,
                                             .sites = &site,
                                             .site_count = 1,
                                             .actions = &fetching,
                                             .action_count = 1,
                                             .operations = code,
                                             .operation_count = 5});
    for (uint64_t i = 0; i < 1000; i++) {
        struct {
            struct tl_event head;
            uint64_t values[2];
        } event;
        struct tl_hit_regs regs = {{[TL_RDI] = i, [TL_R15] = ~i}};
        tl_hit(world.area, &regs, 0);
        assert_int_equal(world_take(&world, &event, sizeof(event)), sizeof(event));
        assert_int_equal(event.head.stored, 3);
        assert_int_equal(event.head.faulted, 0);
        assert_int_equal(event.values[0], i);
        assert_int_equal(event.values[1], ~i);
    }
    assert_int_equal(world_lost(&world), 0);
    world_free(&world);
}

static void a_tail_that_makes_no_sense_loses_events_and_nothing_else(void **unused)
{
    (void)unused;
    static const uint64_t tails[] = {1, 1u << 20, (uint64_t)-1, (uint64_t)1 << 63, (uint64_t)-RING};
    for (size_t i = 0; i < sizeof(tails) / sizeof(*tails); i++) {
        world = make(4, 32, 0);
        hit_once();
        struct tl_lane *lane = lane_of_thread();
        lane->tail = tails[i];
        for (int n = 1; n < 100; n++)
            hit_once();
        assert_int_equal(lane->head / BARE_EVENT + lane->lost, 100);
        /* The neighbours have not been written to. */
        for (uint32_t other = 0; other < 32; other++)
            assert_true(world_lane(&world, other) == lane || world_lane(&world, other)->head == 0);
        world_free(&world);
    }
}

static void without_a_reader_nobody_waits(void **unused)
{
    (void)unused;
    world = make(4, 32, TL_HIT_BLOCK);
    world.area->heartbeat = tl_clock_ticks();
    world.area->heartbeat_max = 1000;
    for (int i = 0; i < 20; i++)
        hit_once();
    assert_int_equal(world_drain(&world) + world_lost(&world), 20);
    assert_true(world_lost(&world) > 0);
    world_free(&world);
}

static void a_busy_lane_is_left_alone(void **unused)
{
    (void)unused;
    world = make(2, 7, 0);
    hit_once();
    struct tl_lane *mine = lane_of_thread();
    assert_non_null(mine);
    /* As for a signal handler that interrupts a hit, and another one that interrupts that. */
    volatile uint64_t held = tl_lane_name(mine);
    mine->busy = (uint64_t)(uintptr_t)&held;
    uint64_t head = mine->head;
    for (int i = 0; i < 3; i++) {
        hit_once();
        for (uint32_t n = 4; n < 7; n++)
            if (world_lane(&world, n)->head)
                world_lane(&world, n)->owner = 77; /* somebody else's now */
    }
    assert_int_equal(mine->head, head);
    assert_int_equal(world_missed(&world, 2), 0);
    assert_int_equal(world_drain(&world), 4);
    /* All are busy now. */
    hit_once();
    hit_once();
    assert_int_equal(world_missed(&world, 2), 2);
    assert_int_equal(world_drain(&world), 0);
    mine->busy = 0;
    hit_once();
    assert_int_equal(world_drain(&world), 1);
    assert_int_equal(world_missed(&world, 2), 2);
    world_free(&world);
}

static void a_thread_that_cannot_be_told_apart_uses_shared_lanes(void **unused)
{
    (void)unused;
    world = make(2, 7, 0);
    world.area->flags &= ~(uint32_t)(TL_HIT_FS_SELF | TL_HIT_FSGSBASE);
    hit_once();
    assert_null(lane_of_thread());
    struct tl_event event;
    assert_int_equal(world_take(&world, &event, sizeof(event)), BARE_EVENT);
    assert_int_equal(event.fs_base, 0);
    assert_int_equal(event.tid, 0);
    world_free(&world);
}

static void strangers_keep_their_lanes(void **unused)
{
    (void)unused;
    world = make(2, 5, 0);
    for (uint32_t i = 0; i < 4; i++)
        world_lane(&world, i)->owner = 77 + i;
    hit_once();
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(world_lane(&world, i)->head, 0);
    assert_int_equal(world_lane(&world, 4)->head, BARE_EVENT);
    assert_int_equal(world_lane(&world, 4)->busy, 0);
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_ring_loses_exactly_what_does_not_fit),
        cmocka_unit_test(events_wrap_at_the_end_of_the_ring),
        cmocka_unit_test(registers_come_out_as_they_went_in),
        cmocka_unit_test(a_tail_that_makes_no_sense_loses_events_and_nothing_else),
        cmocka_unit_test(without_a_reader_nobody_waits),
        cmocka_unit_test(a_busy_lane_is_left_alone),
        cmocka_unit_test(a_thread_that_cannot_be_told_apart_uses_shared_lanes),
        cmocka_unit_test(strangers_keep_their_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
