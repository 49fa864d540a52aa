/* SPDX-License-Identifier: MIT
 *
 * Sites whose jumps share bytes, stubs that get in each other's way, and breakpoints of others. What must hold of every
 * plan (check.h) is seen to by kit_plan; here is what the planner must manage.
 *
 * - every instruction of a prologue at once, in a program with room on both sides
 * - a jump that its neighbour's leads nowhere has the neighbour placed otherwise
 * - stubs that would come down one byte apart
 * - stubs that would overlap
 * - breakpoints on the instructions behind are guarded against, and on a neighbouring site too
 * - a breakpoint that stands there already may go
 * - guards that cannot be had do not cost the site
 * - few mappings: the sites that need none, or share one, are taken, and the others told why
 */
#include "kit.h"

#include <stdio.h>
#include <string.h>

static const uint64_t pie = 0x555555554000, fixed = 0x401000;

static void all_of_a_prologue(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie,
              "41 57 41 56 41 55 41 54 55 53 48 83 ec 18 48 89 fb 31 c0 50 51 52 53 c3 0f 1f 44 00 00 0f 1f 44 00 00");
    kit_sites(&kit);
    kit.options.guard_breakpoints = true;
    kit_plan(&kit);
    assert_int_equal(kit.planned.plan.refused, 0);
    assert_int_equal(kit.planned.plan.guarded, kit.planned.site_count);
    kit_end(&kit);
}

/* In a program that is not position independent the highest byte of a jump must be small. That of `mov eax, ebx` in
 * front is the third byte of the jump of `sub`, which is a byte of its own to choose. */
static void a_neighbour_gives_way(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, fixed, "89 d8 48 83 ec 18 7f 00 90 90");
    kit_area(&kit, fixed + 0x100000, fixed + 0x10000000, 0, 0x30000000);
    const struct tl_site *low = kit_site(&kit, 0), *high = kit_site(&kit, 2);
    kit_plan(&kit);
    assert_int_equal(high->why, TL_WHY_NONE);
    assert_int_equal(low->why, TL_WHY_NONE);
    kit_end(&kit);
}

/* Two one-byte instructions far apart, whose jumps are made to come down at addresses `distance` apart. */
static void stubs_apart(unsigned distance)
{
    struct kit kit;
    char hex[80];
    /* The second is 16 bytes on: its rel32 is smaller by as much, and by the distance. */
    snprintf(hex, sizeof hex, "90 60 00 00 40 c3 c3 c3 c3 c3 c3 c3 c3 c3 c3 c3 90 %02x 00 00 40 c3", 0x50 - distance);
    kit_begin(&kit, pie, hex);
    const struct tl_site *first = kit_site(&kit, 0), *second = kit_site(&kit, 16);
    kit_plan(&kit);
    assert_int_equal(first->why, TL_WHY_NONE);
    assert_int_equal(second->why, TL_WHY_NONE);
    assert_int_equal(kit_landing(&kit, first) - kit_landing(&kit, second), distance);
    kit_end(&kit);
}

static void stubs_one_byte_apart(void **state)
{
    (void)state;
    stubs_apart(1);
}

static void stubs_that_would_overlap(void **state)
{
    (void)state;
    for (unsigned distance = 2; distance < 6; distance++)
        stubs_apart(distance);
}

static void breakpoints_behind_are_guarded_against(void **state)
{
    (void)state;
    struct kit kit;
    kit.options.guard_breakpoints = true;
    kit_begin(&kit, pie, "53 50 51 52 56 57 c3"); /* four starts behind the first: 15 variants */
    kit.options.guard_breakpoints = true;
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_true(site->guarded);
    kit_end(&kit);
    kit_begin(&kit, pie, "53 50 51 52 56 57 c3 90 90 90");
    kit.options.guard_breakpoints = true;
    const struct tl_site *low = kit_site(&kit, 0), *high = kit_site(&kit, 2);
    kit_plan(&kit);
    assert_true(low->guarded);
    assert_true(high->guarded);
    kit_end(&kit);
}

static void a_breakpoint_may_go(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "55 cc 89 e5 41 57");
    struct tl_site *site = kit_site(&kit, 0);
    site->foreign = 1u << 1;
    site->original[1] = 0x48;
    kit.options.guard_breakpoints = true;
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_true(site->guarded);
    struct tl_plan_write write = *kit_write(&kit, site);
    uint8_t bytes[KIT_BYTES];
    memcpy(bytes, kit.bytes, kit.text.size);
    bytes[0] = write.new_bytes[0];
    assert_int_equal(follow(&kit.planned, bytes, pie, site->trampoline), site->trampoline);
    bytes[1] = 0x48;
    assert_int_equal(follow(&kit.planned, bytes, pie, site->trampoline), site->trampoline);
    kit_end(&kit);
}

static void guards_are_best_effort(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, fixed, "55 48 89 e5 41 57"); /* a breakpoint instead of 41 would lead below */
    kit.options.guard_breakpoints = true;
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_false(site->guarded);
    kit_end(&kit);
}

static void mappings_run_out(void **state)
{
    (void)state;
    struct kit kit;
    /* Two that come down on one page, one elsewhere, and one that needs no landing. */
    kit_begin(&kit, pie, "90 60 00 00 40 c3 90 70 00 00 40 c3 90 00 00 00 50 c3 b8 01 02 03 04");
    const struct tl_site *one = kit_site(&kit, 0), *two = kit_site(&kit, 6), *other = kit_site(&kit, 12),
                         *whole = kit_site(&kit, 18);
    for (size_t most = 0; most < 6; most++) {
        kit.options.max_mappings = most;
        kit_plan(&kit);
        assert_true(kit.planned.plan.map_count + kit.planned.plan.gate_count <= most);
        assert_int_equal(whole->why, most < 2 ? TL_WHY_MAPPINGS : TL_WHY_NONE);
        assert_int_equal(other->why == TL_WHY_NONE, most > 3);
        assert_int_equal(one->why, most < 3 ? TL_WHY_MAPPINGS : TL_WHY_NONE);
        assert_int_equal(two->why, one->why);
    }
    kit_end(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_a_prologue),
        cmocka_unit_test(a_neighbour_gives_way),
        cmocka_unit_test(stubs_one_byte_apart),
        cmocka_unit_test(stubs_that_would_overlap),
        cmocka_unit_test(breakpoints_behind_are_guarded_against),
        cmocka_unit_test(a_breakpoint_may_go),
        cmocka_unit_test(guards_are_best_effort),
        cmocka_unit_test(mappings_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
