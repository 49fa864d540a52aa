/* SPDX-License-Identifier: MIT
 *
 * The broker's tables, made from plans.
 *
 * - every site's address leads to its trampoline
 * - a copy's marks say what tl_plan_locate says, and cover the whole of each copy
 * - what is stepped has its slot, as long as the instruction
 * - the beginning of a hook can be undone, and what is put behind one counts as behind
 * - a site that has gone is still known
 * - pieces of memory that touch are one
 * - parts put together are what they are when made at once
 */
#include "kit.h"

#include <stdlib.h>
#include <string.h>

#include "hit/broker.h"
#include "probe/traps.h"

static const uint64_t pie = 0x555555554000;
/* push rbp; mov rbp, rsp; call [rip + …]; jz; syscall; ret far; int3; add eax, ecx; … */
static const char program[] =
    "55 48 89 e5 ff 15 00 01 00 00 0f 84 00 01 00 00 0f 05 cb cc 01 c8 48 83 ec 18 c3 90 90 90";

static void *image;
static size_t size;

static const struct tl_broker_tables *make(const struct kit *kit, const struct tl_traps_memory *memory, size_t count)
{
    free(image);
    assert_int_equal(tl_traps_of_sites(kit->sites, kit->planned.site_count, memory, count, &image, &size), 0);
    assert_int_equal(tl_broker_tables_verify(image, size), 0);
    return image;
}

static void begin(struct kit *kit)
{
    kit_begin(kit, pie, program);
    kit_sites(kit);
    kit->options.tactics = UINT32_MAX;
    for (size_t i = 0; i < kit->planned.site_count; i++) {
        struct tl_site *site = &kit->sites[i];
        site->hook = (struct tl_hook){.kind = i % 2 ? TL_HOOK_CALL : TL_HOOK_ENTER, .index = (uint32_t)i};
        if (site->text[0] == 0x0f && site->text[1] == 0x84)
            site->mode = TL_SITE_TAKEN;
        if (site->text[0] == 0x01)
            site->after = (struct tl_hook){.kind = TL_HOOK_CALL, .index = 99};
        if (site->text[0] == 0x0f && site->text[1] == 0x05)
            site->guard = TL_GUARD_ASK;
    }
    kit_plan(kit);
}

static void every_site_has_its_trap(void **state)
{
    (void)state;
    struct kit kit;
    begin(&kit);
    const struct tl_broker_tables *tables = make(&kit, NULL, 0);
    size_t steps = 0;
    for (size_t i = 0; i < kit.planned.site_count; i++) {
        const struct tl_site *site = &kit.sites[i];
        assert_int_equal(site->why, TL_WHY_NONE);
        const struct tl_trap *trap = tl_trap_find(tables, site->addr);
        assert_non_null(trap);
        assert_int_equal(trap->to, site->trampoline);
        assert_int_equal(trap->how, TL_TRAP_JUMP);
        assert_int_equal(trap->index, i);
        if (!site->step_at)
            continue;
        steps++;
        const struct tl_trap *step = tl_trap_find(tables, site->trampoline + site->copy_at);
        assert_non_null(step);
        assert_int_equal(step->how, TL_TRAP_STEP);
        const struct tl_trap_range *slot = tl_trap_range_find(tables, step->to);
        assert_non_null(slot);
        assert_int_equal(slot->start, step->to);
        assert_int_equal(slot->end - slot->start, slot->length);
        assert_int_equal(slot->addr, site->addr);
    }
    assert_int_equal(steps, 1); /* ret far */
    assert_null(tl_trap_find(tables, pie + 2));
    kit_end(&kit);
}

static void marks_agree_with_locate(void **state)
{
    (void)state;
    struct kit kit;
    begin(&kit);
    const struct tl_broker_tables *tables = make(&kit, NULL, 0);
    const struct tl_trap_range *ranges = (const void *)((const uint8_t *)image + tables->ranges);
    const struct tl_mark *marks = (const void *)((const uint8_t *)image + tables->marks);
    size_t agree = 0, syscalls = 0, within = 0;
    for (uint32_t i = 0; i < tables->range_count; i++) {
        const struct tl_site *site = &kit.sites[ranges[i].index];
        assert_true(ranges[i].addr == site->addr || site->beyond);
        assert_true(ranges[i].start >= site->trampoline || site->beyond);
        bool slot = site->step_at && ranges[i].start == site->trampoline + site->copy_at + site->step_at;
        for (uint32_t k = 0; k < ranges[i].mark_count; k++) {
            const struct tl_mark *mark = &marks[ranges[i].first_mark + k];
            uint64_t original = 0;
            int fix_rcx;
            int result = tl_plan_locate(kit.sites, kit.planned.site_count, &kit.planned.plan,
                                        ranges[i].start + mark->at, &original, &fix_rcx);
            if (slot || mark->state == TL_MARK_WITHIN) {
                assert_int_equal(result, -EAGAIN);
                within++;
                continue;
            }
            assert_int_equal(result, 0);
            assert_int_equal(original, mark->addr);
            assert_int_equal(fix_rcx != 0, mark->state == TL_MARK_AFTER && ranges[i].flags & TL_RANGE_SYSCALL);
            syscalls += fix_rcx != 0;
            agree++;
        }
    }
    assert_true(agree > 20 && syscalls > 0 && within > 10);
    kit_end(&kit);
}

