/* SPDX-License-Identifier: MIT
 *
 * Which instructions a probe acts at, and what stands there now.
 *
 * An address is believed only when the function that holds it, read from its beginning, has an instruction starting
 * there. site.c sees to what stands there now.
 */
#include "probe/selecting.h"
#include "probe/site.h"

#include "base/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add_place(struct tl_selecting *selecting, uint32_t probe, uint64_t addr, unsigned exit, enum tl_why why)
{
    struct tl_selection *selection = selecting->selection;
    struct tl_place *grown =
        tl_array_grown(selection->places, selection->place_count, &selecting->place_room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    selection->places = grown;
    selection->places[selection->place_count++] =
        (struct tl_place){.addr = addr, .probe = probe, .site = UINT32_MAX, .exit = (uint8_t)exit, .why = (uint8_t)why};
    return 0;
}

/* The pieces of a function, swept. */
struct swept {
    struct tl_range ranges[TL_PARTS_MAX];
    struct tl_sweep sweeps[TL_PARTS_MAX];
    size_t count;
};

static void swept_free(struct swept *swept)
{
    for (size_t i = 0; i < swept->count; i++)
        tl_sweep_free(&swept->sweeps[i]);
}

static int sweep_function(const struct tl_object *object, const struct tl_function *function, struct swept *swept)
{
    struct tl_part parts[TL_PARTS_MAX];
    size_t count = tl_object_parts(object, function, parts, TL_PARTS_MAX);
    swept->count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t available;
        const uint8_t *bytes = tl_object_text(object, parts[i].addr, &available);
        if (!bytes || !parts[i].size)
            continue;
        struct tl_range range = {parts[i].addr, parts[i].size < available ? parts[i].size : available, bytes};
        swept->ranges[swept->count] = range;
        if (tl_sweep_range(&range, NULL, 0, &swept->sweeps[swept->count])) {
            swept_free(swept);
            return -ENOMEM;
        }
        swept->count++;
    }
    return 0;
}

int tl_places_at(struct tl_selecting *selecting, uint32_t index)
{
    struct tl_probe *probe = &selecting->selection->probes[index];
    uint64_t file_addr = probe->addr - probe->module->bias;
    enum tl_why why = TL_WHY_NONE;
    if (!probe->function)
        why = TL_WHY_NOT_CODE;
    else if (file_addr != probe->function->addr) {
        struct swept swept;
        if (sweep_function(probe->module->object, probe->function, &swept))
            return -ENOMEM;
        why = TL_WHY_NOT_CODE;
        for (size_t i = 0; i < swept.count; i++)
            if (file_addr - swept.ranges[i].addr < swept.ranges[i].size)
                why = tl_sweep_check(&swept.sweeps[i], file_addr);
        swept_free(&swept);
    }
    probe->why = (uint8_t)why;
    return why == TL_WHY_NONE ? add_place(selecting, index, probe->addr, 0, TL_WHY_NONE) : 0;
}

int tl_places_of_exits(struct tl_selecting *selecting, uint32_t index)
{
    struct tl_probe *probe = &selecting->selection->probes[index];
    if (!probe->function) {
        probe->why = TL_WHY_NO_EXIT;
        return 0;
    }
    uint64_t bias = probe->module->bias;
    struct swept swept;
    if (sweep_function(probe->module->object, probe->function, &swept))
        return -ENOMEM;
    struct tl_exit *exits = NULL;
    size_t count = 0;
    int error = tl_sweep_exits(swept.ranges, swept.sweeps, swept.count, &exits, &count);
    for (size_t i = 0; i < count && !error; i++)
        error = add_place(selecting, index, exits[i].addr + bias, exits[i].kind + 1u, TL_WHY_NONE);
    for (size_t i = 0; i < swept.count; i++)
        probe->parts[i] = (struct tl_part){swept.ranges[i].addr + bias, swept.ranges[i].size};
    probe->part_count = (uint8_t)swept.count;
    if (!error && !count)
        probe->why = TL_WHY_NO_EXIT;
    free(exits);
    swept_free(&swept);
    return error;
}

