/* SPDX-License-Identifier: MIT
 *
 * Plans beside earlier ones that are in force.
 *
 * - a new jump relies on no byte that an earlier site has changed
 * - where the new site's bytes belong to an earlier jump, that becomes int3, if it may
 * - or the new one is int3, if the earlier jump is made for that
 * - or it is refused
 * - an instruction that is a site already is none again
 * - an int3 that is in force is in nobody's way
 * - sites that are to be taken back one by one do not rely on each other
 * - a guard has its jump whatever stands behind it; what it passes over cannot be probed
 */
#include "kit.h"

#include <string.h>

static const uint64_t pie = 0x555555554000;
static const uint32_t all = UINT32_MAX;

static void plan_with(struct kit *kit, const struct tl_plan_in_force *old, size_t count)
{
    kit->options.in_force = old;
    kit->options.in_force_count = count;
    kit_plan(kit);
}

/* The bytes behind the site that its jump is made of. */
static bool relies_on(const struct tl_site *site, unsigned at)
{
    return at >= site->own_length && at < site->jump_length;
}

static void jumps_rely_on_nothing_that_may_go(void **state)
{
    (void)state;
    struct kit kit;
    /* push rbp; mov rbp, rsp; mov rax, [rip + …], which has a jump now */
    kit_begin(&kit, pie, "55 48 89 e5 e9 00 00 10 00 33 00 c3 90 90 90");
    const struct tl_plan_in_force old[] = {{.addr = pie + 4, .own_length = 5, .may_demote = true}};
    const struct tl_site *site = kit_site(&kit, 0);
    kit.options.tactics = all;
    plan_with(&kit, old, 1);
    assert_int_equal(site->tactic, TL_TACTIC_INT3); /* its rel32 would be 48 89 e5 e9 */
    assert_int_equal(site->not_better, TL_WHY_CONFLICT);
    kit.options.tactics = 0;
    plan_with(&kit, old, 1);
    assert_int_equal(site->why, TL_WHY_CONFLICT);
    assert_int_equal(kit.planned.plan.demoted_count, 0);
    kit_end(&kit);
}

static void an_earlier_jump_makes_way(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "e9 48 89 e5 41 57 41 56 90 90 90 90");
    struct tl_plan_in_force old[] = {{.addr = pie - 100, .own_length = 5, .may_demote = true},
                                     {.addr = pie, .own_length = 1, .jump_length = 5, .may_demote = true}};
    const struct tl_site *first = kit_site(&kit, 1), *second = kit_site(&kit, 4);
    plan_with(&kit, old, 2);
    assert_int_equal(first->why, TL_WHY_NONE);
    assert_int_equal(second->why, TL_WHY_NONE);
    assert_int_equal(kit.planned.plan.demoted_count, 1);
    assert_int_equal(kit.planned.plan.demoted[0], 1);
    old[1].may_demote = false;
    plan_with(&kit, old, 2);
    assert_int_equal(first->why, TL_WHY_CONFLICT);
    assert_int_equal(second->why, TL_WHY_CONFLICT);
    assert_int_equal(kit.planned.plan.demoted_count, 0);
    kit_end(&kit);
}

static void an_int3_does_no_harm_to_a_guarded_jump(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "e9 48 89 e5 41 57 41 56 90 90 90 90");
    const struct tl_plan_in_force old[] = {{.addr = pie, .own_length = 1, .jump_length = 5, .guarded = true}};
    const struct tl_site *site = kit_site(&kit, 1);
    kit.options.tactics = all;
    plan_with(&kit, old, 1);
    assert_int_equal(site->tactic, TL_TACTIC_INT3);
    assert_int_equal(site->not_better, TL_WHY_CONFLICT);
    assert_int_equal(kit.planned.plan.demoted_count, 0);
    kit.options.tactics = 0;
    plan_with(&kit, old, 1);
    assert_int_equal(site->why, TL_WHY_CONFLICT);
    kit_end(&kit);
}

static void a_site_is_no_site_again(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "e9 11 22 33 00 00 00 c3 90 90 90 90");
    const struct tl_plan_in_force old[] = {{.addr = pie, .own_length = 5, .may_demote = true}};
    const struct tl_site *site = kit_site(&kit, 0);
    kit.options.tactics = all;
    plan_with(&kit, old, 1);
    assert_int_equal(site->why, TL_WHY_CONFLICT);
    kit_end(&kit);
}

