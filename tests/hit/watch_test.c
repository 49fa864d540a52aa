/* SPDX-License-Identifier: MIT
 *
 * What the notifier tells of signals of hardware breakpoints, in what order, and what it leaves to others. The signals
 * are made by hand; memory is the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hit/abi.h"
#include "hit/watch.h"

enum { SPOTS = 4, PAGE = 4096, LANES = 6, RING = 1 << 16, ASYNC = 1 };
enum { OLD, NEW, IP, HOW };

static const struct tl_operation program[] = {{.op = TL_OP_OLD},
                                              {.op = TL_OP_STORE, .a = OLD},
                                              {.op = TL_OP_NEW},
                                              {.op = TL_OP_STORE, .a = NEW},
                                              {.op = TL_OP_REG, .a = TL_RIP},
                                              {.op = TL_OP_STORE, .a = IP},
                                              {.op = TL_OP_HOW},
                                              {.op = TL_OP_STORE, .a = HOW},
                                              {.op = TL_OP_END}};
enum { LENGTH = sizeof program / sizeof *program };

/* A hit area with a table; all events come to one lane, for want of an fs base. */
static struct area {
    struct tl_hit_control control;
    struct tl_hit_site sites[SPOTS];
    struct tl_hit_action actions[SPOTS];
    struct tl_operation operations[LENGTH];
    uint64_t missed[SPOTS];
    _Alignas(64) struct tl_watch_table table;
    _Alignas(64) uint8_t lanes[LANES][sizeof(struct tl_lane) + 64 + RING];
} area;
static struct tl_broker broker;
static _Alignas(64) volatile union {
    uint64_t words[16];
    uint32_t halves[32];
    uint8_t bytes[128];
} memory;
static uint64_t elsewhere; /* what signals say their address is, where it is not 0 */
static uint64_t seen;      /* position of the reader in the lane that is used */

static int begin(void **state)
{
    (void)state;
    memset(&area, 0, sizeof area);
    memset((void *)(uintptr_t)&memory, 0, sizeof memory);
    memset(&broker, 0, sizeof broker);
    tl_broker_here = &broker;
    seen = elsewhere = 0;
    area.control = (struct tl_hit_control){.magic = TL_HIT_MAGIC,
                                           .flags = TL_HIT_NO_CLOCK,
                                           .pid = (uint32_t)getpid(),
                                           .tid_offset = INT32_MIN,
                                           .lane_count = LANES,
                                           .lane_shift = 0,
                                           .site_count = SPOTS,
                                           .action_count = SPOTS,
                                           .operation_count = LENGTH,
                                           .probe_count = SPOTS,
                                           .sites = offsetof(struct area, sites),
                                           .actions = offsetof(struct area, actions),
                                           .operations = offsetof(struct area, operations),
                                           .missed = offsetof(struct area, missed),
                                           .lanes = offsetof(struct area, lanes),
                                           .lane_stride = sizeof area.lanes[0],
                                           .lane_bytes = RING,
                                           .watches = offsetof(struct area, table)};
    memcpy(area.operations, program, sizeof program);
    area.table.offset = offsetof(struct area, table);
    for (uint32_t i = 0; i < SPOTS; i++) {
        area.sites[i] = (struct tl_hit_site){.first_action = i, .action_count = 1};
        area.actions[i] = (struct tl_hit_action){.probe = i, .kind = TL_ACTION_EVENT, .operations = LENGTH};
    }
    return 0;
}

static struct tl_watch_spot *add_spot(volatile void *at, uint8_t length, uint8_t access, bool changes_only)
{
    uint32_t index = area.table.count++;
    struct tl_watch_spot *spot = &area.table.spots[index];
    *spot = (struct tl_watch_spot){.tag = tl_watch_tag(1, index),
                                   .addr = (uint64_t)(uintptr_t)at,
                                   .length = length,
                                   .access = access,
                                   .changes_only = changes_only,
                                   .known = 1,
                                   .site = index};
    area.table.reads |= access & TL_SPOT_READS;
    return spot;
}

