/* SPDX-License-Identifier: MIT
 *
 * A program that scribbles on the area: no crash, no endless loop, no step outside of it (the area is exactly as large
 * as it says, for sanitizers), and the reader finds its way back when the scribbling ends.
 */
#include "check.h"

#include <pthread.h>

#include "hostile.h"

enum { LANES = 3, RING = 1024, PROBES = 4 };

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* A value as an attacker would choose it: near limits, near sizes, or anything. */
static uint64_t nasty(uint64_t *seed)
{
    const uint64_t values[] = {0, 1, 7, 8, 40, 48, RING, RING - 8, RING + 8, UINT32_MAX, UINT64_MAX, 1ull << 63};
    uint64_t r = next_random(seed);
    return r & 1 ? values[(r >> 8) % (sizeof(values) / sizeof(values[0]))] : next_random(seed);
}

static void scribble(const struct area *area, uint64_t *seed)
{
    uint64_t r = next_random(seed);
    uint32_t lane = (uint32_t)(r >> 8) % LANES;
    uint64_t *words[] = {(uint64_t *)area->base + (r >> 16) % (area->size / 8), &area_lane(area, lane)->head,
                         &area_lane(area, lane)->tail, (uint64_t *)area_ring(area, lane) + (r >> 32) % (RING / 8),
                         (uint64_t *)area_ring(area, lane)};
    uint64_t *word = words[r % (sizeof(words) / sizeof(words[0]))];
    __atomic_store_n(word, nasty(seed), __ATOMIC_RELAXED);
    if (r >> 60 == 0) /* a plausible head now and then, so that rings are read deeply */
        __atomic_store_n(&area_lane(area, lane)->head, area_lane(area, lane)->tail + 8 * (r >> 40) % RING,
                         __ATOMIC_RELAXED);
}

static struct tl_reader *open_reader(const struct area *area)
{
    const struct tl_reader_options options = {.patience_ns = 0};
    struct tl_reader *reader;
    assert_int_equal(tl_reader_open(area->base, area->size, &area->layout, &options, &reader), 0);
    return reader;
}

/* Whatever has happened before, an honest event comes through. */
static void recovers(const struct area *area, struct tl_reader *reader, struct witness *w)
{
    for (uint32_t lane = 0; lane < LANES; lane++) {
        struct tl_lane *shared = area_lane(area, lane);
        shared->busy = 0;
        shared->head = 0;
    }
    tl_reader_drain(reader, witness, w);
    tl_reader_drain(reader, witness, w);
    uint64_t before = w->events;
    for (uint32_t lane = 0; lane < LANES; lane++)
        assert_true(area_event(area, lane, 1, 0, 1));
    tl_reader_drain(reader, witness, w);
    assert_int_equal(w->events - before, LANES);
}

static void scribbling_between_looks_does_no_harm(void **state)
{
    (void)state;
    struct area area = area_make(LANES, RING, PROBES, 2);
    struct tl_reader *reader = open_reader(&area);
    struct witness w = {.area = &area};
    uint64_t seed = 0x7261700a, counts[PROBES];

    for (int i = 0; i < 100000; i++) {
        for (uint64_t n = next_random(&seed) % 8; n; n--)
            scribble(&area, &seed);
        area_event(&area, (uint32_t)i % LANES, (uint64_t)i + 1, 0, 1);
        size_t given = i % 16 ? tl_reader_poll(reader, witness, &w) : tl_reader_drain(reader, witness, &w);
        assert_true(given <= 2 * LANES * (RING / sizeof(struct tl_event) + 1));
    }
    struct tl_reader_totals totals;
    tl_reader_totals(reader, &totals);
    tl_reader_counts(reader, counts);
    assert_true(totals.damaged > 1000);
    assert_true(totals.seen > 1000);
    recovers(&area, reader, &w);
    tl_reader_close(reader);
    area_free(&area);
}

struct vandal {
    const struct area *area;
    int stop;
};

static void *vandalise(void *context)
{
    struct vandal *vandal = context;
    uint64_t seed = 77;
    while (!__atomic_load_n(&vandal->stop, __ATOMIC_ACQUIRE))
        scribble(vandal->area, &seed);
    return NULL;
}

static void scribbling_during_looks_does_no_harm(void **state)
{
    (void)state;
    struct area area = area_make(LANES, RING, PROBES, 2);
    struct tl_reader *reader = open_reader(&area);
    struct witness w = {.area = &area};
    struct vandal vandal = {&area, 0};
    pthread_t thread;
    uint64_t counts[PROBES];

    assert_int_equal(pthread_create(&thread, NULL, vandalise, &vandal), 0);
    for (int i = 0; i < 20000; i++) {
        tl_reader_poll(reader, witness, &w);
        if (i % 256 == 0)
            tl_reader_counts(reader, counts);
    }
    __atomic_store_n(&vandal.stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    recovers(&area, reader, &w);
    tl_reader_close(reader);
    area_free(&area);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scribbling_between_looks_does_no_harm),
        cmocka_unit_test(scribbling_during_looks_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
