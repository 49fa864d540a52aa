/* SPDX-License-Identifier: MIT */
#include "probe/assemble.h"

#include <stdlib.h>

/* A place is lost when its site was refused; a probe is when one of its places was. */
static void refuse_probes(struct tl_selection *selection)
{
    for (size_t i = 0; i < selection->place_count; i++) {
        struct tl_place *place = &selection->places[i];
        struct tl_probe *probe = &selection->probes[place->probe];
        if (place->site != UINT32_MAX && selection->sites[place->site].why != TL_WHY_NONE) {
            place->why = selection->sites[place->site].why;
            place->site = UINT32_MAX;
        }
        if (place->why != TL_WHY_NONE && probe->why == TL_WHY_NONE)
            probe->why = place->why;
    }
}

/* Places of refused probes at sites that are in the plan. */
static size_t stray_places(const struct tl_selection *selection)
{
    size_t strays = 0;
    for (size_t i = 0; i < selection->place_count; i++)
        strays +=
            selection->places[i].site != UINT32_MAX && selection->probes[selection->places[i].probe].why != TL_WHY_NONE;
    return strays;
}

/* Let go of stray places, and of sites that nobody wants any more. */
static int drop_strays(struct tl_selection *selection)
{
    uint32_t *moved = calloc(selection->site_count, sizeof *moved);
    if (!moved)
        return -ENOMEM;
    for (size_t i = 0; i < selection->place_count; i++) {
        struct tl_place *place = &selection->places[i];
        if (selection->probes[place->probe].why != TL_WHY_NONE)
            place->site = UINT32_MAX;
        if (place->site != UINT32_MAX)
            moved[place->site] = 1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < selection->site_count; i++)
        if (moved[i]) {
            moved[i] = (uint32_t)kept;
            selection->sites[kept++] = selection->sites[i];
        }
    selection->site_count = kept;
    for (size_t i = 0; i < selection->place_count; i++)
        if (selection->places[i].site != UINT32_MAX)
            selection->places[i].site = moved[selection->places[i].site];
    free(moved);
    return 1;
}

int tl_selection_settle(struct tl_selection *selection)
{
    refuse_probes(selection);
    if (stray_places(selection))
        return drop_strays(selection);
    for (size_t i = 0; i < selection->place_count; i++) {
        const struct tl_place *place = &selection->places[i];
        struct tl_probe *probe = &selection->probes[place->probe];
        if (place->site != UINT32_MAX && probe->tactic < selection->sites[place->site].tactic)
            probe->tactic = selection->sites[place->site].tactic;
    }
    return 0;
}
