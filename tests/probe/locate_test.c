/* SPDX-License-Identifier: MIT
 *
 * Where a thread that is found in a plan's memory belongs.
 *
 * - outside of the plan's memory nowhere; in a hook it has to run on
 * - at the beginning of a trampoline or of its copy, at the site; behind the copy's instruction, behind the site
 * - behind a displaced syscall, behind the site, and rcx has to say so
 * - in a trampoline that copies more than one instruction, at each of them; and on either stub, at the site
 * - on a stub of any form, at the site; inside of one, nowhere that it could have got to
 * - on the taken edge of a branch, at its target
 * - wherever it is, at a place that its site has something to do with
 */
#include "kit.h"

#include <errno.h>

static const uint64_t pie = 0x555555554000, nowhere = 1;

static int locate(const struct kit *kit, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    *original = nowhere;
    *fix_rcx = -1;
    return tl_plan_locate(kit->sites, kit->planned.site_count, &kit->planned.plan, pc, original, fix_rcx);
}

static void is_at(const struct kit *kit, uint64_t pc, uint64_t wanted)
{
    uint64_t original;
    int fix_rcx;
    assert_int_equal(locate(kit, pc, &original, &fix_rcx), 0);
    assert_int_equal(original, wanted);
    assert_int_equal(fix_rcx, 0);
}

static void has_to(const struct kit *kit, uint64_t pc, int error)
{
    uint64_t original;
    int fix_rcx;
    assert_int_equal(locate(kit, pc, &original, &fix_rcx), error);
}

/* Every byte of the plan's memory. */
static void sane_everywhere(const struct kit *kit)
{
    const struct tl_plan *plan = &kit->planned.plan;
    for (size_t i = 0; i < plan->map_count; i++)
        for (uint64_t pc = plan->maps[i].addr; pc < plan->maps[i].addr + plan->maps[i].size; pc++) {
            uint64_t original;
            int fix_rcx, error = locate(kit, pc, &original, &fix_rcx);
            assert_true(error == 0 || error == -EAGAIN);
            bool known = error != 0;
            for (size_t k = 0; k < kit->planned.site_count; k++) {
                const struct tl_site *site = &kit->sites[k];
                struct tl_insn insn;
                assert_int_equal(tl_insn_decode(site->text, site->text_length, site->addr, &insn), 0);
                known = known || original == site->addr || original == site->addr + insn.length ||
                        (insn.target && original == insn.target) ||
                        (site->beyond && original - site->addr < 2 * TL_INSN_MAX);
            }
            assert_true(known);
        }
}

static void in_a_trampoline(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "48 8b 05 11 22 33 00 c3");
    struct tl_site *site = kit_site(&kit, 0);
    site->hook.kind = TL_HOOK_ENTER;
    kit_plan(&kit);
    assert_true(site->copy_at > 8);
    is_at(&kit, site->trampoline, pie);
    for (unsigned i = 1; i < site->copy_at; i++)
        has_to(&kit, site->trampoline + i, -EAGAIN);
    is_at(&kit, site->trampoline + site->copy_at, pie);
    has_to(&kit, site->trampoline + site->copy_at + 1, -EAGAIN);
    is_at(&kit, site->trampoline + site->copy_at + 7, pie + 7);
    has_to(&kit, pie, -ENOENT);
    has_to(&kit, kit.planned.plan.gates[0].addr, -ENOENT);
    has_to(&kit, 0, -ENOENT);
    has_to(&kit, UINT64_MAX, -ENOENT);
    sane_everywhere(&kit);
    kit_end(&kit);
}

static void in_either_of_two_trampolines(void **state)
{
    (void)state;
    static const uint8_t starts[] = {0, 1, 4, 6}; /* in the copy as in the program */
    struct kit kit;
    kit_begin(&kit, pie, "55 48 89 e5 41 57 41 56");
    struct tl_site *site = kit_site(&kit, 0);
    site->hook.kind = TL_HOOK_ENTER;
    kit.options.guard_breakpoints = true;
    kit_plan(&kit);
    assert_true(site->beyond);
    is_at(&kit, kit_landing(&kit, site), pie);
    is_at(&kit, site->trampoline, pie);
    is_at(&kit, site->beyond, pie);
    for (unsigned i = 1; i < site->copy_at; i++)
        has_to(&kit, site->beyond + i, -EAGAIN);
    for (unsigned i = 0, next = 0; i < 7; i++)
        if (i == starts[next])
            is_at(&kit, site->beyond + site->copy_at + i, pie + starts[next++]);
        else
            has_to(&kit, site->beyond + site->copy_at + i, -EAGAIN);
    is_at(&kit, site->trampoline + site->copy_at + 1, pie + 1);
    sane_everywhere(&kit);
    kit_end(&kit);

    uint64_t original;
    int fix_rcx;
    kit_begin(&kit, pie, "0f 05 48 3d 01 f0 ff ff c3");
    site = kit_site(&kit, 0);
    kit.options.guard_breakpoints = true;
    kit_plan(&kit);
    assert_true(site->beyond);
    assert_int_equal(locate(&kit, site->beyond + site->copy_at + 2, &original, &fix_rcx), 0);
    assert_int_equal(original, pie + 2);
    assert_int_equal(fix_rcx, 1);
    is_at(&kit, site->beyond + site->beyond_size - 5 - 6, pie + 2);
    is_at(&kit, site->beyond + site->beyond_size - 5, pie + 8);
    sane_everywhere(&kit);
    kit_end(&kit);
}

