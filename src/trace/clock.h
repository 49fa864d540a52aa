/* SPDX-License-Identifier: MIT
 *
 * From the processor's time stamp counter to CLOCK_MONOTONIC. A clock is for one thread at a time. No function fails,
 * sleeps or allocates.
 */
#ifndef TRAPLINE_CLOCK_H
#define TRAPLINE_CLOCK_H

#include <stdint.h>

enum { TL_CLOCK_PAIRS = 128 };

struct tl_clock_pair {
    uint64_t tsc, ns;
};

struct tl_clock {
    struct tl_clock_pair pairs[TL_CLOCK_PAIRS]; /* rising in both */
    unsigned used;
    uint64_t last_tsc, last_ns; /* the last answer */
};

/* The time stamp counter, read after all earlier loads and before all later ones. */
uint64_t tl_clock_tsc(void);

/* An empty clock with its first pair. */
void tl_clock_init(struct tl_clock *clock);
/* Take a pair now and return it. Whatever happened before now is, from now on, between two pairs. */
struct tl_clock_pair tl_clock_refresh(struct tl_clock *clock);
/* Add a given pair. One that does not lie after the last is how a stopped or restarted counter looks: it replaces all
 * others. */
void tl_clock_add(struct tl_clock *clock, struct tl_clock_pair pair);
/* The time at `tsc`. For rising arguments the answers never fall. */
uint64_t tl_clock_ns(struct tl_clock *clock, uint64_t tsc);

#endif
