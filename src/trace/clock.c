/* SPDX-License-Identifier: MIT
 *
 * The time stamp counter's rate is not needed to read it, only two pairs (counter, time) around the moment asked for:
 * between them the time is a straight line. Events are always read after they happened, so the reader takes a pair at
 * its start and one at each look, and every event lies between two of them. There is no calibration to wait for,
 * nothing drifts, and as a new pair only adds a piece behind all events seen so far, no answer already given changes.
 *
 * Old pairs are thinned out, not dropped, so that an event which was held back for long still lies between two, and
 * an answer is wrong by no more than the pairs beside it are (some ten nanoseconds), however close they lie.
 */
#include "trace/clock.h"

#include <time.h>
#include <x86intrin.h>

enum { ATTEMPTS = 4, GOOD_GAP = 200 };

uint64_t tl_clock_tsc(void)
{
    _mm_lfence();
    uint64_t tsc = __rdtsc();
    _mm_lfence();
    return tsc;
}

/* A pair is as good as the two readings of the counter around the reading of the time are close: an interrupt may fall
 * between them, so the best of a few attempts counts. */
static struct tl_clock_pair measure(void)
{
    struct tl_clock_pair best = {0, 0};
    uint64_t best_gap = UINT64_MAX;
    for (int i = 0; i < ATTEMPTS && best_gap > GOOD_GAP; i++) {
        struct timespec now;
        uint64_t before = tl_clock_tsc();
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t after = tl_clock_tsc();
        if (after - before < best_gap) {
            best_gap = after - before;
            best.tsc = before + best_gap / 2;
            best.ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        }
    }
    return best;
}

static void thin_out(struct tl_clock *clock)
{
    unsigned kept = 1; /* the first and the last stay */
    for (unsigned i = 2; i < clock->used - 1; i += 2)
        clock->pairs[kept++] = clock->pairs[i];
    clock->pairs[kept++] = clock->pairs[clock->used - 1];
    clock->used = kept;
}

void tl_clock_add(struct tl_clock *clock, struct tl_clock_pair pair)
{
    struct tl_clock_pair *last = clock->used ? &clock->pairs[clock->used - 1] : NULL;
    if (last && (pair.tsc <= last->tsc || pair.ns < last->ns))
        clock->used = 0;
    if (clock->used == TL_CLOCK_PAIRS)
        thin_out(clock);
    clock->pairs[clock->used++] = pair;
}

struct tl_clock_pair tl_clock_refresh(struct tl_clock *clock)
{
    struct tl_clock_pair pair = measure();
    tl_clock_add(clock, pair);
    return pair;
}

void tl_clock_init(struct tl_clock *clock)
{
    clock->used = 0;
    clock->last_tsc = clock->last_ns = 0;
    tl_clock_refresh(clock);
}

/* The straight line through pairs `i` and `i + 1`, also beyond its ends. */
static uint64_t on_line(const struct tl_clock *clock, unsigned i, uint64_t tsc)
{
    const struct tl_clock_pair *a = &clock->pairs[i], *b = a + 1;
    uint64_t ticks = b->tsc - a->tsc, passed = b->ns - a->ns, product;
    if (tsc >= a->tsc && !__builtin_mul_overflow(tsc - a->tsc, passed, &product))
        return a->ns + product / ticks;
    __int128 ns = (__int128)a->ns + ((__int128)tsc - a->tsc) * (__int128)passed / (__int128)ticks;
    return ns < 0 ? 0 : (uint64_t)ns;
}

static uint64_t interpolate(const struct tl_clock *clock, uint64_t tsc)
{
    if (clock->used < 2)
        return clock->used ? clock->pairs[0].ns : 0;
    unsigned i = clock->used - 2; /* most events are recent */
    while (i > 0 && clock->pairs[i].tsc > tsc)
        i--;
    return on_line(clock, i, tsc);
}

uint64_t tl_clock_ns(struct tl_clock *clock, uint64_t tsc)
{
    uint64_t ns = interpolate(clock, tsc);
    if (tsc >= clock->last_tsc) {
        if (ns < clock->last_ns)
            ns = clock->last_ns; /* pairs were thinned out in between, or the counter restarted */
        clock->last_tsc = tsc;
        clock->last_ns = ns;
    }
    return ns;
}