static void behind_a_syscall(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "0f 05 48 3d 01 f0 ff ff");
    const struct tl_site *site = kit_site(&kit, 0);
    uint64_t original;
    int fix_rcx;
    kit_plan(&kit);
    assert_int_equal(site->why, TL_WHY_NONE);
    is_at(&kit, site->trampoline + site->copy_at, pie);
    assert_int_equal(locate(&kit, site->trampoline + site->copy_at + 2, &original, &fix_rcx), 0);
    assert_int_equal(original, pie + 2);
    assert_int_equal(fix_rcx, 1);
    sane_everywhere(&kit);
    kit_end(&kit);
}

static void on_a_landing_stub(void **state)
{
    (void)state;
    struct kit kit;
    /* The second comes down one byte below the first: a short stub. */
    kit_begin(&kit, pie, "90 60 00 00 40 c3 c3 c3 c3 c3 c3 c3 c3 c3 c3 c3 90 4f 00 00 40 c3");
    const struct tl_site *first = kit_site(&kit, 0), *second = kit_site(&kit, 16);
    kit_plan(&kit);
    is_at(&kit, kit_landing(&kit, first), pie);
    is_at(&kit, kit_landing(&kit, second), pie + 16);
    for (unsigned i = 1; i < 5; i++)
        has_to(&kit, kit_landing(&kit, first) + i, -EAGAIN);
    sane_everywhere(&kit);
    kit_end(&kit);

    kit_begin(&kit, pie, "55 f8 ff ff 7f"); /* far from the trampolines: a long jump */
    kit_area(&kit, pie + PAGE_BYTES, pie + 0x7ffff000, 0, 0);
    kit_area(&kit, pie - 0x08000000, pie, 0, 0);
    first = kit_site(&kit, 0);
    kit_plan(&kit);
    is_at(&kit, kit_landing(&kit, first), pie);
    sane_everywhere(&kit);
    kit_end(&kit);
}

static void on_a_taken_edge(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "0f 84 11 22 00 00 c3");
    struct tl_site *site = kit_site(&kit, 0);
    site->mode = TL_SITE_TAKEN;
    site->hook.kind = TL_HOOK_ENTER;
    kit_plan(&kit);
    is_at(&kit, site->trampoline, pie);
    is_at(&kit, site->trampoline + site->trampoline_size - 5, pie + 6 + 0x2211);
    has_to(&kit, site->trampoline + site->trampoline_size - 6, -EAGAIN);
    sane_everywhere(&kit);
    kit_end(&kit);
}

static void among_many(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie,
              "41 57 41 56 41 55 41 54 55 53 48 83 ec 18 48 89 fb 31 c0 e8 00 01 00 00 74 10 eb 20 0f 05 "
              "48 8b 05 00 10 00 00 ff d0 0f 1f 44 00 00 48 83 c4 18 5b 5d 41 5c 41 5d 41 5e 41 5f c3 "
              "0f 1f 44 00 00");
    kit_sites(&kit);
    for (size_t i = 0; i < kit.planned.site_count; i++)
        kit.sites[i].hook.kind = i % 2 ? TL_HOOK_ENTER : TL_HOOK_NONE;
    kit.options.guard_breakpoints = true;
    kit_plan(&kit);
    assert_int_equal(kit.planned.plan.refused, 0);
    for (size_t i = 0; i < kit.planned.site_count; i++) {
        is_at(&kit, kit.sites[i].trampoline, kit.sites[i].addr);
        if (kit_landing(&kit, &kit.sites[i]) != kit.sites[i].trampoline)
            is_at(&kit, kit_landing(&kit, &kit.sites[i]), kit.sites[i].addr);
    }
    sane_everywhere(&kit);
    kit_end(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_a_trampoline),  cmocka_unit_test(in_either_of_two_trampolines),
        cmocka_unit_test(behind_a_syscall), cmocka_unit_test(on_a_landing_stub),
        cmocka_unit_test(on_a_taken_edge),  cmocka_unit_test(among_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