static bool notify(int32_t code, uint64_t tag, uint64_t rip, uint64_t flags)
{
    struct tl_signal_frame frame = {.info = {.number = TL_SIGTRAP, .code = code, .rest = {tag, flags << 32}}};
    frame.info.addr = elsewhere ? elsewhere : area.table.spots[tag % SPOTS].addr;
    struct tl_notification note = {.exception = TL_EXCEPTION_DEBUG, .frame = &frame};
    struct tl_signal_frame before;
    frame.context.rip = rip;
    before = frame;
    bool claimed = tl_watch_notify(&area.table, &note);
    assert_memory_equal(&before, &frame, sizeof frame);
    return claimed;
}

static void event_of(uint64_t tag)
{
    assert_true(notify(TL_TRAP_PERF, tag, 0x1234, 0));
}

static void trap_at(uint64_t rip)
{
    assert_true(notify(TL_TRAP_HWBKPT, 0, rip, 0));
}

/* The next event: of which spot, and its slots. */
static void expect(uint32_t spot, int64_t old, int64_t new, uint64_t how)
{
    struct tl_lane *lane = NULL;
    for (unsigned i = 0; i < LANES && !(lane && lane->head); i++)
        lane = (struct tl_lane *)(void *)area.lanes[i];
    assert_true(lane->head > seen);
    const uint8_t *ring = (const uint8_t *)lane->counts_and_ring + 64;
    const struct tl_event *event = (const struct tl_event *)(const void *)(ring + seen);
    const uint64_t *value = (const uint64_t *)(const void *)(event + 1);
    assert_int_equal(event->probe, spot);
    assert_int_equal(event->site, spot);
    assert_int_equal(event->stored >> OLD & 1, old >= 0);
    assert_int_equal(event->stored >> NEW & 1, new >= 0);
    if (old >= 0)
        assert_int_equal(*value++, old);
    if (new >= 0)
        assert_int_equal(*value++, new);
    assert_int_equal(value[0], 0x1234);
    assert_int_equal(value[1], how);
    seen += event->size;
}

static void expect_nothing(void)
{
    for (unsigned i = 0; i < LANES; i++) {
        uint64_t head = ((struct tl_lane *)(void *)area.lanes[i])->head;
        assert_true(head == 0 || head == seen);
    }
}

static void changes_make_a_chain(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot(&memory.halves[1], 4, TL_SPOT_WRITES, true);
    memory.halves[0] = memory.halves[2] = 0xffffffff; /* neighbours in the same word do not show */
    for (uint32_t i = 0; i < 100; i++) {
        memory.halves[1] = i + 1;
        event_of(spot->tag);
        expect(0, i, i + 1, 0);
    }
    event_of(spot->tag);
    expect_nothing();
    assert_int_equal(spot->hits, 101);
    assert_int_equal(spot->reports, 100);
}

static void every_length_is_read_alone(void **state)
{
    (void)state;
    static const int64_t seen_of[] = {0x11, 0x2211, 0x44332211, 0x7877665544332211};
    memory.words[8] = 0x7877665544332211;
    for (uint8_t i = 0; i < SPOTS; i++) {
        event_of(add_spot(&memory.words[8], (uint8_t)(1 << i), TL_SPOT_WRITES, true)->tag);
        expect(i, 0, seen_of[i], 0);
    }
}

static void all_writes_are_told_if_wanted(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, false);
    event_of(spot->tag);
    expect(0, 0, 0, 0);
    memory.words[0] = 5;
    event_of(spot->tag);
    expect(0, 0, 5, 0);
}

static void an_unknown_value_is_no_value(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, true);
    spot->known = 0;
    event_of(spot->tag);
    expect(0, -1, 0, 0);
    memory.words[0] = 1;
    event_of(spot->tag);
    expect(0, 0, 1, 0);
}

