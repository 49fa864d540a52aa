/* SPDX-License-Identifier: MIT
 *
 * One site.
 *
 * - an instruction of five bytes gets its jump in place, and the bytes behind the jump stay
 * - a long no-op is called a no-op
 * - a short one's jump ends in the bytes that follow
 * - of the places within its choice it takes one that is free, and keeps clear of what grows
 * - where the fixed bytes lead nowhere, prefixes shift them
 * - an instruction across two pages is changed in the first only
 * - one that somebody jumps into the middle of is changed in front of that only
 * - text that is not known is not relied on
 * - a trampoline out of reach of the landing is reached by a long jump
 * - a branch probed on its taken edge
 * - only the tactics allowed are used, and the reasons are told
 * - what cannot be a site is refused alone
 */
#include "kit.h"

#include <errno.h>
#include <string.h>

static const uint64_t pie = 0x555555554000, fixed = 0x401000;

static void a_long_instruction_is_jumped_from_in_place(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "48 8b 05 11 22 33 00 c3");
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_int_equal(site->tactic, TL_TACTIC_JUMP);
    assert_int_equal(kit_write(&kit, site)->length, 5);
    assert_int_equal(kit_landing(&kit, site), site->trampoline);
    assert_int_equal(kit.planned.plan.map_count, 1);
    assert_int_equal(kit.planned.plan.gate_count, 1);
    assert_int_equal(site->hook.gate, kit.planned.plan.gates[0].addr);
    assert_true(site->guarded);
    kit_end(&kit);
}

static void a_long_nop_is_called_one(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "0f 1f 44 00 00 66 2e 0f 1f 84 00 00 00 00 00 0f 1f 40 00 48 89 c3 90");
    const struct tl_site *five = kit_site(&kit, 0), *ten = kit_site(&kit, 5), *four = kit_site(&kit, 15);
    kit_plan(&kit);
    assert_int_equal(five->tactic, TL_TACTIC_NOP);
    assert_int_equal(ten->tactic, TL_TACTIC_NOP);
    assert_int_equal(four->tactic, TL_TACTIC_PUNNED);
    kit.options.tactics = 1u << TL_TACTIC_JUMP;
    kit_plan(&kit);
    assert_int_equal(five->tactic, TL_TACTIC_JUMP);
    assert_int_equal(four->why, TL_WHY_TACTIC);
    kit_end(&kit);
}

static void a_short_instruction_is_punned(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "55 48 89 e5 41 57");
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->tactic, TL_TACTIC_PUNNED);
    assert_int_equal(site->not_better, TL_WHY_TACTIC);
    assert_int_equal(kit_write(&kit, site)->length, 1);
    assert_int_equal(kit_landing(&kit, site), pie + 5 + 0x41e58948);
    assert_false(site->guarded);
    kit_end(&kit);
}

static void free_bytes_are_chosen(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "48 89 e5 41 57 41 56");
    uint64_t window = pie + 5 + 0x57410000;
    kit_area(&kit, window + 0x2000, window + 0x8000, 0x3000, 0);
    kit_area(&kit, window + 0x8000, window + 0x9000, 0, 0x6000);
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit); /* the check sees to the areas and their margins */
    uint64_t landing = kit_landing(&kit, site);
    assert_true(landing >= window + 0xf000 - PAGE_BYTES && landing < window + 0x10000);
    kit_end(&kit);
}

static void prefixes_shift_what_is_fixed(void **state)
{
    (void)state;
    struct kit kit;
    /* Not position independent, so that nothing is below: 85… and ff… lead there, the 41 behind them does not. */
    kit_begin(&kit, fixed, "48 89 e5 ff 85 41 56");
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->tactic, TL_TACTIC_PUNNED);
    assert_true(kit_landing(&kit, site) - (fixed + 6 + 0x4185ff00) < 256);
    assert_int_equal(kit_write(&kit, site)->new_bytes[1], 0xe9);
    kit_end(&kit);
}

static void across_pages_the_first_is_changed_only(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie + PAGE_BYTES - 3, "48 8b 05 11 22 33 00 c3 90 90");
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit); /* the check sees to the write */
    assert_int_equal(site->tactic, TL_TACTIC_PUNNED);
    assert_int_equal(site->not_better, TL_WHY_PAGE_CROSSING);
    kit_end(&kit);

    kit_begin(&kit, pie + PAGE_BYTES - 1, "48 8b 05 00 00 00 00 c3 90 90");
    kit_area(&kit, pie + 0x00058b00 / PAGE_BYTES * PAGE_BYTES, pie + 0x00060000, 0, 0);
    site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_PAGE_CROSSING);
    kit_end(&kit);
}

static void a_start_inside_is_kept(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "f0 48 0f b1 15 11 22 33 00 c3"); /* lock cmpxchg, jumped to behind the lock */
    struct tl_site *site = kit_site(&kit, 0);
    site->boundaries |= 1u << 1;
    kit_plan(&kit);
    assert_int_equal(site->tactic, TL_TACTIC_PUNNED);
    assert_int_equal(kit_write(&kit, site)->length, 1);
    kit_end(&kit);
}

