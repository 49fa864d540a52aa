/* SPDX-License-Identifier: MIT
 *
 * A stand-in for the runtime: an area as src/hit/abi.h describes it, and a writer of lanes in plain C.
 */
#ifndef TRAPLINE_TEST_PRODUCER_H
#define TRAPLINE_TEST_PRODUCER_H

#include <stdbool.h>
#include <stddef.h>

#include "hit/abi.h"

struct area {
    uint8_t *base; /* of exactly `size` bytes, so that a sanitizer sees each step out of it */
    size_t size;
    struct tl_hit_control layout; /* the tool's own copy */
};

/* `table_shift` < 0: no count blocks. Aborts when there is no memory. */
struct area area_make(uint32_t lanes, uint64_t ring_bytes, uint32_t probes, int table_shift);
void area_free(struct area *area);

struct tl_hit_control *area_control(const struct area *area);
struct tl_lane *area_lane(const struct area *area, uint32_t lane);
uint8_t *area_ring(const struct area *area, uint32_t lane);
uint64_t *area_lane_counts(const struct area *area, uint32_t lane);
uint64_t *area_missed(const struct area *area); /* by probe */
struct tl_count_block *area_block(const struct area *area, uint64_t block);

/* Append bytes (a multiple of 8) to a lane's ring, across its end, and make them visible. False, and one more lost,
 * where there is no room. */
bool area_append(const struct area *area, uint32_t lane, const void *bytes, uint32_t size);
/* The same with a plain event without values. */
bool area_event(const struct area *area, uint32_t lane, uint64_t tsc, uint32_t probe, uint32_t tid);

/* A whole hit as the runtime does it: by the thread's own lane (where `tid` has one: there must be but one such
 * thread), else one that is anybody's, else it is missed. */
void area_hit(const struct area *area, uint32_t probe, uint32_t tid, uint64_t value);

#endif