static void reads_do_not_read(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot(&memory.words[0], 8, TL_SPOT_READS | TL_SPOT_WRITES, false);
    memory.words[0] = 7;
    event_of(spot->tag);
    expect(0, 0, 7, 0);
    assert_int_equal(area.table.reads, TL_SPOT_READS); /* by the kernel, then: no signal comes of it */
}

static void one_instruction_writes_two_spots(void **state)
{
    (void)state;
    struct tl_watch_spot *one = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, true);
    add_spot(&memory.words[1], 8, TL_SPOT_WRITES, false);
    add_spot(&memory.words[12], 8, TL_SPOT_WRITES, true); /* too far away */
    memory.words[0] = memory.words[1] = memory.words[12] = 3;
    event_of(one->tag);
    expect(0, 0, 3, 0);
    expect(1, 0, 3, TL_WATCHED_BESIDE);
    expect_nothing();
}

static void what_was_told_beside_is_claimed_once(void **state)
{
    (void)state;
    struct tl_watch_spot *one = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, true);
    struct tl_watch_spot *two = add_spot(&memory.words[1], 8, TL_SPOT_WRITES, true);
    memory.words[0] = 1;
    memory.words[1] = 2;
    event_of(one->tag);
    expect(0, 0, 1, 0);
    expect(1, 0, 2, TL_WATCHED_BESIDE);
    event_of(two->tag);
    expect(1, 0, 2, TL_WATCHED_CLAIM);
    event_of(two->tag);
    expect_nothing();
}

static void signals_of_earlier_turns_are_swallowed(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, false);
    uint64_t old = spot->tag;
    spot->tag = tl_watch_tag(2, 0);
    memory.words[0] = 1;
    event_of(old);
    event_of(tl_watch_tag(1, 7));                  /* no such spot */
    event_of(tl_watch_tag(1, TL_WATCH_SPOTS + 7)); /* nor this */
    expect_nothing();
    assert_int_equal(area.table.stale, 3);
    assert_int_equal(spot->hits, 0);
}

static void the_address_tells_when_a_register_is_just_moved(void **state)
{
    (void)state;
    struct tl_watch_spot *old = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, false);
    struct tl_watch_spot *new = add_spot(&memory.words[12], 8, TL_SPOT_WRITES, false);
    memory.words[0] = 1;
    elsewhere = old->addr;
    event_of(new->tag);
    expect(0, 0, 1, 0);
    old->tag = 0;
    event_of(new->tag);
    expect_nothing();
    assert_int_equal(old->hits, 1);
    assert_int_equal(new->hits, 0);
    assert_int_equal(area.table.stale, 1);
}

static void late_signals_are_marked(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, true);
    memory.words[0] = 1;
    assert_true(notify(TL_TRAP_PERF, spot->tag, 0x1234, ASYNC));
    expect(0, 0, 1, TL_WATCHED_LATE);
    assert_int_equal(spot->late, 1);
}

static void what_is_executed_has_no_value(void **state)
{
    (void)state;
    struct tl_watch_spot *spot = add_spot((void *)(uintptr_t)0x1234, 1, TL_SPOT_EXECUTES, true);
    event_of(spot->tag);
    expect(0, -1, -1, 0);
    event_of(spot->tag);
    expect(0, -1, -1, 0);
}

static void others_signals_are_left_alone(void **state)
{
    (void)state;
    add_spot(&memory.words[0], 8, TL_SPOT_WRITES, false);
    assert_false(notify(TL_TRAP_PERF, 0, 0x1234, 0));
    assert_false(notify(TL_TRAP_PERF, 0x123456789abcdef, 0x1234, 0));
    assert_false(notify(TL_TRAP_HWBKPT, 0, 0x1234, 0)); /* not by registers */
    assert_false(notify(TL_TRAP_TRACE, 0, 0x1234, 0));
    expect_nothing();
    struct tl_signal_frame frame = {.info = {.number = TL_SIGTRAP, .code = TL_TRAP_PERF, .rest = {tl_watch_tag(1, 0)}}};
    struct tl_notification note = {.exception = TL_EXCEPTION_BREAKPOINT, .frame = &frame};
    assert_false(tl_watch_notify(&area.table, &note));
}

