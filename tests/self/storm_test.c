/* SPDX-License-Identifier: MIT
 *
 * Patches that come and go while four threads execute the patched code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kit.h"

static void jumps_come_and_go_under_four_threads(void **unused);
static void breakpoints_come_and_go_under_four_threads(void **unused);
static void operands_change_under_four_threads(void **unused);
static void without_the_broker_the_threads_are_stopped_instead(void **unused);
static void ten_thousand_sites_are_one_batch(void **unused);

enum { THREADS = 4, STORM = 64, ROUNDS = 200, CHANGED = 0x01010101 };

static struct storm {
    pthread_t threads[THREADS];
    bool ends;
    uint64_t calls[THREADS], wrong;
} storm;

/* Each function returns its number, or that with all bytes raised by one (operands_change…). A mixture does not. */
static void *execute(void *argument)
{
    uint64_t *calls = argument;
    while (!__atomic_load_n(&storm.ends, __ATOMIC_RELAXED)) {
        for (size_t i = 0; i < STORM; i++) {
            unsigned got = (unsigned)subject_at(i)();
            if (got != i && got != i + CHANGED)
                __atomic_add_fetch(&storm.wrong, 1, __ATOMIC_RELAXED);
            __atomic_store_n(calls, *calls + 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

static void begin_storm(void)
{
    memset(&storm, 0, sizeof storm);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&storm.threads[i], NULL, execute, &storm.calls[i]), 0);
}

static void end_storm(void)
{
    __atomic_store_n(&storm.ends, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(storm.threads[i], NULL), 0);
        assert_true(storm.calls[i] > 0);
    }
    assert_int_equal(storm.wrong, 0);
    assert_true(text_is_original());
}

static void come_and_go(uint32_t tactics, bool armed, int rounds)
{
    struct kit kit;
    assert_int_equal(kit_open(&kit), 0);
    if (armed)
        assert_int_equal(kit_arm(&kit), 0);
    assert_int_equal(kit_plan(&kit, 0, STORM, tactics), 0);
    assert_int_equal(kit_publish(&kit), 0);
    begin_storm();
    for (int i = 0; i < rounds; i++) {
        assert_int_equal(kit_in(&kit), 0);
        assert_int_equal(subject_at(i % STORM)(), i % STORM);
        assert_int_equal(kit_out(&kit), 0);
    }
    end_storm();
    assert_int_equal(kit_unpublish(&kit), 0);
    kit_drop(&kit);
    assert_int_equal(kit_close(&kit), 0);
}

static void jumps_come_and_go_under_four_threads(void **unused)
{
    (void)unused;
    come_and_go(1u << TL_TACTIC_JUMP, true, ROUNDS);
}

static void breakpoints_come_and_go_under_four_threads(void **unused)
{
    (void)unused;
    come_and_go(1u << TL_TACTIC_INT3, true, ROUNDS);
}

static void operands_change_under_four_threads(void **unused)
{
    (void)unused;
    struct kit kit;
    assert_int_equal(kit_open(&kit), 0);
    assert_int_equal(kit_arm(&kit), 0);
    assert_int_equal(kit_plan(&kit, 0, STORM, 1u << TL_TACTIC_JUMP), 0);
    assert_int_equal(kit_publish(&kit), 0);
    for (size_t i = 0; i < kit.patch_count; i++) {
        kit.in[i].bytes[0] = 0xb8;
        for (size_t k = 1; k < kit.in[i].length; k++)
            kit.in[i].bytes[k] = (uint8_t)(kit.in[i].expect[k] + 1);
        memcpy(kit.out[i].expect, kit.in[i].bytes, kit.in[i].length);
    }
    begin_storm();
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(kit_in(&kit), 0);
        assert_int_equal(subject_at(1)(), 1 + CHANGED);
        assert_int_equal(kit_out(&kit), 0);
        assert_int_equal(subject_at(1)(), 1);
    }
    end_storm();
    assert_int_equal(kit_unpublish(&kit), 0);
    kit_drop(&kit);
    assert_int_equal(kit_close(&kit), 0);
}

static void without_the_broker_the_threads_are_stopped_instead(void **unused)
{
    (void)unused;
    come_and_go(1u << TL_TACTIC_JUMP, false, ROUNDS / 10);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void ten_thousand_sites_are_one_batch(void **unused)
{
    (void)unused;
    static const uint32_t tactics[] = {1u << TL_TACTIC_JUMP, 1u << TL_TACTIC_INT3};
    struct kit kit;
    assert_int_equal(kit_open(&kit), 0);
    assert_int_equal(kit_arm(&kit), 0);
    begin_storm();
    for (size_t i = 0; i < 2; i++) {
        double start = now_ms();
        assert_int_equal(kit_plan(&kit, 0, SUBJECTS, tactics[i]), 0);
        double planned = now_ms();
        assert_int_equal(kit_publish(&kit), 0);
        double published = now_ms();
        assert_int_equal(kit_in(&kit), 0);
        double in = now_ms();
        for (size_t k = 0; k < SUBJECTS; k++)
            assert_int_equal(subject_at(k)(), k);
        double called = now_ms();
        assert_int_equal(kit_out(&kit), 0);
        double out = now_ms();
        assert_true(text_is_original());
        assert_int_equal(kit_wait_until_empty(&kit), 0); /* the threads run on, maybe still in a trampoline */
        assert_int_equal(kit_unpublish(&kit), 0);
        kit_drop(&kit);
        print_message("%s: planned and mapped %.1f ms, published %.1f, in %.1f, called %.1f, out %.1f\n",
                      i ? "int3" : "jump", planned - start, published - planned, in - published, called - in,
                      out - called);
    }
    end_storm();
    assert_int_equal(kit_close(&kit), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jumps_come_and_go_under_four_threads),
        cmocka_unit_test(breakpoints_come_and_go_under_four_threads),
        cmocka_unit_test(operands_change_under_four_threads),
        cmocka_unit_test(without_the_broker_the_threads_are_stopped_instead),
        cmocka_unit_test(ten_thousand_sites_are_one_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
