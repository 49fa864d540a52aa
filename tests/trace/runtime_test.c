/* SPDX-License-Identifier: MIT
 *
 * The reader on what the real runtime writes: threads of this process run through real hooks while it reads.
 */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include "trace/reader.h"
#include "world.h"

enum { WRITERS = 4, HITS = 8000, AHEAD = 64, PROBES = 3, EVENT = 0, FILTERED = 1, INLINE = 2 };

typedef void probed_fn(uint64_t value);

/* Site 0: an event with the first argument. Site 1: counts where the argument is even. Probe 2 is counted in line. */
static const struct tl_hit_site sites[] = {{0x1000, 0, 1}, {0x2000, 1, 1}};
static const struct tl_hit_action actions[] = {{EVENT, TL_ACTION_EVENT, 0, 0, 3}, {FILTERED, TL_ACTION_COUNT, 0, 3, 6}};
static const struct tl_operation operations[] = {
    {TL_OP_REG, TL_RDI, 0, 0, 0}, {TL_OP_STORE, 0, 0, 0, 0},  {TL_OP_END, 0, 0, 0, 0},
    {TL_OP_REG, TL_RDI, 0, 0, 0}, {TL_OP_IMM, 0, 0, 0, 1},    {TL_OP_AND, 0, 0, 0, 0},
    {TL_OP_JZ, 0, 0, 0, 2},       {TL_OP_REJECT, 0, 0, 0, 0}, {TL_OP_END, 0, 0, 0, 0}};

struct run {
    struct world world;
    struct tl_reader *reader;
    probed_fn *event, *filtered, *counted;
    unsigned running;
    bool paced; /* writers keep step with the reader */
    struct writer {
        struct run *run;
        pthread_t thread;
        uint32_t tid;
        uint64_t read; /* the last value that was read */
    } writers[WRITERS];
    uint64_t last_tsc, backwards, out_of_sequence, strange;
};

static void *hit(void *context)
{
    struct writer *writer = context;
    struct run *run = writer->run;
    __atomic_store_n(&writer->tid, (uint32_t)gettid(), __ATOMIC_RELEASE);
    for (uint64_t i = 1; i <= HITS; i++) {
        while (run->paced && i > __atomic_load_n(&writer->read, __ATOMIC_ACQUIRE) + AHEAD)
            sched_yield();
        run->event(i);
        if (run->paced) { /* else all that is missed is an event */
            run->filtered(i);
            run->counted(i);
        }
    }
    __atomic_sub_fetch(&run->running, 1, __ATOMIC_RELEASE);
    return NULL;
}

static int look_at(void *context, const struct tl_record *record)
{
    struct run *run = context;
    struct writer *writer = NULL;
    for (int i = 0; i < WRITERS; i++)
        if (__atomic_load_n(&run->writers[i].tid, __ATOMIC_ACQUIRE) == record->tid)
            writer = &run->writers[i];
    if (!writer || record->probe != EVENT || record->site != 0 || record->stored != 1 || record->faulted) {
        run->strange++;
        return 0;
    }
    run->backwards += record->tsc < run->last_tsc;
    run->last_tsc = record->tsc;
    run->out_of_sequence += record->values[0] <= writer->read;
    __atomic_store_n(&writer->read, record->values[0], __ATOMIC_RELEASE);
    return 0;
}

static void begin(struct run *run, const struct world_shape *lanes, uint64_t patience_ns)
{
    const struct tl_reader_options options = {.patience_ns = patience_ns};
    struct world_shape shape = *lanes;
    shape.probes = PROBES;
    shape.sites = sites;
    shape.site_count = sizeof(sites) / sizeof(sites[0]);
    shape.actions = actions;
    shape.action_count = sizeof(actions) / sizeof(actions[0]);
    shape.operations = operations;
    shape.operation_count = sizeof(operations) / sizeof(operations[0]);
    run->world = world_make(&shape);
    run->event = (probed_fn *)world_function(&run->world, TL_HOOK_ENTER, 0);
    run->filtered = (probed_fn *)world_function(&run->world, TL_HOOK_ENTER, 1);
    run->counted = (probed_fn *)world_function(&run->world, TL_HOOK_COUNT, INLINE);
    run->world.area->heartbeat_max = INT64_MAX; /* with --block: as long as it takes */
    const struct tl_hit_control layout = *run->world.area;
    assert_int_equal(tl_reader_open(run->world.area, layout.area_size, &layout, &options, &run->reader), 0);
    run->running = WRITERS;
    for (int i = 0; i < WRITERS; i++) {
        run->writers[i].run = run;
        assert_int_equal(pthread_create(&run->writers[i].thread, NULL, hit, &run->writers[i]), 0);
    }
}

static struct tl_reader_totals finish(struct run *run, uint64_t counts[PROBES])
{
    struct tl_reader_totals totals;
    while (__atomic_load_n(&run->running, __ATOMIC_ACQUIRE))
        tl_reader_poll(run->reader, look_at, run);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(run->writers[i].thread, NULL);
    tl_reader_drain(run->reader, look_at, run);
    tl_reader_totals(run->reader, &totals);
    tl_reader_counts(run->reader, counts);
    tl_reader_close(run->reader);
    world_free(&run->world);
    assert_int_equal(run->strange, 0);
    assert_int_equal(totals.damaged + totals.unfinished, 0);
    return totals;
}

static void events_of_threads_come_in_order_with_their_threads_and_values(void **state)
{
    (void)state;
    static struct run run = {.paced = true};
    uint64_t counts[PROBES] = {0};
    const struct world_shape shape = {.ring_bytes = 1 << 20};
    begin(&run, &shape, UINT64_MAX);
    struct tl_reader_totals totals = finish(&run, counts);
    assert_int_equal(totals.seen, WRITERS * HITS);
    assert_int_equal(totals.lost + totals.missed + totals.late, 0);
    assert_int_equal(run.backwards + run.out_of_sequence, 0);
    assert_int_equal(counts[INLINE], WRITERS * HITS);
    assert_int_equal(counts[FILTERED], WRITERS * HITS / 2);
}

static void what_is_not_seen_was_counted(void **state)
{
    (void)state;
    static struct run run;
    uint64_t counts[PROBES] = {0};
    struct tl_reader_totals totals = {0};
    /* One lane of a thread's own, and one for all others: both too small. */
    const struct world_shape shape = {.ring_bytes = 4096, .lane_shift = 0, .lane_count = 2};
    begin(&run, &shape, 0);
    while (totals.lost == 0)
        tl_reader_totals(run.reader, &totals);
    totals = finish(&run, counts);
    assert_int_equal(totals.seen + totals.lost + totals.missed, WRITERS * HITS);
}

static void a_writer_that_waits_for_room_loses_nothing(void **state)
{
    (void)state;
    static struct run run;
    uint64_t counts[PROBES] = {0};
    const struct world_shape shape = {.flags = TL_HIT_BLOCK, .ring_bytes = 4096};
    begin(&run, &shape, UINT64_MAX);
    struct tl_reader_totals totals = finish(&run, counts);
    assert_int_equal(totals.seen, WRITERS * HITS);
    assert_int_equal(totals.lost + totals.missed, 0);
    assert_int_equal(run.out_of_sequence, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_of_threads_come_in_order_with_their_threads_and_values),
        cmocka_unit_test(what_is_not_seen_was_counted),
        cmocka_unit_test(a_writer_that_waits_for_room_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
