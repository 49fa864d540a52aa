/* SPDX-License-Identifier: MIT
 *
 * The sites by address: a sorted array of pointers, because neighbours matter as much as the site itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

size_t sites_at(uint64_t addr)
{
    size_t low = 0, high = engine.site_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (engine.sites[middle]->plan.addr < addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct site *sites_find(uint64_t addr)
{
    size_t at = sites_at(addr);
    return at < engine.site_count && engine.sites[at]->plan.addr == addr ? engine.sites[at] : NULL;
}

/* See that an array of `size`-byte elements has room for `wanted` of them. */
static int grow(void **array, size_t *room, size_t wanted, size_t size)
{
    if (wanted <= *room)
        return 0;
    size_t larger = wanted + wanted / 2 + 64;
    void *grown = realloc(*array, larger * size);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *room = larger;
    return 0;
}

int sites_reserve(size_t more)
{
    struct engine *e = &engine;
    void *sites = e->sites, *replaced = e->replaced, *indices = e->free_indices;
    /* Each site has two indices at most, and all of them may become free. */
    int error = grow(&sites, &e->site_room, e->site_count + more, sizeof *e->sites);
    e->sites = sites;
    if (!error)
        error = grow(&replaced, &e->replaced_room, e->replaced_count + e->site_count + more, sizeof *e->replaced);
    e->replaced = replaced;
    if (!error)
        error = grow(&indices, &e->free_index_room, e->next_index + 2 * more, sizeof *e->free_indices);
    e->free_indices = indices;
    return error;
}

void sites_insert(struct site *const *sites, size_t count)
{
    if (count == 1) {
        size_t at = sites_at(sites[0]->plan.addr);
        memmove(engine.sites + at + 1, engine.sites + at, (engine.site_count - at) * sizeof *engine.sites);
        engine.sites[at] = sites[0];
    } else if (count) {
        /* From the end on, so that it needs no further memory. Both are sorted. */
        size_t old = engine.site_count, fresh = count;
        for (size_t at = old + fresh; fresh; at--)
            engine.sites[at - 1] = old && engine.sites[old - 1]->plan.addr > sites[fresh - 1]->plan.addr
                                       ? engine.sites[--old]
                                       : sites[--fresh];
    }
    engine.site_count += count;
}

void sites_remove(const struct site *site)
{
    size_t at = sites_at(site->plan.addr);
    engine.site_count--;
    memmove(engine.sites + at, engine.sites + at + 1, (engine.site_count - at) * sizeof *engine.sites);
}

int site_indices(struct site *site)
{
    struct lists *lists[2] = {&site->before, site->has_after ? &site->behind : NULL};
    for (size_t i = 0; i < 2 && lists[i]; i++) {
        if (engine.free_index_count)
            lists[i]->index = engine.free_indices[--engine.free_index_count];
        else if (engine.next_index < TL_CALL_INDEX_MAX - 1)
            lists[i]->index = ++engine.next_index; /* 0 is nobody's */
        else
            return -ENOSPC;
    }
    return 0;
}

void site_free(struct site *site)
{
    if (!site)
        return;
    struct lists *lists[2] = {&site->before, &site->behind};
    for (size_t i = 0; i < 2; i++) {
        if (lists[i]->index)
            engine.free_indices[engine.free_index_count++] = lists[i]->index;
        free(lists[i]->memory[0]);
        free(lists[i]->larger[0]);
    }
    tl_traps_part_free(site->part);
    free(site->users);
    free(site->stay);
    free(site);
}
