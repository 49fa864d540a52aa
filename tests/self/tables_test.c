/* SPDX-License-Identifier: MIT
 *
 * Tables that are told one at a time say the same as tables that are told at once: each trap, range and mark is found,
 * what was told last counts, and what is withdrawn is gone.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hit/broker.h"
#include "kit.h"
#include "probe/traps.h"

enum { COUNT = 700, STEP = 271 /* prime to it */ };

static struct kit kit;

static const struct tl_broker_tables *tables(void)
{
    return tl_broker_tables(tl_self_broker(kit.self));
}

static int tell(size_t i)
{
    return tl_self_publish_more(kit.self, (const struct tl_traps_part *const *)&kit.parts[i], 1, NULL);
}

static void check(size_t i, bool known, int how)
{
    const struct tl_site *site = &kit.sites[i];
    const struct tl_trap *trap = tl_trap_find(tables(), site->addr);
    const struct tl_trap_range *range = tl_trap_range_find(tables(), site->trampoline + site->copy_at);
    assert_int_equal(trap != NULL, known);
    assert_int_equal(range != NULL, known);
    if (!known)
        return;
    assert_int_equal(trap->how, how);
    assert_int_equal(trap->to, site->trampoline);
    assert_int_equal(trap->index, i);
    struct tl_context context = {.rip = site->trampoline + site->copy_at};
    assert_true(tl_trap_map_back(tables(), range, &context));
    assert_int_equal(context.rip, site->addr);
    assert_true(tl_trap_is_ours(tables(), site->trampoline));
}

static void what_is_told_is_found(void **unused)
{
    (void)unused;
    for (size_t k = 0, i = 0; k < COUNT; k++, i = (i + STEP) % COUNT) {
        assert_int_equal(tell(i), 0);
        check(i, true, TL_TRAP_JUMP);
        check((i + STEP) % COUNT, k == COUNT - 1, TL_TRAP_JUMP);
        check((i + STEP * (COUNT / 2)) % COUNT, k >= COUNT / 2, TL_TRAP_JUMP);
    }
    for (size_t i = 0; i < COUNT; i++)
        check(i, true, TL_TRAP_JUMP);
}

static void what_was_told_last_counts(void **unused)
{
    (void)unused;
    for (size_t k = 0, i = 0; k < COUNT; k++, i = (i + STEP) % COUNT) {
        tl_traps_part_gone(kit.parts[i], true);
        assert_int_equal(tell(i), 0);
        check(i, true, TL_TRAP_GONE);
    }
    for (size_t i = 0; i < COUNT; i++)
        check(i, true, TL_TRAP_GONE);
    for (size_t i = 0; i < COUNT; i++)
        tl_traps_part_gone(kit.parts[i], false);
    assert_int_equal(tl_self_publish_more(kit.self, (const struct tl_traps_part *const *)kit.parts, COUNT, NULL), 0);
    for (size_t i = 0; i < COUNT; i++)
        check(i, true, TL_TRAP_JUMP);
}

/* A part in the place of another, which is freed: nobody reads that one any more. */
static void a_part_takes_the_place_of_another(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT; i += 3) {
        struct tl_traps_part *before = kit.parts[i];
        assert_int_equal(tl_traps_part_make(&kit.sites[i], (uint32_t)i, &kit.parts[i]), 0);
        assert_int_equal(tell(i), 0);
        tl_traps_part_free(before);
        check(i, true, TL_TRAP_JUMP);
    }
}

static void what_is_withdrawn_is_gone(void **unused)
{
    (void)unused;
    assert_int_equal(tell(5), 0);
    assert_int_equal(kit_publish(&kit), 0);
    for (size_t i = 0; i < COUNT; i++)
        check(i, true, TL_TRAP_JUMP);
    assert_int_equal(tell(5), 0);
    assert_int_equal(kit_unpublish(&kit), 0);
    for (size_t i = 0; i < COUNT; i++)
        check(i, false, 0);
}

static int set_up(void **unused)
{
    (void)unused;
    return kit_open(&kit) || kit_plan(&kit, 0, COUNT, 1u << TL_TACTIC_INT3) || kit.part_count != COUNT;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_told_is_found), cmocka_unit_test(what_was_told_last_counts),
        cmocka_unit_test(a_part_takes_the_place_of_another), cmocka_unit_test(what_is_withdrawn_is_gone)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
