/* SPDX-License-Identifier: MIT
 *
 * What the parts of one planning share. For this room only. Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_PLANNER_H
#define TRAPLINE_PLANNER_H

#include "probe/arena.h"

struct tl_planner {
    struct tl_job *jobs; /* of the sites, by address */
    size_t count;
    uint32_t tactics; /* allowed */
    bool guard;
    const struct tl_plan_options *options;
    struct tl_space space;   /* without what areas ask to keep clear… */
    struct tl_space yielded; /* …and without a small part of that only: for sites that find nothing else */
    struct tl_arenas arenas;
    struct tl_landings landings;
    int error; /* -ENOMEM, once it has happened */
};

/* cluster.c: the jobs from `first` on whose jumps may share bytes, each with the next; returns the end. */
size_t tl_cluster_end(const struct tl_planner *planner, size_t first);
/* The fewest bytes that one of them has to jump with. */
unsigned tl_cluster_room(const struct tl_planner *planner, size_t first, size_t end);
/* Give all guards their jumps, before anything else. */
void tl_cluster_place_guards(struct tl_planner *planner);
/* Give each a jump, or a reason. */
void tl_cluster_place(struct tl_planner *planner, size_t first, size_t end);

/* in_force.c: what sites of earlier plans mean for a job that has been begun. TL_WHY_NONE, or why it cannot be. */
enum tl_why tl_in_force_check(const struct tl_planner *planner, struct tl_job *job);
/* No job is to rely on the bytes of another. */
void tl_in_force_separate(struct tl_planner *planner);
/* Which of them have to become int3 for the jobs that are placed. 0 or -ENOMEM. */
int tl_in_force_demote(const struct tl_planner *planner, struct tl_plan *plan);

/* beyond.c: give sites that have their jumps the trampolines that come back behind them, where that is possible. */
void tl_beyond_make(struct tl_planner *planner);

#endif
