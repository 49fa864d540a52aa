/* SPDX-License-Identifier: MIT
 *
 * In which order events come out, and when. Events are written by hand with times long past, so nothing depends on how
 * fast the test runs.
 */
#include "check.h"

#include "producer.h"
#include "trace/reader.h"

enum { LANES = 4, RING = 4096, PROBES = 8, MANY = 1000 };

static const struct tl_reader_options never = {.patience_ns = 0}, forever = {.patience_ns = UINT64_MAX};

struct world {
    struct area area;
    struct tl_reader *reader;
    uint32_t tids[MANY]; /* what came out */
    size_t used, stop_at;
};

static int take(void *context, const struct tl_record *record)
{
    struct world *world = context;
    assert_true(world->used < MANY);
    world->tids[world->used++] = record->tid;
    return world->used == world->stop_at;
}

static struct world begin(const struct tl_reader_options *options)
{
    struct world world = {.area = area_make(LANES, RING, PROBES, -1)};
    assert_int_equal(tl_reader_open(world.area.base, world.area.size, &world.area.layout, options, &world.reader), 0);
    return world;
}

static struct tl_reader_totals end(struct world *world)
{
    struct tl_reader_totals totals;
    tl_reader_totals(world->reader, &totals);
    tl_reader_close(world->reader);
    area_free(&world->area);
    return totals;
}

/* What a poll gives out, as "1 2 3". */
static const char *polled(struct world *world)
{
    static char text[MANY * 12];
    size_t at = 0, first = world->used, n = tl_reader_poll(world->reader, take, world);
    assert_int_equal(n, world->used - first);
    text[0] = '\0';
    for (size_t i = first; i < world->used; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, i > first ? " %u" : "%u", world->tids[i]);
    return text;
}

static void events_of_several_lanes_come_out_in_order_of_time(void **state)
{
    (void)state;
    struct world world = begin(NULL);
    area_event(&world.area, 2, 100, 0, 1);
    area_event(&world.area, 0, 200, 0, 2);
    area_event(&world.area, 3, 300, 0, 3);
    area_event(&world.area, 2, 400, 0, 4);
    area_event(&world.area, 0, 500, 0, 5);
    area_event(&world.area, 1, 600, 0, 6);
    assert_string_equal(polled(&world), "1 2 3 4 5 6");
    assert_string_equal(polled(&world), "");
    struct tl_reader_totals totals = end(&world);
    assert_int_equal(totals.seen, 6);
    assert_int_equal(totals.late + totals.lost + totals.missed + totals.damaged, 0);
}

static void events_of_one_age_come_out_in_order_of_their_lanes(void **state)
{
    (void)state;
    struct world world = begin(NULL);
    for (uint32_t lane = LANES; lane-- > 0;)
        for (uint32_t i = 0; i < 2; i++)
            area_event(&world.area, lane, 100, 0, 10 * lane + i);
    assert_string_equal(polled(&world), "0 1 10 11 20 21 30 31");
    end(&world);
}

static void a_busy_lane_holds_back_what_may_be_younger_than_its_event(void **state)
{
    (void)state;
    struct world world = begin(&forever);
    area_event(&world.area, 1, 200, 0, 2);
    area_lane(&world.area, 1)->busy = 1;
    area_event(&world.area, 0, 100, 0, 1);
    area_event(&world.area, 0, 300, 0, 4);
    assert_string_equal(polled(&world), "1 2");
    assert_string_equal(polled(&world), "");
    area_event(&world.area, 1, 250, 0, 3);
    area_lane(&world.area, 1)->busy = 0;
    assert_string_equal(polled(&world), "3 4");
    assert_int_equal(end(&world).late, 0);
}

static void a_lane_that_stays_busy_is_not_waited_for_any_longer(void **state)
{
    (void)state;
    struct world world = begin(&never);
    area_lane(&world.area, 1)->busy = 1;
    area_event(&world.area, 0, 300, 0, 1);
    assert_string_equal(polled(&world), "1");
    area_event(&world.area, 1, 250, 0, 2);
    assert_string_equal(polled(&world), "2");
    assert_int_equal(end(&world).late, 1);
}

static void what_has_to_wait_makes_room_in_its_ring(void **state)
{
    (void)state;
    struct world world = begin(&forever);
    uint32_t n = 0;
    area_lane(&world.area, 1)->busy = 1;
    for (; n < 9 * RING / sizeof(struct tl_event); n++) {
        assert_true(area_event(&world.area, 0, 1000 + n, 0, n));
        assert_string_equal(polled(&world), "");
    }
    area_event(&world.area, 1, 999, 0, 7777);
    area_lane(&world.area, 1)->busy = 0;
    assert_int_equal(tl_reader_poll(world.reader, take, &world), n + 1);
    assert_int_equal(world.tids[0], 7777);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(world.tids[1 + i], i);
    struct tl_reader_totals totals = end(&world);
    assert_int_equal(totals.late + totals.lost + totals.damaged, 0);
}

static uint32_t fill(struct world *world, uint32_t lane, uint32_t first)
{
    while (area_event(&world->area, lane, 1000 + first, 0, first))
        first++;
    return first;
}