static void unknown_text_is_not_relied_on(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "55 48 89 e5");
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NO_ROOM);
    assert_int_equal(kit.planned.plan.refused, 1);
    assert_int_equal(kit.planned.plan.map_count + kit.planned.plan.gate_count + kit.planned.plan.pool_size, 0);
    kit_end(&kit);
}

static void far_trampolines_are_reached(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "55 f8 ff ff 7f"); /* comes down close to 2 GiB above… */
    kit_area(&kit, pie + PAGE_BYTES, pie + 0x70000000, 0, 0);
    kit_area(&kit, pie - 0x08000000, pie, 0, 0); /* …and trampolines are below */
    kit_area(&kit, pie + 0x70000000, pie + 0x7ffff000, 0, 0);
    const struct tl_site *site = kit_site(&kit, 0);
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_true(site->trampoline < pie - 0x08000000);
    assert_true(kit_landing(&kit, site) - site->trampoline > INT32_MAX);
    kit_end(&kit);
}

static void the_taken_edge_is_probed(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "0f 84 11 22 00 00 c3");
    struct tl_site *site = kit_site(&kit, 0);
    site->mode = TL_SITE_TAKEN;
    site->hook = (struct tl_hook){.kind = TL_HOOK_ENTER, .index = 3};
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    assert_int_equal(site->copy_at, 0);
    struct tl_insn insn;
    const uint8_t *last = kit.planned.plan.pool + site->trampoline_size - 5;
    assert_int_equal(tl_insn_decode(last, 5, site->trampoline + site->trampoline_size - 5, &insn), 0);
    assert_int_equal(insn.target, pie + 6 + 0x2211);
    kit_end(&kit);

    kit_begin(&kit, pie, "e9 11 22 00 00 c3");
    site = kit_site(&kit, 0);
    site->mode = TL_SITE_TAKEN;
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_TACTIC);
    kit_end(&kit);
}

static void only_what_is_allowed_is_used(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "48 8b 05 11 22 33 00 48 89 c3 48 89 c3 90 90");
    const struct tl_site *wide = kit_site(&kit, 0), *narrow = kit_site(&kit, 7);
    kit.options.tactics = 1u << TL_TACTIC_PUNNED;
    kit_plan(&kit);
    assert_int_equal(wide->tactic, TL_TACTIC_PUNNED);
    assert_int_equal(narrow->tactic, TL_TACTIC_PUNNED);
    kit.options.tactics = 1u << TL_TACTIC_INT3;
    kit_plan(&kit);
    assert_int_equal(wide->tactic, TL_TACTIC_INT3);
    assert_int_equal(narrow->tactic, TL_TACTIC_INT3);
    assert_int_equal(wide->not_better, TL_WHY_TACTIC);
    kit.options.tactics = 1u << TL_TACTIC_WINDOW;
    kit_plan(&kit);
    assert_int_equal(wide->why, TL_WHY_TACTIC);
    assert_int_equal(narrow->why, TL_WHY_TACTIC);
    kit_end(&kit);
}

static void what_is_wrong_is_refused_alone(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "06 90 90 90 cc 90 90 90 48 8b 05 11 22 33 00 c3 90 90");
    const struct tl_site *invalid = kit_site(&kit, 0), *trap = kit_site(&kit, 4), *inside = kit_site(&kit, 9),
                         *fine = kit_site(&kit, 8);
    kit_plan(&kit); /* sorts: `inside` and `fine` change places */
    assert_int_equal(invalid->why, TL_WHY_UNDECODABLE);
    assert_int_equal(trap->why, TL_WHY_TRAP_INSN);
    assert_int_equal(inside->why, TL_WHY_NONE);
    assert_int_equal(fine->why, TL_WHY_NOT_BOUNDARY);
    kit_site(&kit, 8);
    struct tl_plan plan;
    assert_int_equal(tl_plan_build(kit.sites, kit.planned.site_count, kit.areas, 1, &kit.options, &plan), -EINVAL);
    kit_end(&kit);
}

static void nothing_is_a_plan_too(void **state)
{
    (void)state;
    struct tl_plan_options options = {.max_mappings = 10};
    struct tl_plan plan;
    assert_int_equal(tl_plan_build(NULL, 0, NULL, 0, &options, &plan), 0);
    assert_int_equal(plan.map_count + plan.gate_count + plan.write_count + plan.pool_size, 0);
    tl_plan_free(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_instruction_is_jumped_from_in_place),
        cmocka_unit_test(a_long_nop_is_called_one),
        cmocka_unit_test(a_short_instruction_is_punned),
        cmocka_unit_test(free_bytes_are_chosen),
        cmocka_unit_test(prefixes_shift_what_is_fixed),
        cmocka_unit_test(across_pages_the_first_is_changed_only),
        cmocka_unit_test(a_start_inside_is_kept),
        cmocka_unit_test(unknown_text_is_not_relied_on),
        cmocka_unit_test(far_trampolines_are_reached),
        cmocka_unit_test(the_taken_edge_is_probed),
        cmocka_unit_test(only_what_is_allowed_is_used),
        cmocka_unit_test(what_is_wrong_is_refused_alone),
        cmocka_unit_test(nothing_is_a_plan_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
