/* SPDX-License-Identifier: MIT
 *
 * Events that take registers and a piece of the stack with them: as much as can be read, wherever the ring ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

#include "hit/runtime.h"
#include "world.h"

enum { PAGE = 4096, RING = 8192, STACK = 3000, FIXED = sizeof(struct tl_event), REGS = sizeof(struct tl_hit_regs) };

static struct world world;
static const struct tl_operation program[] = {
    {.op = TL_OP_REG, .a = TL_RDI}, {.op = TL_OP_STORE, .a = 3}, {.op = TL_OP_END}};
static struct tl_hit_action actions[] = {{.probe = 1, .kind = TL_ACTION_EVENT, .stack_bytes = STACK, .operations = 3},
                                         {.probe = 0, .kind = TL_ACTION_EVENT, .operations = 3}};
static const struct tl_hit_site sites[] = {{.addr = 0x1234, .first_action = 0, .action_count = 1},
                                           {.addr = 0x5678, .first_action = 0, .action_count = 2}};
static uint8_t event_bytes[RING];

static int set_up(void **unused)
{
    (void)unused;
    world = world_make(&(struct world_shape){.probes = 2,
                                             .ring_bytes = RING,
                                             .sites = sites,
                                             .site_count = 2,
                                             .actions = actions,
                                             .action_count = 2,
                                             .operations = program,
                                             .operation_count = 3});
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    world_free(&world);
    return 0;
}

/* A hit with its stack pointer there. */
static void hit(uint32_t site, const uint8_t *rsp, struct tl_hit_regs *regs)
{
    for (unsigned i = 0; i < TL_REG_COUNT; i++)
        regs->r[i] = 0xabc00 + i;
    regs->r[TL_RSP] = (uintptr_t)rsp;
    tl_hit(world.area, regs, site);
}

/* The next event has a stack: `size` bytes from the red zone below `rsp` on. */
static void check_event(const struct tl_hit_regs *regs, uint64_t size)
{
    const struct tl_event *event = (const struct tl_event *)(void *)event_bytes;
    uint64_t words = (size + 7) / 8 * 8, said;
    assert_int_equal(world_take(&world, event_bytes, sizeof(event_bytes)), FIXED + 8 + REGS + words + 8);
    assert_int_equal(event->probe, 1 | TL_EVENT_STACK);
    assert_int_equal(event->stored, 1 << 3);
    memcpy(&said, event_bytes + FIXED, 8);
    assert_int_equal(said, regs->r[TL_RDI]);
    assert_memory_equal(event_bytes + FIXED + 8, regs, REGS);
    if (size)
        assert_memory_equal(event_bytes + FIXED + 8 + REGS, (uint8_t *)regs->r[TL_RSP] - TL_RED_ZONE, size);
    memcpy(&said, event_bytes + event->size - 8, 8);
    assert_int_equal(said, size);
}

static void a_stack_comes_out_as_it_was(void **unused)
{
    (void)unused;
    uint8_t stack[TL_RED_ZONE + STACK];
    struct tl_hit_regs regs;
    /* At all places of the ring: the sizes have no common factor but 8. */
    for (unsigned i = 0; i < 4096; i++) {
        for (size_t j = 0; j < sizeof(stack); j++)
            stack[j] = (uint8_t)(j * 7 + i);
        hit(0, stack + TL_RED_ZONE, &regs);
        assert_int_equal(regs.r[TL_RIP], 0x1234);
        check_event(&regs, STACK);
    }
    assert_int_equal(world_lost(&world), 0);
}

static void reading_ends_where_the_stack_ends(void **unused)
{
    (void)unused;
    uint8_t *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct tl_hit_regs regs;
    assert_ptr_not_equal(pages, MAP_FAILED);
    for (int i = 0; i < 2 * PAGE; i++)
        pages[i] = (uint8_t)(i * 5);
    mprotect(pages + 2 * PAGE, PAGE, PROT_NONE);
    const uint64_t sizes[] = {STACK, 2999, 2001, 1000, 800, 129, 8, 1, 0};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        hit(0, pages + 2 * PAGE - sizes[i] + TL_RED_ZONE, &regs);
        check_event(&regs, sizes[i]);
    }
    munmap(pages, 3 * PAGE);
}

static void without_memory_there_are_registers(void **unused)
{
    (void)unused;
    uint8_t stack[64] = {1};
    struct tl_hit_regs regs;
    world.area->flags |= TL_HIT_NO_MEMORY;
    hit(0, stack, &regs);
    check_event(&regs, 0);
    world.area->flags &= ~(uint32_t)TL_HIT_NO_MEMORY;
    hit(0, NULL, &regs);
    check_event(&regs, 0);
}

static void only_actions_that_ask_for_it_take_the_stack(void **unused)
{
    (void)unused;
    uint8_t stack[TL_RED_ZONE + STACK] = {9};
    struct tl_event event;
    struct tl_hit_regs regs;
    hit(1, stack + TL_RED_ZONE, &regs);
    check_event(&regs, STACK);
    assert_int_equal(world_take(&world, &event, sizeof(event)), FIXED + 8);
    assert_int_equal(event.probe, 0);
}

static void what_has_no_room_is_lost_and_counted(void **unused)
{
    (void)unused;
    uint8_t stack[TL_RED_ZONE + STACK] = {0};
    struct tl_hit_regs regs;
    for (int i = 0; i < 10; i++)
        hit(0, stack + TL_RED_ZONE, &regs);
    check_event(&regs, STACK);
    check_event(&regs, STACK);
    assert_int_equal(world_drain(&world), 0);
    assert_int_equal(world_lost(&world), 8);
}

/* Through a hook, on the real stack: the word below which the stack pointer stood is the return address. */
static void a_call_leaves_its_way_back_on_the_stack(void **unused)
{
    (void)unused;
    world_function(&world, TL_HOOK_ENTER, 0)();
    const struct tl_event *event = (const struct tl_event *)(void *)event_bytes;
    struct tl_hit_regs regs;
    uint64_t back;
    assert_true(world_take(&world, event_bytes, sizeof(event_bytes)) > FIXED + 8 + REGS + TL_RED_ZONE + 8);
    assert_int_equal(event->probe, 1 | TL_EVENT_STACK);
    memcpy(&regs, event_bytes + FIXED + 8, REGS);
    memcpy(&back, event_bytes + FIXED + 8 + REGS + TL_RED_ZONE, 8);
    uint64_t here = (uintptr_t)a_call_leaves_its_way_back_on_the_stack;
    assert_in_range(back, here, here + 1024);
    assert_in_range(regs.r[TL_RSP], (uintptr_t)&back - 4096, (uintptr_t)&back + 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stack_comes_out_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reading_ends_where_the_stack_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_there_are_registers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_actions_that_ask_for_it_take_the_stack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_no_room_is_lost_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_call_leaves_its_way_back_on_the_stack, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
