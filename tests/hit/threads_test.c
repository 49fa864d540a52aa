/* SPDX-License-Identifier: MIT
 *
 * Counts and events are exact under threads, whether or not there is room for all of them.
 */
#include "hits.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { THREADS = 8, HITS = 20000 };

static void *work(void *unused)
{
    hits_run(HITS);
    return unused;
}

static atomic_bool done;

static void *read_all(void *seen)
{
    while (!atomic_load(&done)) {
        *(uint64_t *)seen += world_drain(&hits_world);
        sched_yield();
    }
    return NULL;
}

static void run_threads(struct world_shape shape)
{
    pthread_t threads[THREADS], reader;
    uint64_t seen = 0;
    hits_make(shape);
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&reader, NULL, read_all, &seen), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&done, true);
    pthread_join(reader, NULL);
    hits_check_exact(seen + world_drain(&hits_world), (uint64_t)THREADS * HITS);
    world_free(&hits_world);
}

static void threads_are_exact(void **unused)
{
    (void)unused;
    run_threads((struct world_shape){.flags = 0});
}

/* Two blocks and two lanes for eight threads: most count in the overflow block and share three lanes. */
static void threads_are_exact_without_room_for_all(void **unused)
{
    (void)unused;
    run_threads((struct world_shape){.table_shift = 1, .lane_shift = 1, .lane_count = 5, .ring_bytes = 4096});
}

static void with_a_live_reader_blocking_loses_nothing(void **unused)
{
    (void)unused;
    pthread_t thread;
    uint64_t seen = 0;
    hits_make((struct world_shape){.flags = TL_HIT_BLOCK, .ring_bytes = 4096});
    hits_world.area->heartbeat_max = INT64_MAX;
    hits_world.area->heartbeat = __builtin_ia32_rdtsc();
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&thread, NULL, read_all, &seen), 0);
    hits_run(HITS);
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    seen += world_drain(&hits_world);
    assert_int_equal(world_lost(&hits_world), 0);
    assert_int_equal(seen, HITS);
    world_free(&hits_world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_exact),
        cmocka_unit_test(threads_are_exact_without_room_for_all),
        cmocka_unit_test(with_a_live_reader_blocking_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