static void what_is_lost_behind_the_last_event_is_known(void **state)
{
    (void)state;
    struct world world = begin(NULL);
    struct tl_reader_totals totals;
    uint32_t n = fill(&world, 0, 0), m;
    area_event(&world.area, 0, 1, 0, 0);
    tl_reader_totals(world.reader, &totals);
    assert_int_equal(totals.lost, 2);
    assert_int_equal(totals.lost_before, 2);
    world.stop_at = n;
    polled(&world);
    tl_reader_totals(world.reader, &totals);
    assert_int_equal(totals.lost, 2);
    assert_int_equal(totals.lost_before, 0);
    m = fill(&world, 0, n);
    world.stop_at = n + 1;
    polled(&world);
    tl_reader_totals(world.reader, &totals);
    assert_int_equal(totals.lost, 3);
    assert_int_equal(totals.lost_before, 2);
    fill(&world, 0, m);
    world.stop_at = m;
    polled(&world);
    tl_reader_totals(world.reader, &totals);
    assert_int_equal(totals.lost, 4);
    assert_int_equal(totals.lost_before, 2);
    world.stop_at = m + 1;
    polled(&world);
    tl_reader_totals(world.reader, &totals);
    assert_int_equal(totals.lost_before, 3);
    end(&world);
}

static void full_stores_end_the_waiting(void **state)
{
    (void)state;
    const struct tl_reader_options small = {.patience_ns = UINT64_MAX, .store_bytes = 2 * sizeof(struct tl_event)};
    struct world world = begin(&small);
    area_lane(&world.area, 1)->busy = 1;
    area_event(&world.area, 0, 1000, 0, 1);
    assert_string_equal(polled(&world), "");
    area_event(&world.area, 0, 1001, 0, 2);
    assert_string_equal(polled(&world), "1 2");
    assert_int_equal(end(&world).late, 0);
}

/* Lane 0 has more than its store may take; what lane 1 has is younger. */
static struct world with_a_lane_behind(void)
{
    const struct tl_reader_options small = {.patience_ns = UINT64_MAX, .store_bytes = 1};
    struct world world = begin(&small);
    for (uint32_t i = 0; i < 3; i++)
        area_event(&world.area, 0, 10 + i, 0, 1 + i);
    area_lane(&world.area, 0)->busy = 1;
    world.stop_at = 1;
    assert_string_equal(polled(&world), "1");
    area_lane(&world.area, 0)->busy = 0;
    for (uint32_t i = 0; i < 3; i++) {
        area_event(&world.area, 0, 20 + i, 0, 4 + i);
        area_event(&world.area, 1, 30 + i, 0, 7 + i);
    }
    return world;
}

static void full_stores_do_not_change_the_order(void **state)
{
    (void)state;
    struct world world = with_a_lane_behind();
    assert_string_equal(polled(&world), "2 3");
    assert_string_equal(polled(&world), "4 5 6 7 8 9");
    assert_int_equal(end(&world).late, 0);
}

static void draining_fetches_in_as_many_rounds_as_it_takes(void **state)
{
    (void)state;
    struct world world = with_a_lane_behind();
    assert_int_equal(tl_reader_drain(world.reader, take, &world), 8);
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(world.tids[i], 1 + i);
    assert_int_equal(end(&world).late, 0);
}

static void an_event_from_the_future_is_no_younger_than_now(void **state)
{
    (void)state;
    struct world world = begin(NULL);
    area_event(&world.area, 0, UINT64_MAX, 0, 1);
    area_event(&world.area, 1, 100, 0, 2);
    assert_string_equal(polled(&world), "2");
    for (int i = 0; world.used < 2 && i < 10000000; i++)
        polled(&world);
    assert_int_equal(world.tids[1], 1);
    assert_int_equal(end(&world).damaged, 0);
}

static void a_callback_may_end_the_poll_behind_any_event(void **state)
{
    (void)state;
    struct world world = begin(NULL);
    for (uint32_t i = 0; i < 6; i++)
        area_event(&world.area, i % 2, 100 + i, 0, i);
    world.stop_at = 2;
    assert_string_equal(polled(&world), "0 1");
    assert_string_equal(polled(&world), "2 3 4 5");
    end(&world);
}

static void draining_gives_out_all_and_counts_what_was_under_way(void **state)
{
    (void)state;
    struct world world = begin(&forever);
    area_event(&world.area, 0, 300, 0, 3);
    area_event(&world.area, 1, 200, 0, 2);
    area_event(&world.area, 2, UINT64_MAX, 0, 4);
    area_lane(&world.area, 1)->busy = area_lane(&world.area, 3)->busy = 1;
    memset(area_ring(&world.area, 3), 0xff, sizeof(struct tl_event)); /* begun, never made visible */
    assert_int_equal(tl_reader_drain(world.reader, take, &world), 3);
    assert_int_equal(world.tids[0], 2);
    assert_int_equal(world.tids[2], 4);
    assert_int_equal(tl_reader_drain(world.reader, take, &world), 0);
    struct tl_reader_totals totals = end(&world);
    assert_int_equal(totals.unfinished, 2);
    assert_int_equal(totals.damaged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_of_several_lanes_come_out_in_order_of_time),
        cmocka_unit_test(events_of_one_age_come_out_in_order_of_their_lanes),
        cmocka_unit_test(a_busy_lane_holds_back_what_may_be_younger_than_its_event),
        cmocka_unit_test(a_lane_that_stays_busy_is_not_waited_for_any_longer),
        cmocka_unit_test(what_has_to_wait_makes_room_in_its_ring),
        cmocka_unit_test(what_is_lost_behind_the_last_event_is_known),
        cmocka_unit_test(full_stores_end_the_waiting),
        cmocka_unit_test(full_stores_do_not_change_the_order),
        cmocka_unit_test(draining_fetches_in_as_many_rounds_as_it_takes),
        cmocka_unit_test(an_event_from_the_future_is_no_younger_than_now),
        cmocka_unit_test(a_callback_may_end_the_poll_behind_any_event),
        cmocka_unit_test(draining_gives_out_all_and_counts_what_was_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
