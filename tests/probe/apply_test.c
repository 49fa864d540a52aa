/* SPDX-License-Identifier: MIT
 *
 * Applying and removing a plan on the scripted host, with each call failing once.
 *
 * - a plan that was applied is there, and gone after removal
 * - whichever call fails, the target ends as it began
 * - removal waits for threads that are inside, and gives up politely
 * - text that changed meanwhile is refused, and nothing is left
 * - a breakpoint set on a place of ours survives our removal, and the rest of the place is restored
 * - a place that somebody patched otherwise keeps itself and our code, all others are restored
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/fake/fake.h"
#include "probe/apply.h"

enum { TEXT = 0x400000, PAGE = 4096, RUNTIME = 0x10000000 };

/* Five-byte and shorter instructions: mov eax, imm32; push rbp; mov rbp, rsp; sub rsp, 16; lea; ret. */
static const uint8_t text[] = {0xb8, 1,    2,    3,    4,    0x55, 0x48, 0x89, 0xe5, 0x48, 0x83,
                               0xec, 0x10, 0x48, 0x8d, 0x05, 0,    0,    0,    0,    0xc3};

struct scene {
    struct tl_fake fake;
    uint8_t before[PAGE];
    struct tl_site sites[2];
    struct tl_plan plan;
    struct tl_applied applied;
    struct tl_runtime runtime;
};

static int set_up(void **state)
{
    static const uint8_t code[] = {0xc3};
    struct scene *scene = calloc(1, sizeof *scene);
    assert_non_null(scene);
    assert_int_equal(tl_fake_open(&scene->fake, 1 << 20), 0);
    memset(scene->before, 0x90, PAGE);
    memcpy(scene->before, text, sizeof text);
    assert_int_equal(tl_fake_load(&scene->fake, TEXT, scene->before, PAGE), 0);
    for (int i = 0; i < 2; i++) {
        struct tl_site *site = &scene->sites[i];
        uint64_t at = i ? 13 : 0;
        site->addr = TEXT + at;
        memcpy(site->text, scene->before + at, sizeof site->text);
        site->text_length = sizeof site->text;
        site->boundaries = i ? 1 | 1u << 7 : 1 | 1u << 5 | 1u << 6 | 1u << 9;
        site->hook.kind = TL_HOOK_NONE;
    }
    struct tl_area areas[] = {{.start = TEXT, .end = TEXT + PAGE}, {.start = RUNTIME, .end = RUNTIME + PAGE}};
    struct tl_plan_options options = {.max_mappings = 100, .lowest = 0x10000, .highest = 0x7ffffffff000};
    assert_int_equal(tl_plan_build(scene->sites, 2, areas, 2, &options, &scene->plan), 0);
    assert_int_equal(scene->plan.write_count, 2);
    scene->runtime =
        (struct tl_runtime){.code = code, .size = sizeof code, .addr = RUNTIME, .gate = {.enter = RUNTIME}};
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    tl_applied_free(&scene->applied);
    tl_plan_free(&scene->plan);
    tl_fake_close(&scene->fake);
    free(scene);
    return 0;
}

static int apply(struct scene *scene)
{
    return tl_apply(&scene->fake.port, scene->sites, 2, &scene->plan, &scene->runtime, &scene->applied);
}

static void assert_untouched(struct scene *scene)
{
    assert_memory_equal(tl_fake_at(&scene->fake, TEXT, PAGE), scene->before, PAGE);
    assert_int_equal(scene->fake.area_count, 1);
    assert_int_equal(scene->fake.stops, 0);
    assert_null(scene->fake.broken);
}

static void applied_and_removed(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(apply(scene), 0);
    const uint8_t *now = tl_fake_at(&scene->fake, TEXT, PAGE);
    assert_int_equal(now[0], 0xe9);
    assert_int_equal(now[13], 0xe9);
    assert_memory_equal(now + 5, text + 5, 8);
    uint64_t enter = 0;
    assert_int_equal(scene->plan.gate_count > 0, 1);
    assert_int_equal(scene->fake.port.read(&scene->fake, scene->plan.gates[0].addr, &enter, sizeof enter), 0);
    assert_int_equal(enter, RUNTIME);
    assert_int_equal(tl_apply_remove(&scene->applied, 0), 0);
    assert_untouched(scene);
}

