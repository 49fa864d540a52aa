/* SPDX-License-Identifier: MIT
 *
 * Free address space: the gaps between the areas of a process. For this room only. Pure but for allocation. Threads
 * and signals: as plan.h.
 */
#ifndef TRAPLINE_SPACE_H
#define TRAPLINE_SPACE_H

#include <stdbool.h>

#include "probe/plan.h"

enum { TL_PAGE = 4096 };

/* The pages of [start, end) are free. */
struct tl_gap {
    uint64_t start, end;
};
struct tl_space {
    struct tl_gap *gaps; /* in order of address, never empty, never touching */
    size_t count, room;
};

/* Areas in any order, overlaps allowed; what they ask to keep clear, divided by `yield`, counts as taken. 0 or -ENOMEM.
 */
int tl_space_init(struct tl_space *space, const struct tl_area *areas, size_t count, unsigned yield, uint64_t lowest,
                  uint64_t highest);
void tl_space_free(struct tl_space *space);

bool tl_space_is_free(const struct tl_space *space, uint64_t start, uint64_t end);
/* The lowest page of [start, end) that is free, or the highest free one; false if there is none. `start` and `end` are
 * whole pages. */
bool tl_space_first_page(const struct tl_space *space, uint64_t start, uint64_t end, uint64_t *page);
bool tl_space_last_page(const struct tl_space *space, uint64_t start, uint64_t end, uint64_t *page);
/* The free place of `size` bytes (whole pages) closest to `near`, and take it. 0; -ENOSPC: none within `reach` of
 * it; -ENOMEM. */
int tl_space_take_near(struct tl_space *space, uint64_t near, uint64_t size, uint64_t reach, uint64_t *addr);

/* Take what is free of a range. 0 or -ENOMEM. */
int tl_space_take(struct tl_space *space, uint64_t start, uint64_t end);

#endif
