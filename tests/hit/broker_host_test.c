/* SPDX-License-Identifier: MIT
 *
 * What hosts do with the broker's state: tables that may be hostile, actions and threads taken over and given back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hit/broker.h"

enum { TRAPS = 20, RANGES = 10, MARKS = 30, MEMORY = 3, ROUNDS = 200000 };

struct image {
    struct tl_broker_tables head;
    struct tl_trap traps[TRAPS];
    struct tl_trap_range ranges[RANGES];
    struct tl_mark marks[MARKS];
    struct tl_trap_memory memory[MEMORY];
};

static struct image make(void)
{
    struct image image = {.head = {.magic = TL_BROKER_TABLES_MAGIC,
                                   .size = sizeof image,
                                   .trap_count = TRAPS,
                                   .range_count = RANGES,
                                   .mark_count = MARKS,
                                   .memory_count = MEMORY,
                                   .traps = offsetof(struct image, traps),
                                   .ranges = offsetof(struct image, ranges),
                                   .marks = offsetof(struct image, marks),
                                   .memory = offsetof(struct image, memory)}};
    for (uint32_t i = 0; i < TRAPS; i++)
        image.traps[i] = (struct tl_trap){.addr = 0x1000 + 16 * i, .to = 0x100000 + i, .how = i % 3, .index = i};
    for (uint32_t i = 0; i < RANGES; i++)
        image.ranges[i] = (struct tl_trap_range){.start = 0x100000 + 64 * i,
                                                 .end = 0x100000 + 64 * i + 20,
                                                 .addr = 0x1000 + 16 * i,
                                                 .first_mark = 3 * i,
                                                 .mark_count = 3,
                                                 .length = 5};
    for (uint32_t i = 0; i < MARKS; i++)
        image.marks[i] = (struct tl_mark){.at = (uint8_t)(i % 3 * 5),
                                          .state = (uint8_t)(i % 3 == 0   ? TL_MARK_BEFORE
                                                             : i % 3 == 1 ? TL_MARK_WITHIN
                                                                          : TL_MARK_AFTER),
                                          .borrowed = TL_NO_REG,
                                          .addr = 0x1000 + 16 * (i / 3) + (i % 3 == 2 ? 5 : 0)};
    for (uint32_t i = 0; i < MEMORY; i++)
        image.memory[i] = (struct tl_trap_memory){0x100000 + 0x10000 * i, 0x101000 + 0x10000 * i};
    return image;
}

static void look_ups(void **unused)
{
    (void)unused;
    static struct image image;
    image = make();
    const struct tl_broker_tables *tables = &image.head;
    assert_int_equal(tl_broker_tables_verify(&image, sizeof image), 0);
    for (uint64_t addr = 0xff0; addr < 0x1200; addr++) {
        const struct tl_trap *trap = tl_trap_find(tables, addr);
        bool is_one = addr >= 0x1000 && addr < 0x1000 + 16 * TRAPS && addr % 16 == 0;
        assert_true(is_one ? trap && trap->addr == addr : !trap);
    }
    for (uint64_t addr = 0xfffff; addr < 0x100000 + 64 * RANGES; addr++) {
        const struct tl_trap_range *range = tl_trap_range_find(tables, addr);
        bool is_in = addr >= 0x100000 && addr % 64 < 20;
        assert_true(is_in ? range && range->start == (addr & ~63ull) : !range);
    }
    assert_true(tl_trap_is_ours(tables, 0x100000) && tl_trap_is_ours(tables, 0x120fff));
    assert_false(tl_trap_is_ours(tables, 0xfffff) || tl_trap_is_ours(tables, 0x101000) ||
                 tl_trap_is_ours(tables, UINT64_MAX));
    assert_null(tl_trap_find(NULL, 1));
    assert_null(tl_trap_range_find(NULL, 1));
    assert_false(tl_trap_is_ours(NULL, 1));
}

static void places_are_mapped_back(void **unused)
{
    (void)unused;
    static struct image image;
    image = make();
    const struct tl_trap_range *range = &image.ranges[2];
    uint64_t stack[2] = {0x77, 0x88};
    struct tl_context context = {.rip = range->start, .rsp = (uintptr_t)stack, .rcx = 1};
    assert_true(tl_trap_map_back(&image.head, range, &context));
    assert_int_equal(context.rip, 0x1020);
    context.rip = range->start + 10;
    assert_true(tl_trap_map_back(&image.head, range, &context));
    assert_int_equal(context.rip, 0x1025);
    assert_int_equal(context.rcx, 1);
    image.ranges[2].flags = TL_RANGE_SYSCALL;
    context.rip = range->start + 10;
    assert_true(tl_trap_map_back(&image.head, range, &context));
    assert_int_equal(context.rcx, 0x1025);
    /* In the middle: only where it can be undone. */
    context.rip = range->start + 5;
    assert_false(tl_trap_map_back(&image.head, range, &context));
    assert_int_equal(context.rip, range->start + 5);
    for (uint8_t number = 0; number < 16; number++) {
        context = (struct tl_context){.rip = range->start + 5, .rsp = (uintptr_t)stack};
        image.marks[7].unwind = 136;
        image.marks[7].borrowed = number;
        if (number == TL_RSP)
            continue;
        assert_true(tl_trap_map_back(&image.head, range, &context));
        assert_int_equal(context.rip, 0x1020);
        assert_int_equal(context.rsp, (uintptr_t)stack + 136);
        const uint64_t values[16] = {context.rax, context.rcx, context.rdx, context.rbx, 0,           context.rbp,
                                     context.rsi, context.rdi, context.r8,  context.r9,  context.r10, context.r11,
                                     context.r12, context.r13, context.r14, context.r15};
        for (unsigned i = 0; i < 16; i++)
            assert_int_equal(values[i], i == number ? 0x77 : 0);
    }
    context.rip = range->start + 1; /* no instruction begins here */
    assert_false(tl_trap_map_back(&image.head, range, &context));
}

