/* SPDX-License-Identifier: MIT
 *
 * The tables by which the signal broker knows sites and trampolines (struct tl_broker_tables, src/hit/broker.h): which
 * trap belongs to which site, and where a thread that faults in a copy would be in the program.
 *
 * They are made from the sites alone, as tl_plan_build has left them. Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_TRAPS_H
#define TRAPLINE_TRAPS_H

#include "probe/plan.h"

/* One site's part. Making it decodes and copies; putting parts together is little work, so whoever has many sites keeps
 * their parts. */
struct tl_traps_part;
int tl_traps_part_make(const struct tl_site *site, uint32_t index, struct tl_traps_part **part); /* 0 or -ENOMEM */
uint64_t tl_traps_part_addr(const struct tl_traps_part *part); /* the site's */
/* The site is taken back, but threads may still come to where its int3 was (TL_TRAP_GONE); or is in place again. */
void tl_traps_part_gone(struct tl_traps_part *part, bool gone);
void tl_traps_part_free(struct tl_traps_part *part); /* NULL is allowed */

struct tl_traps_memory {
    uint64_t start, end;
};

/* Put the tables together. `memory`: all that is ours in the process (trampolines, landings, runtime), any order. The
 * image is position independent; free() it. Parts of one address are the caller's mistake. 0, -ENOMEM. */
int tl_traps_build(const struct tl_traps_part *const *parts, size_t count, const struct tl_traps_memory *memory,
                   size_t memory_count, void **image, size_t *size);

/* The same for sites of one plan: site i has index i; sites that are not in the plan have no part. */
int tl_traps_of_sites(const struct tl_site *sites, size_t count, const struct tl_traps_memory *memory,
                      size_t memory_count, void **image, size_t *size);

#endif
