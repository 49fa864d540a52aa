/* SPDX-License-Identifier: MIT
 *
 * Writers and reader at the same time: nothing is lost without being counted, and nothing comes out of order.
 */
#include "check.h"

#include <pthread.h>
#include <sched.h>

#include "producer.h"
#include "trace/reader.h"

enum { WRITERS = 4, HITS = 20000, AHEAD = 64 };

struct seen {
    uint64_t events, last_tsc, last_ns, backwards, out_of_sequence;
    uint64_t last_value[WRITERS];
};

static int look_at(void *context, const struct tl_record *record)
{
    struct seen *seen = context;
    assert_true(record->tid < WRITERS);
    seen->events++;
    seen->backwards += record->tsc < seen->last_tsc || record->time_ns < seen->last_ns;
    seen->out_of_sequence += record->values[0] <= seen->last_value[record->tid];
    seen->last_tsc = record->tsc;
    seen->last_ns = record->time_ns;
    __atomic_store_n(&seen->last_value[record->tid], record->values[0], __ATOMIC_RELEASE);
    return 0;
}

struct writer {
    pthread_t thread;
    const struct area *area;
    uint32_t tid;
    unsigned *running;
    const uint64_t *read; /* where it is to keep step with the reader, so that both work at the same time for long */
};

static void *write_hits(void *context)
{
    struct writer *writer = context;
    for (uint64_t i = 1; i <= HITS; i++) {
        while (writer->read && i > __atomic_load_n(writer->read, __ATOMIC_ACQUIRE) + AHEAD)
            sched_yield();
        area_hit(writer->area, 0, writer->tid, i);
    }
    __atomic_sub_fetch(writer->running, 1, __ATOMIC_RELEASE);
    return NULL;
}

static struct tl_reader_totals race(uint32_t lanes, uint64_t ring, uint64_t patience_ns, bool lose, struct seen *seen)
{
    struct area area = area_make(lanes, ring, 1, -1);
    const struct tl_reader_options options = {.patience_ns = patience_ns};
    struct tl_reader *reader;
    struct tl_reader_totals totals;
    struct writer writers[WRITERS];
    unsigned running = WRITERS;

    assert_int_equal(tl_reader_open(area.base, area.size, &area.layout, &options, &reader), 0);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.area = &area, .tid = i, .running = &running};
        writers[i].read = lose ? NULL : &seen->last_value[i];
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_hits, &writers[i]), 0);
    }
    /* Where events are to be lost, none is read before one is. */
    for (totals.lost = 0; lose && totals.lost == 0;)
        tl_reader_totals(reader, &totals);
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE))
        tl_reader_poll(reader, look_at, seen);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    tl_reader_drain(reader, look_at, seen);
    tl_reader_totals(reader, &totals);
    tl_reader_close(reader);
    area_free(&area);
    return totals;
}

static void all_hits_are_seen_in_order_where_there_is_room(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct tl_reader_totals totals = race(WRITERS + 1, 1 << 25, UINT64_MAX, false, &seen);
    assert_int_equal(totals.seen, WRITERS * HITS);
    assert_int_equal(seen.events, WRITERS * HITS);
    assert_int_equal(totals.lost + totals.missed + totals.late + totals.damaged + totals.unfinished, 0);
    assert_int_equal(seen.backwards, 0);
    assert_int_equal(seen.out_of_sequence, 0);
}

/* Two threads have lanes of their own, two share two others. */
static void shared_lanes_keep_the_order_as_well(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct tl_reader_totals totals = race(4, 1 << 25, UINT64_MAX, false, &seen);
    assert_int_equal(totals.seen + totals.missed, WRITERS * HITS);
    assert_int_equal(totals.lost + totals.late + totals.damaged + totals.unfinished, 0);
    assert_int_equal(seen.backwards + seen.out_of_sequence, 0);
}

static void seen_lost_and_missed_are_all_hits_where_there_is_no_room(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct tl_reader_totals totals = race(2, 4096, 0, true, &seen);
    assert_int_equal(totals.seen, seen.events);
    assert_int_equal(totals.seen + totals.lost + totals.missed, WRITERS * HITS);
    assert_int_equal(totals.damaged, 0);
    assert_true(totals.lost > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_hits_are_seen_in_order_where_there_is_room),
        cmocka_unit_test(shared_lanes_keep_the_order_as_well),
        cmocka_unit_test(seen_lost_and_missed_are_all_hits_where_there_is_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
