/* SPDX-License-Identifier: MIT
 *
 * A program whose handlers look at SIGTRAP in masks, change it there, and look back at where they were called from: it
 * sees the same while it is armed, comes to be, and ceases to be.
 */
#include "armed.h"

#include <stdio.h>

enum { ROUNDS = 5, LOOPS = 200 };

static void goes_round(struct target *t)
{
    uint64_t begun = t->progress->loops[0];
    eventually(t->progress->loops[0] > begun + LOOPS);
    assert_goes_on(t);
}

static void rest(struct target *t, bool on)
{
    t->progress->value = on;
    assert_goes_on(t);
}

/* Whether it has a guard on the return from handlers. */
static bool has_guard(const struct armed *a)
{
    bool has = false;
    for (size_t i = 0; i < a->site_count; i++)
        has |= a->sites[i].guard == TL_GUARD_RETURN && a->sites[i].why == TL_WHY_NONE;
    return has;
}

static void rounds(const char *name, const char *argument)
{
    struct target t;
    target_start(&t, ARGV(program(name), argument));
    rest(&t, true);
    target_baseline(&t);
    rest(&t, false);
    for (int i = 0; i < ROUNDS; i++) {
        struct armed a;
        rest(&t, argument != NULL);
        armed_plan(&a, &t, t.progress->probe, 5);
        assert_int_equal(has_guard(&a), !argument);
        assert_int_equal(armed_apply(&a), 0);
        rest(&t, false);
        goes_round(&t);
        rest(&t, argument != NULL);
        armed_end(&a);
        rest(&t, false);
        goes_round(&t);
        rest(&t, true);
        assert_as_before(&t);
        rest(&t, false);
    }
    target_end(&t);
}

static void a_program_with_a_c_library(void **state)
{
    (void)state;
    rounds("returns", NULL);
}

static void a_program_at_a_fixed_address(void **state)
{
    (void)state;
    rounds("returns-nopie", NULL);
}

static void a_static_program(void **state)
{
    (void)state;
    rounds("returns-static", NULL);
}

/* Its restorer is known by its bytes only, and keeps them. It does not come to us, or leave us, in one handler that
 * came in another. */
static void a_program_with_musl(void **state)
{
    (void)state;
    if (!program("returns-musl"))
        SKIP_BECAUSE("there was no musl-gcc");
    rounds("returns-musl", "plain");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_with_a_c_library),
        cmocka_unit_test(a_program_at_a_fixed_address),
        cmocka_unit_test(a_static_program),
        cmocka_unit_test(a_program_with_musl),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