static void what_the_runtime_does_itself_is_not_told(void **state)
{
    (void)state;
    static struct {
        struct tl_broker_tables head;
        struct tl_trap_range range;
        struct tl_trap_memory memory;
    } tables = {.range = {.start = 0x5010, .end = 0x5020, .addr = 0x1231, .length = 3}, .memory = {0x5000, 0x6000}};
    tables.head = (struct tl_broker_tables){.range_count = 1,
                                            .memory_count = 1,
                                            .ranges = (uint64_t)((char *)&tables.range - (char *)&tables),
                                            .memory = (uint64_t)((char *)&tables.memory - (char *)&tables)};
    tl_broker_publish(&broker, (uint64_t)(uintptr_t)&tables);
    struct tl_watch_spot *spot = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, false);
    assert_true(notify(TL_TRAP_PERF, spot->tag, 0x5678, 0));
    expect_nothing();
    assert_int_equal(spot->own, 1);
    /* Behind a displaced copy it is the program, behind its own instruction. */
    assert_true(notify(TL_TRAP_PERF, spot->tag, 0x5020, 0));
    expect(0, 0, 0, 0);
    assert_int_equal(spot->own, 1);
}

static void registers_do_not_say_which(void **state)
{
    (void)state;
    area.table.means = TL_WATCH_BY_REGISTERS;
    struct tl_watch_spot *one = add_spot(&memory.words[0], 8, TL_SPOT_WRITES, true);
    memory.words[0] = 1;
    trap_at(0x1234);
    expect(0, 0, 1, 0); /* the only one */
    assert_int_equal(one->hits, 1);
    add_spot(&memory.words[12], 8, TL_SPOT_WRITES, false);
    memory.words[12] = 2;
    trap_at(0x1234);
    expect(1, 0, 2, TL_WATCHED_BESIDE);
    memory.words[0] = 3;
    trap_at(0x1234);
    expect(0, 1, 3, TL_WATCHED_BESIDE);
    /* Nothing has changed: both may have told of somebody else's. */
    trap_at(0x1234);
    expect(0, 1, 3, TL_WATCHED_CLAIM | TL_WATCHED_GUESS);
    expect(1, 0, 2, TL_WATCHED_CLAIM | TL_WATCHED_GUESS);
    trap_at(0x1234);
    expect(1, 2, 2, TL_WATCHED_GUESS); /* of the other one only changes are wanted */
    expect_nothing();
    add_spot((void *)(uintptr_t)0x1234, 1, TL_SPOT_EXECUTES, true);
    trap_at(0x1234);
    expect(2, -1, -1, 0);
    expect_nothing();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(changes_make_a_chain, begin),
        cmocka_unit_test_setup(every_length_is_read_alone, begin),
        cmocka_unit_test_setup(all_writes_are_told_if_wanted, begin),
        cmocka_unit_test_setup(an_unknown_value_is_no_value, begin),
        cmocka_unit_test_setup(reads_do_not_read, begin),
        cmocka_unit_test_setup(one_instruction_writes_two_spots, begin),
        cmocka_unit_test_setup(what_was_told_beside_is_claimed_once, begin),
        cmocka_unit_test_setup(signals_of_earlier_turns_are_swallowed, begin),
        cmocka_unit_test_setup(the_address_tells_when_a_register_is_just_moved, begin),
        cmocka_unit_test_setup(late_signals_are_marked, begin),
        cmocka_unit_test_setup(what_is_executed_has_no_value, begin),
        cmocka_unit_test_setup(others_signals_are_left_alone, begin),
        cmocka_unit_test_setup(what_the_runtime_does_itself_is_not_told, begin),
        cmocka_unit_test_setup(registers_do_not_say_which, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
