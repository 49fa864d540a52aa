/* SPDX-License-Identifier: MIT */
#include "places.h"

#include <stdlib.h>
#include <string.h>

#include "probe/selecting.h"

static enum place_exit exit_of(const struct tl_place *place)
{
    if (!place->exit)
        return PLACE_NO_EXIT;
    switch ((enum tl_exit_kind)(place->exit - 1)) {
    case TL_EXIT_RET:
        return PLACE_EXIT_RET;
    case TL_EXIT_TAIL:
        return PLACE_EXIT_TAIL;
    default:
        return PLACE_EXIT_MAYBE;
    }
}

static int select_all(struct tl_selecting *selecting, struct place_request *requests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tl_probe *probe = tl_selecting_probe(selecting);
        if (!probe)
            return -ENOMEM;
        probe->module = requests[i].where.module;
        probe->function = requests[i].where.function;
        probe->addr = requests[i].where.addr;
        probe->is_return = requests[i].exits;
        int error =
            requests[i].exits ? tl_places_of_exits(selecting, (uint32_t)i) : tl_places_at(selecting, (uint32_t)i);
        if (error)
            return error;
    }
    return tl_places_to_sites(selecting);
}

static void answer(const struct tl_selection *selection, struct place_request *requests)
{
    for (size_t i = 0; i < selection->probe_count; i++) {
        const struct tl_probe *probe = &selection->probes[i];
        requests[i].why = probe->why;
        requests[i].part_count = probe->part_count;
        memcpy(requests[i].parts, probe->parts, sizeof requests[i].parts);
    }
}

int places_find(struct place_request *requests, size_t count, const struct modules *modules,
                int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host, struct places *places)
{
    _Static_assert((int)PLACE_PARTS_MAX == (int)TL_PARTS_MAX, "parts");
    memset(places, 0, sizeof *places);
    struct tl_selection selection = {0};
    struct tl_select_options options = {.read = read, .host = host};
    struct tl_selecting *selecting = calloc(1, sizeof *selecting); /* it has a window of 64 KiB in it */
    if (!selecting)
        return -ENOMEM;
    selecting->options = &options;
    selecting->modules = &modules->loaded;
    selecting->selection = &selection;
    int error = select_all(selecting, requests, count);
    free(selecting);
    if (!error) {
        places->places = calloc(selection.place_count + 1, sizeof *places->places);
        error = places->places ? 0 : -ENOMEM;
    }
    if (!error) {
        answer(&selection, requests);
        for (size_t i = 0; i < selection.place_count; i++) {
            const struct tl_place *place = &selection.places[i];
            places->places[i] =
                (struct place){place->addr, place->probe, place->site, (uint8_t)exit_of(place), place->why};
        }
        places->count = selection.place_count;
        places->sites = selection.sites;
        places->site_count = selection.site_count;
        selection.sites = NULL;
    }
    tl_selection_free(&selection);
    return error;
}

void places_free(struct places *places)
{
    free(places->places);
    free(places->sites);
    memset(places, 0, sizeof *places);
}