static void each_failure_leaves_nothing(void **state)
{
    struct scene *scene = *state;
    size_t failed = 0;
    for (size_t call = 1;; call++) {
        scene->fake.calls = 0;
        scene->fake.fail_at = call;
        scene->fake.fail_with = -ENOMEM;
        int error = apply(scene);
        if (!error)
            break;
        assert_int_equal(error, -ENOMEM);
        assert_untouched(scene);
        failed++;
    }
    assert_true(failed >= 5); /* two fills, stop, map, gates, patch */
    scene->fake.fail_at = 0;
    assert_int_equal(tl_apply_remove(&scene->applied, 0), 0);
    assert_untouched(scene);
}

static void removal_can_be_repeated(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(apply(scene), 0);
    for (size_t call = 1;; call++) {
        scene->fake.calls = 0;
        scene->fake.fail_at = call;
        scene->fake.fail_with = -ESRCH;
        int error = tl_apply_remove(&scene->applied, 0);
        assert_int_equal(scene->fake.stops, 0);
        if (!error)
            break;
        assert_int_equal(error, -ESRCH);
    }
    assert_untouched(scene);
}

static void removal_waits_for_threads_inside(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(apply(scene), 0);
    scene->fake.busy_rounds = 3;
    assert_int_equal(tl_apply_remove(&scene->applied, 1000), 0);
    assert_int_equal(scene->fake.evacuations, 4);
    assert_untouched(scene);
}

static void removal_gives_up_with_the_text_restored(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(apply(scene), 0);
    scene->fake.busy_rounds = 1000000;
    assert_int_equal(tl_apply_remove(&scene->applied, 5), -EAGAIN);
    assert_memory_equal(tl_fake_at(&scene->fake, TEXT, PAGE), scene->before, PAGE);
    assert_true(scene->fake.area_count > 1);
    scene->fake.busy_rounds = 0;
    assert_int_equal(tl_apply_remove(&scene->applied, 0), 0);
    assert_untouched(scene);
}

static void changed_text_is_refused(void **state)
{
    struct scene *scene = *state;
    tl_fake_at(&scene->fake, TEXT, PAGE)[13] = 0xcc;
    scene->before[13] = 0xcc;
    assert_int_equal(apply(scene), -EBUSY);
    assert_untouched(scene);
}

static void a_breakpoint_on_our_place_survives(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(apply(scene), 0);
    tl_fake_at(&scene->fake, TEXT, PAGE)[13] = 0xcc;
    assert_int_equal(tl_apply_remove(&scene->applied, 0), 0);
    scene->before[13] = 0xcc;
    assert_untouched(scene);
}

static void a_foreign_patch_keeps_only_its_own_place(void **state)
{
    struct scene *scene = *state;
    uint64_t gate = 1;
    assert_int_equal(apply(scene), 0);
    uint8_t *now = tl_fake_at(&scene->fake, TEXT, PAGE);
    now[15] ^= 1;
    assert_int_equal(tl_apply_remove(&scene->applied, 0), -EBUSY);
    assert_memory_equal(now, scene->before, 13);
    assert_int_equal(now[13], 0xe9);
    assert_int_equal(scene->fake.port.read(&scene->fake, scene->plan.gates[0].addr, &gate, sizeof gate), 0);
    assert_int_equal(gate, 0);
    assert_true(scene->fake.area_count > 1);
    now[15] ^= 1;
    assert_int_equal(tl_apply_remove(&scene->applied, 0), 0);
    assert_untouched(scene);
}

static void an_unloaded_library_is_no_obstacle(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(apply(scene), 0);
    for (size_t i = 0; i < scene->fake.area_count; i++)
        if (scene->fake.areas[i].addr == TEXT)
            scene->fake.areas[i].addr = 2 * (uint64_t)TEXT; /* as if gone: something else is mapped elsewhere */
    assert_int_equal(tl_apply_remove(&scene->applied, 0), 0);
    assert_int_equal(scene->fake.area_count, 1);
    assert_int_equal(scene->fake.stops, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(applied_and_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_failure_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removal_can_be_repeated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removal_waits_for_threads_inside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removal_gives_up_with_the_text_restored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changed_text_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_breakpoint_on_our_place_survives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_foreign_patch_keeps_only_its_own_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unloaded_library_is_no_obstacle, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
