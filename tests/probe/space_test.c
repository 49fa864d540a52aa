/* SPDX-License-Identifier: MIT
 *
 * Free address space.
 *
 * - gaps are what areas and their margins leave, in any order and overlap
 * - a place near an address, above or below, and taken once
 * - ranges taken out of gaps
 * - areas at the ends of the number line
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "probe/space.h"

static const uint64_t lowest = 0x10000, highest = 0x7ffffffff000;

static void gaps_are_what_is_left(void **state)
{
    (void)state;
    const struct tl_area areas[] = {
        {0x500000, 0x600800, 0, 0x1000}, {0x200000, 0x300000, 0x10001, 0}, {0x280000, 0x290000, 0, 0}};
    struct tl_space space;
    uint64_t page;
    assert_int_equal(tl_space_init(&space, areas, 3, 1, lowest, highest), 0);
    assert_int_equal(space.count, 3);
    assert_int_equal(space.gaps[0].start, lowest);
    assert_int_equal(space.gaps[0].end, 0x1ef000);
    assert_int_equal(space.gaps[1].start, 0x300000);
    assert_int_equal(space.gaps[1].end, 0x500000);
    assert_int_equal(space.gaps[2].start, 0x602000);
    assert_int_equal(space.gaps[2].end, highest);
    assert_true(tl_space_is_free(&space, 0x300000, 0x500000));
    assert_false(tl_space_is_free(&space, 0x300000, 0x501000));
    assert_false(tl_space_is_free(&space, 0x2ff000, 0x301000));
    assert_true(tl_space_first_page(&space, 0x200000, 0x400000, &page) && page == 0x300000);
    assert_true(tl_space_last_page(&space, 0x200000, 0x600000, &page) && page == 0x4ff000);
    assert_false(tl_space_first_page(&space, 0x200000, 0x300000, &page));
    assert_false(tl_space_last_page(&space, 0x200000, 0x300000, &page));
    tl_space_free(&space);
    assert_int_equal(tl_space_init(&space, areas, 3, 16, lowest, highest), 0); /* margins yield */
    assert_true(tl_space_is_free(&space, 0x1fe000, 0x1ff000));
    assert_false(tl_space_is_free(&space, 0x1fe000, 0x200000));
    tl_space_free(&space);
}

static void places_near_are_taken_once(void **state)
{
    (void)state;
    const struct tl_area areas[] = {{0x400000, 0x500000, 0, 0}, {0x504000, 0x600000, 0, 0}};
    struct tl_space space;
    uint64_t addr;
    assert_int_equal(tl_space_init(&space, areas, 2, 1, lowest, highest), 0);
    assert_int_equal(tl_space_take_near(&space, 0x4f0000, 0x4000, 1 << 30, &addr), 0);
    assert_int_equal(addr, 0x500000);
    assert_int_equal(tl_space_take_near(&space, 0x4f0000, 0x4000, 1 << 30, &addr), 0);
    assert_int_equal(addr, 0x400000 - 0x4000);
    assert_int_equal(tl_space_take_near(&space, 0x5f0000, 0x4000, 1 << 30, &addr), 0);
    assert_int_equal(addr, 0x600000);
    assert_int_equal(tl_space_take_near(&space, 0x5f0000, 0x4000, 0x10000, &addr), -ENOSPC);
    assert_int_equal(tl_space_take_near(&space, 0x5f0000, 1ull << 47, UINT64_MAX, &addr), -ENOSPC);
    tl_space_free(&space);
}

static void ranges_are_taken(void **state)
{
    (void)state;
    struct tl_space space;
    assert_int_equal(tl_space_init(&space, NULL, 0, 1, lowest, highest), 0);
    for (uint64_t i = 0; i < 1000; i++) /* more gaps than there was room for */
        assert_int_equal(tl_space_take(&space, 0x100000 + i * 0x4000, 0x101000 + i * 0x4000), 0);
    assert_int_equal(space.count, 1001);
    assert_int_equal(tl_space_take(&space, 0x100000, 0x100000 + 1000 * 0x4000), 0);
    assert_int_equal(space.count, 2);
    assert_int_equal(tl_space_take(&space, 0, UINT64_MAX), 0);
    assert_int_equal(space.count, 0);
    tl_space_free(&space);
}

static void the_ends_of_the_number_line(void **state)
{
    (void)state;
    const struct tl_area areas[] = {{0, 0x20000, UINT64_MAX, 0}, {UINT64_MAX - 100, UINT64_MAX, 0, UINT64_MAX}};
    struct tl_space space;
    assert_int_equal(tl_space_init(&space, areas, 2, 1, lowest, highest), 0);
    assert_int_equal(space.count, 1);
    assert_int_equal(space.gaps[0].start, 0x20000);
    assert_int_equal(space.gaps[0].end, highest);
    assert_false(tl_space_is_free(&space, UINT64_MAX - 10, 5));
    tl_space_free(&space);
    const struct tl_area all = {0x100000000, 0x100001000, UINT64_MAX, UINT64_MAX};
    assert_int_equal(tl_space_init(&space, &all, 1, 1, lowest, highest), 0);
    assert_int_equal(space.count, 0);
    tl_space_free(&space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_what_is_left),
        cmocka_unit_test(places_near_are_taken_once),
        cmocka_unit_test(ranges_are_taken),
        cmocka_unit_test(the_ends_of_the_number_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
