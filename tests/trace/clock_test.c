/* SPDX-License-Identifier: MIT
 *
 * The clock on pairs given to it, and on the real counter as far as that can be said without measuring time.
 */
#include "check.h"

#include <time.h>

#include "trace/clock.h"

static struct tl_clock with_pairs(const struct tl_clock_pair *pairs, size_t count)
{
    struct tl_clock clock = {0};
    for (size_t i = 0; i < count; i++)
        tl_clock_add(&clock, pairs[i]);
    return clock;
}

static void between_two_pairs_time_is_a_straight_line(void **state)
{
    (void)state;
    const struct tl_clock_pair pairs[] = {{1000, 500}, {3000, 1500}, {4000, 3500}};
    struct tl_clock clock = with_pairs(pairs, 3);
    assert_int_equal(tl_clock_ns(&clock, 1000), 500);
    assert_int_equal(tl_clock_ns(&clock, 2000), 1000);
    assert_int_equal(tl_clock_ns(&clock, 3000), 1500);
    assert_int_equal(tl_clock_ns(&clock, 3500), 2500);
    assert_int_equal(tl_clock_ns(&clock, 4000), 3500);
}

static void beyond_the_pairs_the_nearest_line_goes_on(void **state)
{
    (void)state;
    const struct tl_clock_pair pairs[] = {{1000, 500}, {3000, 1500}};
    struct tl_clock clock = with_pairs(pairs, 2);
    assert_int_equal(tl_clock_ns(&clock, 600), 300);
    assert_int_equal(tl_clock_ns(&clock, 0), 0);
    assert_int_equal(tl_clock_ns(&clock, 5000), 2500);
    assert_int_equal(tl_clock_ns(&clock, 1ull << 60), 1ull << 59);
}

static void thousands_of_pairs_keep_the_whole_past(void **state)
{
    (void)state;
    const struct tl_clock_pair start = {0, 0};
    struct tl_clock clock = with_pairs(&start, 1);
    for (uint64_t i = 1; i <= 10000; i++) {
        tl_clock_add(&clock, (struct tl_clock_pair){i * 3000, i * 1000});
        assert_true(clock.used <= TL_CLOCK_PAIRS);
        assert_int_equal(tl_clock_ns(&clock, i * 3000 - 1500), i * 1000 - 500);
    }
    for (uint64_t i = 1; i <= 10000; i++)
        assert_int_equal(tl_clock_ns(&clock, i * 3000), i * 1000);
}

static void answers_never_fall_though_pairs_bend(void **state)
{
    (void)state;
    struct tl_clock clock = {0};
    uint64_t last = 0, tsc = 0, ns = 0, seed = 1;
    for (int i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        tsc += 1 + (seed >> 60);
        ns += seed >> 40 & 7; /* a rate that changes from pair to pair */
        tl_clock_add(&clock, (struct tl_clock_pair){tsc, ns});
        uint64_t now = tl_clock_ns(&clock, tsc - (seed >> 50 & 1));
        assert_true(now >= last);
        last = now;
    }
}

static void a_counter_that_restarts_begins_anew(void **state)
{
    (void)state;
    const struct tl_clock_pair pairs[] = {{1000, 500}, {3000, 1500}, {10, 2000}, {20, 2010}};
    struct tl_clock clock = with_pairs(pairs, 4);
    assert_int_equal(clock.used, 2);
    assert_int_equal(tl_clock_ns(&clock, 15), 2005);
}

static uint64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void a_moment_lies_between_the_times_read_around_it(void **state)
{
    (void)state;
    enum { BLUR = 100000 }; /* of a pair that was interrupted each time it was measured */
    static struct tl_clock clock;
    tl_clock_init(&clock);
    for (int i = 0; i < 1000; i++) {
        uint64_t before = monotonic(), tsc = tl_clock_tsc(), after = monotonic();
        tl_clock_refresh(&clock);
        uint64_t ns = tl_clock_ns(&clock, tsc);
        assert_true(ns + BLUR >= before && ns <= after + BLUR);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(between_two_pairs_time_is_a_straight_line),
        cmocka_unit_test(beyond_the_pairs_the_nearest_line_goes_on),
        cmocka_unit_test(thousands_of_pairs_keep_the_whole_past),
        cmocka_unit_test(answers_never_fall_though_pairs_bend),
        cmocka_unit_test(a_counter_that_restarts_begins_anew),
        cmocka_unit_test(a_moment_lies_between_the_times_read_around_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