/* Whatever is in an image that is accepted, looking things up in it stays inside. */
static void hostile_images(void **unused)
{
    (void)unused;
    uint64_t state = 1, accepted = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct image *image = malloc(sizeof *image);
        size_t size = sizeof *image;
        *image = make();
        for (int i = 0; i < 3; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            size_t within = state >> 63 ? sizeof image->head : sizeof *image;
            ((uint8_t *)image)[(state >> 33) % within] = (uint8_t)(state >> 20);
        }
        if (tl_broker_tables_verify(image, size) == 0) {
            accepted++;
            for (uint64_t addr = 0; addr < 40; addr++) {
                (void)tl_trap_find(&image->head, 0x1000 + 8 * addr);
                const struct tl_trap_range *range = tl_trap_range_find(&image->head, 0x100000 + 16 * addr);
                struct tl_context context = {.rip = 0x100000 + 5 * addr, .rsp = (uintptr_t)&context};
                if (range)
                    (void)tl_trap_map_back(&image->head, range, &context);
                (void)tl_trap_is_ours(&image->head, 0x100000 + 0x1000 * addr);
            }
        }
        free(image);
    }
    assert_in_range(accepted, ROUNDS / 100, ROUNDS / 2);
    assert_true(tl_broker_tables_verify("short", 5) < 0);
}

static struct tl_broker *broker;

static int setup(void **unused)
{
    (void)unused;
    const struct tl_broker_setup values = {.pid = 77, .entry = 0x1111, .pass = 0x2222, .restorer = 0x3333};
    broker = malloc(sizeof *broker);
    memset(broker, 0xa5, sizeof *broker);
    tl_broker_init(broker, &values);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    free(broker);
    return 0;
}

static void actions_go_and_come_back(void **unused)
{
    (void)unused;
    for (int number = 1; number <= TL_SIGNALS; number++)
        for (unsigned kind = 0; kind < 8; kind++) {
            const uint64_t masks[] = {0, TL_SIGNAL_BIT(TL_SIGTRAP), TL_SIGNAL_BIT(TL_SIGSEGV), ~(uint64_t)0};
            const struct tl_sigaction programs = {.handler = kind < 4 ? 0x4444 : kind % 2,
                                                  .flags = TL_SA_RESTORER | TL_SA_RESTART | TL_SA_RESETHAND,
                                                  .restorer = 0x5555,
                                                  .mask = masks[kind % 4]};
            bool is_ours = TL_THE_FIVE >> (number - 1) & 1;
            struct tl_sigaction kernels, back;
            broker->process.changed = 0;
            assert_int_equal(tl_broker_adopt_action(broker, number, &programs, &kernels), is_ours || kind < 4);
            if (is_ours) {
                assert_int_equal(kernels.handler, 0x1111);
                assert_int_equal(kernels.restorer, 0x3333);
                assert_int_equal(kernels.mask & TL_THE_FIVE, 0);
            } else {
                assert_int_equal(kernels.handler, kind < 4 ? 0x2222 : programs.handler);
                assert_true(programs.handler < 2 || !(kernels.mask & TL_SIGNAL_BIT(TL_SIGTRAP)));
            }
            assert_int_equal(tl_broker_restore_action(broker, number, &kernels, &back), is_ours || kind < 4);
            assert_memory_equal(&back, &programs, sizeof back);
        }
}

static void threads_and_what_waits_for_them(void **unused)
{
    (void)unused;
    struct tl_siginfo info;
    unsigned taken = 0;
    assert_int_equal(tl_broker_adopt_thread(broker, 0, 1, true), -EINVAL);
    for (uint64_t i = 1; i <= 1000; i++)
        assert_int_equal(tl_broker_adopt_thread(broker, 0x7f0000000000 + 0x801000 * i, (uint32_t)i, i % 2), 0);
    for (uint64_t i = 1; i <= 1000; i++)
        assert_int_equal(tl_broker_blocks_trap(broker, 0x7f0000000000 + 0x801000 * i), i % 2);
    assert_false(tl_broker_blocks_trap(broker, 0x1000));
    assert_false(tl_broker_pending(broker, 0, &info));
    assert_false(tl_broker_pending(broker, 0x7f0000801000, &info));
    tl_broker_thread(broker, 0x7f0000801000)->pending = 1;
    tl_broker_thread(broker, 0x7f0000801000)->info.number = TL_SIGTRAP;
    assert_true(tl_broker_pending(broker, 0x7f0000801000, &info));
    assert_int_equal(info.number, TL_SIGTRAP);
    for (uint64_t i = 1; i <= 4 * TL_BROKER_THREADS; i++)
        taken += tl_broker_adopt_thread(broker, 0x600000000000 + 64 * i, 1, true) == 0;
    assert_in_range(taken, TL_BROKER_THREADS / 2, TL_BROKER_THREADS - 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(look_ups),
        cmocka_unit_test(places_are_mapped_back),
        cmocka_unit_test(hostile_images),
        cmocka_unit_test_setup_teardown(actions_go_and_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_and_what_waits_for_them, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