static void hooks_begin_in_ranges(void **state)
{
    (void)state;
    struct kit kit;
    begin(&kit);
    const struct tl_broker_tables *tables = make(&kit, NULL, 0);
    for (size_t i = 0; i < kit.planned.site_count; i++) {
        const struct tl_site *site = &kit.sites[i];
        const struct tl_trap_range *range = tl_trap_range_find(tables, site->trampoline + 5);
        assert_non_null(range);
        if (site->mode == TL_SITE_TAKEN)
            continue;
        const struct tl_mark *marks = (const void *)((const uint8_t *)image + tables->marks);
        assert_int_equal(range->start, site->trampoline);
        assert_int_equal(marks[range->first_mark + 1].at, 5);
        assert_int_equal(marks[range->first_mark + 1].unwind, 128);
        assert_int_equal(marks[range->first_mark + 1].addr, site->addr);
        assert_false(range->flags & TL_RANGE_BEHIND);
    }
    kit_end(&kit);
}

static void copies_behind_count_as_behind(void **state)
{
    (void)state;
    struct kit kit;
    kit_begin(&kit, pie, "55 48 89 e5 41 57 41 56 90 90 90 90");
    const struct tl_site *site = kit_site(&kit, 0);
    kit.options.guard_breakpoints = true;
    kit_plan(&kit);
    assert_true(site->beyond != 0);
    const struct tl_broker_tables *tables = make(&kit, NULL, 0);
    const struct tl_trap_range *first = tl_trap_range_find(tables, site->beyond),
                               *second = tl_trap_range_find(tables, site->beyond + 1);
    assert_true(first && second && first != second);
    assert_int_equal(first->flags, 0);
    assert_int_equal(second->flags, TL_RANGE_BEHIND);
    assert_int_equal(second->addr, site->addr + 1);
    kit_end(&kit);
}

static void parts_are_put_together(void **state)
{
    (void)state;
    struct kit kit;
    struct tl_traps_part *parts[KIT_SITES];
    begin(&kit);
    make(&kit, NULL, 0);
    size_t count = kit.planned.site_count, other_size;
    void *other;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(tl_traps_part_make(&kit.sites[i], (uint32_t)i, &parts[i]), 0);
    assert_int_equal(tl_traps_build((const struct tl_traps_part *const *)parts, count, NULL, 0, &other, &other_size),
                     0);
    assert_int_equal(other_size, size);
    assert_memory_equal(other, image, size);
    free(other);
    tl_traps_part_gone(parts[2], true);
    assert_int_equal(tl_traps_build((const struct tl_traps_part *const *)parts, count, NULL, 0, &other, &other_size),
                     0);
    assert_int_equal(tl_trap_find(other, kit.sites[2].addr)->how, TL_TRAP_GONE);
    assert_int_equal(tl_trap_find(other, kit.sites[1].addr)->how, TL_TRAP_JUMP);
    free(other);
    for (size_t i = 0; i < count; i++)
        tl_traps_part_free(parts[i]);
    kit_end(&kit);
}

static void memory_that_touches_is_one(void **state)
{
    (void)state;
    struct kit kit;
    begin(&kit);
    const struct tl_traps_memory memory[] = {
        {0x5000, 0x6000}, {0x1000, 0x2000}, {0x2000, 0x3000}, {0x2800, 0x2900}, {0x7000, 0x7000}};
    const struct tl_broker_tables *tables = make(&kit, memory, 5);
    assert_int_equal(tables->memory_count, 2);
    assert_true(tl_trap_is_ours(tables, 0x1000) && tl_trap_is_ours(tables, 0x2fff) && tl_trap_is_ours(tables, 0x5fff));
    assert_false(tl_trap_is_ours(tables, 0x3000) || tl_trap_is_ours(tables, 0xfff) || tl_trap_is_ours(tables, 0x7000));
    free(image);
    image = NULL;
    kit_end(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_site_has_its_trap), cmocka_unit_test(marks_agree_with_locate),
        cmocka_unit_test(hooks_begin_in_ranges),   cmocka_unit_test(copies_behind_count_as_behind),
        cmocka_unit_test(parts_are_put_together),  cmocka_unit_test(memory_that_touches_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
