/* SPDX-License-Identifier: MIT
 *
 * Planning new sites and getting their trampolines into place; the text is not touched here, but for sites whose jumps
 * have to become an int3 to make room.
 */
#ifndef TRAPLINE_LIB_PLANNING_H
#define TRAPLINE_LIB_PLANNING_H

#include "engine.h"

/* Sites of one registration are planned in groups, by the tactics that are allowed. */
enum { PLANNING_GROUPS = 4 };
struct planning {
    struct site *const *fresh; /* by address */
    size_t count;
    struct tl_plan plans[PLANNING_GROUPS];
    size_t plan_count, mapped;
    struct tl_plan_room *rooms; /* what is left when all is in place */
    size_t room_count;
    bool pinned; /* there is something in the rooms that stays in any case */
    struct tl_area *areas;
    size_t area_count, mappings_left;
    bool remembered; /* that is what an earlier look has shown */
    struct site **demoted;
    size_t demoted_count;
};

/* Plan and map. The sites' `tactics` and the in-fields of `plan` are set; what `plan` says, `bytes` and `part` are
 * filled in. 0, or the errno of a refusal: *failed is the index of the site (count: of none), its plan.why says why. */
int planning_make(struct planning *planning, struct site *const *fresh, size_t count, size_t *failed,
                  struct tl_error *error);
/* It is in force: rooms and memory are the engine's. */
void planning_keep(struct planning *planning);
/* It is not: what was mapped goes, if no thread can be inside. */
void planning_drop(struct planning *planning);
/* We have unmapped something: what is known of the address space does not hold any more. */
void planning_forget_areas(void);

#endif
