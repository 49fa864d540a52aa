/* SPDX-License-Identifier: MIT */
#include "hit/event.h"

void tl_event_put_wrapped(const struct tl_hit *hit, uint32_t probe, uint64_t fixed, uint64_t *ring, uint64_t at)
{
    tl_event_put(hit, probe, fixed, ring, at, hit->area->lane_bytes / 8 - 1);
}
