/* SPDX-License-Identifier: MIT
 *
 * A target with the broker armed as the tool does it: guards on all its system calls of interest, and maybe a
 * breakpoint.
 */
#ifndef TESTS_REMOTE_ARMED_H
#define TESTS_REMOTE_ARMED_H

#include "common.h"
#include "probe/apply.h"
#include "probe/guards.h"

/* Where the runtime is mapped, the broker behind it. */
#define ARMED_RUNTIME 0x600000000000ull
#define ARMED_BROKER (ARMED_RUNTIME + (1 << 20))
/* Of the region's area. */
#define ARMED_AREA (1 << 20)

struct armed {
    struct tl_remote *remote;
    struct tl_modules modules;
    struct tl_guards guards;
    struct tl_site *sites;
    size_t site_count;
    struct tl_plan plan;
    struct tl_applied applied;
    struct tl_remote_region region;
    void *tables;
    uint64_t watches; /* where in the region's area a table of watches stands (src/hit/watch.h); 0: there is none */
};

/* Open the target and plan: guards, and a site at `probe`, an instruction of `probe_length` bytes, unless that is 0. */
void armed_plan(struct armed *a, struct target *t, uint64_t probe, unsigned probe_length);
int armed_apply(struct armed *a); /* as tl_apply */
/* All is taken out, and the target closed. */
void armed_end(struct armed *a);
void armed_free(struct armed *a); /* our side only */
/* Whether `pc` is in memory of ours. */
bool armed_holds(const struct armed *a, uint64_t pc);

#endif