int tl_places_every_instruction(struct tl_selecting *selecting, const struct tl_spec *spec,
                                const struct tl_module *module, const struct tl_function *function)
{
    struct swept swept;
    if (sweep_function(module->object, function, &swept))
        return -ENOMEM;
    int error = 0;
    for (size_t i = 0; i < swept.count && !error; i++) {
        for (uint64_t at = tl_sweep_next(&swept.sweeps[i], swept.ranges[i].addr); at && !error;
             at = tl_sweep_next(&swept.sweeps[i], at + 1)) {
            struct tl_probe *probe = tl_selecting_probe(selecting);
            if (!probe) {
                error = -ENOMEM;
                break;
            }
            probe->spec = spec;
            probe->module = module;
            probe->function = function;
            probe->addr = at + module->bias;
            probe->at_entry = at == function->addr;
            char name[512];
            long long offset = (long long)(at - function->addr);
            if (!function->name)
                snprintf(name, sizeof name, "0x%llx", (unsigned long long)at);
            else if (!offset)
                snprintf(name, sizeof name, "%s", function->name);
            else
                snprintf(name, sizeof name, "%s%c0x%llx", function->name, offset < 0 ? '-' : '+',
                         (unsigned long long)llabs(offset));
            probe->name = strdup(name);
            error = probe->name ? add_place(selecting, (uint32_t)(selecting->selection->probe_count - 1), probe->addr,
                                            0, TL_WHY_NONE)
                                : -ENOMEM;
        }
    }
    swept_free(&swept);
    return error;
}

static int by_address_then_probe(const void *left, const void *right)
{
    const struct tl_place *a = left, *b = right;
    if (a->addr != b->addr)
        return a->addr < b->addr ? -1 : 1;
    return a->probe < b->probe ? -1 : a->probe > b->probe;
}

/* Live bytes at addr: as many as can be had of `size`. */
static size_t live_text(void *context, uint64_t addr, uint8_t *bytes, size_t size)
{
    struct tl_selecting *selecting = context;
    if (addr < selecting->window_addr || addr + size > selecting->window_addr + selecting->window_size) {
        const struct tl_select_options *options = selecting->options;
        selecting->window_addr = addr & ~4095ull;
        selecting->window_size = sizeof selecting->window;
        /* Smaller and smaller near the end of a mapping. */
        while (selecting->window_size &&
               options->read(options->host, selecting->window_addr, selecting->window, selecting->window_size))
            selecting->window_size = selecting->window_size > 4096 ? (selecting->window_size / 2 + 4095) & ~4095ull : 0;
    }
    if (addr - selecting->window_addr >= selecting->window_size)
        return 0;
    size_t available = selecting->window_size - (addr - selecting->window_addr);
    if (available > size)
        available = size;
    memcpy(bytes, selecting->window + (addr - selecting->window_addr), available);
    return available;
}

int tl_places_to_sites(struct tl_selecting *selecting)
{
    struct tl_selection *selection = selecting->selection;
    if (selection->place_count)
        qsort(selection->places, selection->place_count, sizeof *selection->places, by_address_then_probe);
    selection->sites = calloc(selection->place_count ? selection->place_count : 1, sizeof *selection->sites);
    if (!selection->sites)
        return -ENOMEM;
    for (size_t i = 0, next; i < selection->place_count; i = next) {
        struct tl_place *places = selection->places;
        bool before = false;
        for (next = i; next < selection->place_count && places[next].addr == places[i].addr; next++)
            before |= places[next].exit != TL_EXIT_BRANCH + 1;
        struct tl_site *site = &selection->sites[selection->site_count];
        memset(site, 0, sizeof *site);
        site->addr = places[i].addr;
        site->mode = before ? TL_SITE_BEFORE : TL_SITE_TAKEN;
        const struct tl_probe *probe = &selection->probes[places[i].probe];
        enum tl_why why = tl_site_inspect(probe->module, probe->function, live_text, selecting, site);
        for (size_t k = i; k < next; k++) {
            /* A conditional exit needs its hook on the taken edge; it cannot share the site with one that needs it
             * before. */
            places[k].why = (uint8_t)(why                                              ? why
                                      : before && places[k].exit == TL_EXIT_BRANCH + 1 ? TL_WHY_CONFLICT
                                                                                       : TL_WHY_NONE);
            places[k].site = places[k].why ? UINT32_MAX : (uint32_t)selection->site_count;
        }
        if (why == TL_WHY_NONE)
            selection->site_count++;
    }
    return 0;
}