static void an_int3_in_force_is_in_nobodys_way(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "cc 48 89 e5 48 8b 05 11 22 33 00 c3 90 90 90");
    const struct tl_plan_in_force old[] = {{.addr = pie, .own_length = 1}};
    const struct tl_site *site = kit_site(&kit, 4);
    plan_with(&kit, old, 1);
    assert_int_equal(site->tactic, TL_TACTIC_JUMP);
    assert_int_equal(kit.planned.plan.demoted_count, 0);
    kit_end(&kit);
}

static void independent_sites_rely_on_themselves(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "55 48 89 e5 41 57 41 56 41 55 53 48 83 ec 18 48 89 fb 48 8b 05 11 22 33 00 c3 90 90 90");
    kit_sites(&kit);
    kit.options.tactics = all;
    kit.options.independent = true;
    kit_plan(&kit);
    size_t traps = 0;
    for (size_t i = 0; i < kit.planned.site_count; i++) {
        const struct tl_site *site = &kit.sites[i];
        assert_int_equal(site->why, TL_WHY_NONE);
        traps += site->tactic == TL_TACTIC_INT3;
        for (size_t k = i + 1; k < kit.planned.site_count; k++)
            for (unsigned at = 0; at < kit.sites[k].own_length; at++)
                assert_false(relies_on(site, (unsigned)(kit.sites[k].addr - site->addr) + at));
    }
    assert_true(traps > 0 && traps < kit.planned.site_count);
    kit_end(&kit);
}

static void guards_come_first(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "b8 0e 00 00 00 0f 05 48 3d 00 f0 ff ff 77 05 c3 90 90 90 90 90 90 90 90 90 90 90 90");
    struct tl_site *guard = kit_site(&kit, 5), *behind = kit_site(&kit, 7);
    guard->guard = TL_GUARD_KNOWN;
    kit.options.guard.routine = 0x1234;
    kit.options.tactics = all;
    kit_plan(&kit);
    assert_int_equal(guard->tactic, TL_TACTIC_PUNNED);
    assert_true(guard->guarded);
    assert_int_equal(behind->tactic, TL_TACTIC_INT3);
    kit.options.tactics = 0;
    kit_plan(&kit);
    assert_int_equal(guard->tactic, TL_TACTIC_PUNNED);
    assert_int_equal(behind->why, TL_WHY_CONFLICT);
    kit_end(&kit);
}

static void what_a_guard_passes_over_is_no_site(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "b8 0e 00 00 00 31 ff 0f 05 48 3d 00 f0 ff ff 77 05 c3 90 90 90 90 90 90 90 90 90 90 90");
    struct tl_site *guard = kit_site(&kit, 0), *within = kit_site(&kit, 5), *call = kit_site(&kit, 7),
                   *behind = kit_site(&kit, 9);
    guard->guard = TL_GUARD_KNOWN;
    guard->guard_at = 7;
    guard->hook.kind = TL_HOOK_CALL;
    kit.options.tactics = all;
    kit_plan(&kit);
    assert_int_equal(guard->tactic, TL_TACTIC_JUMP);
    assert_int_equal(guard->jump_length, 9);
    assert_int_equal(within->why, TL_WHY_CONFLICT);
    assert_int_equal(call->why, TL_WHY_CONFLICT);
    assert_int_equal(behind->why, TL_WHY_NONE);
    guard->guard_at = 5; /* not a system call */
    kit_plan(&kit);
    assert_int_equal(guard->why, TL_WHY_TACTIC);
    kit_end(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jumps_rely_on_nothing_that_may_go),
        cmocka_unit_test(an_earlier_jump_makes_way),
        cmocka_unit_test(an_int3_does_no_harm_to_a_guarded_jump),
        cmocka_unit_test(a_site_is_no_site_again),
        cmocka_unit_test(an_int3_in_force_is_in_nobodys_way),
        cmocka_unit_test(independent_sites_rely_on_themselves),
        cmocka_unit_test(guards_come_first),
        cmocka_unit_test(what_a_guard_passes_over_is_no_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
