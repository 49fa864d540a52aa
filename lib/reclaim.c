/* SPDX-License-Identifier: MIT
 *
 * What dormant and replaced sites take up is used again when there is enough of it, and no thread is inside or may come
 * back: program counters and stacks of all threads are looked at. The trampolines become room for the next plans;
 * memory in which nothing is left that anybody needs is unmapped, the last arena excepted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "planning.h"

enum { ENOUGH = 256, PAGE = 4096, LANDING = 5, TRAMPOLINE_ALIGN = 16 };

/* Where a site's code lies: two trampolines and the landing of its jump. Returns how many. */
static size_t pieces(const struct site *site, struct tl_self_range out[3])
{
    const struct tl_site *plan = &site->plan;
    size_t count = 0;
    out[count++] = (struct tl_self_range){plan->trampoline, plan->trampoline + plan->trampoline_size};
    uint64_t beyond = plan->beyond ? plan->beyond : site->left_beyond;
    if (beyond)
        out[count++] = (struct tl_self_range){beyond, beyond + plan->beyond_size};
    if (site->landing)
        out[count++] = (struct tl_self_range){site->landing, site->landing + LANDING};
    return count;
}

static bool is_dormant(const struct site *site)
{
    return !site->user_count && !site->patched;
}

/* Those that might go. */
static size_t candidates(struct site **sites)
{
    size_t count = 0;
    for (size_t i = 0; i < engine.replaced_count; i++)
        if (!engine.replaced[i]->patched)
            sites[count++] = engine.replaced[i];
    for (size_t i = 0; i < engine.site_count; i++)
        if (is_dormant(engine.sites[i]))
            sites[count++] = engine.sites[i];
    return count;
}

static int by_start(const void *left, const void *right)
{
    const struct tl_self_range *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Which of these ranges some thread may be inside; they may overlap (several jumps share a landing), so they are merged
 * first. Leaves ranges[] sorted, merged and without those that are free of threads; returns how many are left. */
static int occupied(struct tl_self_range *ranges, size_t *count)
{
    size_t merged = 0;
    qsort(ranges, *count, sizeof *ranges, by_start);
    for (size_t i = 0; i < *count; i++) {
        if (merged && ranges[i].start < ranges[merged - 1].end) {
            if (ranges[i].end > ranges[merged - 1].end)
                ranges[merged - 1].end = ranges[i].end;
        } else {
            ranges[merged++] = ranges[i];
        }
    }
    uint8_t *inside = calloc(merged + 1, 1);
    int code = inside ? tl_self_inside(engine.self, ranges, merged, inside, NULL) : -ENOMEM;
    size_t left = 0;
    for (size_t i = 0; i < merged && !code; i++)
        if (inside[i])
            ranges[left++] = ranges[i];
    free(inside);
    *count = left;
    return code;
}

static bool meets(const struct site *site, const struct tl_self_range *ranges, size_t count)
{
    struct tl_self_range own[3];
    size_t owns = pieces(site, own);
    for (size_t i = 0; i < owns; i++)
        for (size_t k = 0; k < count; k++)
            if (own[i].start < ranges[k].end && ranges[k].start < own[i].end)
                return true;
    return false;
}

/* ---- rooms ---- */

static int by_room(const void *left, const void *right)
{
    const struct tl_plan_room *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

/* What a trampoline takes up, with what lies between it and the next one. */
static struct tl_plan_room room_of(uint64_t gate, uint64_t addr, uint64_t size)
{
    return (struct tl_plan_room){gate, addr, (size + TRAMPOLINE_ALIGN - 1) & ~(uint64_t)(TRAMPOLINE_ALIGN - 1)};
}

/* The trampolines of these sites become rooms; what lies side by side becomes one. */
static int make_rooms(struct site *const *sites, size_t count)
{
    struct tl_plan_room *rooms = realloc(engine.rooms, (engine.room_count + 2 * count + 1) * sizeof *rooms);
    if (!rooms)
        return -ENOMEM;
    engine.rooms = rooms;
    size_t all = engine.room_count, merged = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tl_site *plan = &sites[i]->plan;
        uint64_t beyond = plan->beyond ? plan->beyond : sites[i]->left_beyond;
        rooms[all++] = room_of(plan->hook.gate, plan->trampoline, plan->trampoline_size);
        if (beyond)
            rooms[all++] = room_of(plan->hook.gate, beyond, plan->beyond_size);
    }
    qsort(rooms, all, sizeof *rooms, by_room);
    for (size_t i = 0; i < all; i++) {
        struct tl_plan_room *last = merged ? &rooms[merged - 1] : NULL;
        uint64_t end = rooms[i].addr + rooms[i].size;
        if (last && last->gate == rooms[i].gate && last->addr + last->size >= rooms[i].addr)
            last->size = end > last->addr + last->size ? end - last->addr : last->size;
        else if (rooms[i].size)
            rooms[merged++] = rooms[i];
    }
    engine.room_count = merged;
    return 0;
}

/* ---- memory ---- */

static struct mapped *mapped_at(uint64_t addr)
{
    size_t low = 0, high = engine.memory_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (engine.memory[middle].addr + engine.memory[middle].size <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low < engine.memory_count && addr >= engine.memory[low].addr ? &engine.memory[low] : NULL;
}

static int by_mapped(const void *left, const void *right)
{
    const struct mapped *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

static void mark(const struct site *site)
{
    struct tl_self_range own[3];
    size_t owns = pieces(site, own);
    for (size_t i = 0; i < owns; i++)
        for (uint64_t at = own[i].start; at < own[i].end; at += LANDING - 1) {
            struct mapped *mapped = mapped_at(at);
            if (mapped)
                mapped->used = true;
            at = mapped ? mapped->addr + mapped->size - (LANDING - 1) : at;
        }
}

static void drop_rooms(uint64_t gate)
{
    size_t kept = 0;
    for (size_t i = 0; i < engine.room_count; i++)
        if (engine.rooms[i].gate != gate)
            engine.rooms[kept++] = engine.rooms[i];
    engine.room_count = kept;
}

/* Unmap what no site that is left lies in. */
static void sweep(void)
{
    if (!engine.memory_count)
        return;
    qsort(engine.memory, engine.memory_count, sizeof *engine.memory, by_mapped);
    for (size_t i = 0; i < engine.memory_count; i++)
        engine.memory[i].used = false;
    for (size_t i = 0; i < engine.site_count; i++)
        mark(engine.sites[i]);
    for (size_t i = 0; i < engine.replaced_count; i++)
        mark(engine.replaced[i]);
    bool arena = false;
    for (const struct stub *stub = engine.stubs; stub; stub = stub->next)
        if (mapped_at(stub->addr))
            mapped_at(stub->addr)->used = true;
    for (size_t i = 0; i < engine.memory_count; i++)
        arena = arena || (engine.memory[i].gate && engine.memory[i].used);
    size_t kept = 0;
    for (size_t i = 0; i < engine.memory_count; i++) {
        struct mapped mapped = engine.memory[i];
        if (!mapped.used && mapped.gate && !arena)
            mapped.used = arena = true; /* the last one stays, for the next probe */
        if (!mapped.used && !tl_self_unmap(engine.self, mapped.addr, mapped.size)) {
            if (mapped.gate) {
                tl_self_unmap(engine.self, mapped.gate, PAGE);
                drop_rooms(mapped.gate);
            }
            continue;
        }
        engine.memory[kept++] = mapped;
    }
    engine.memory_count = kept;
    planning_forget_areas();
}

/* ---- all of it ---- */

/* Its lists are in nobody's way any more, and what it has missed no longer counts with that of the newer ones. */
static void unlink_site(struct site *site)
{
    uint64_t missed = tl_call_missed(site->before.index);
    struct site *newest = site->newer;
    while (newest && newest->newer)
        newest = newest->newer;
    for (size_t i = 0; newest && i < newest->user_count; i++) {
        struct entry *entry = newest->users[i].entry;
        if (entry->enabled && entry->sites[0] == newest && (i == 0 || newest->users[i - 1].entry != entry))
            entry->missed_base -= missed;
    }
    tl_call_swap(site->before.index, NULL);
    if (site->has_after)
        tl_call_swap(site->behind.index, NULL);
    if (site->newer)
        site->newer->older = site->older;
    if (site->older)
        site->older->newer = site->newer;
}

/* Take these sites, which nobody is inside of, out of the engine. */
static void forget(struct site **sites, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        sites[i]->leaves = true;
    for (size_t i = 0; i < engine.replaced_count; i++)
        if (!engine.replaced[i]->leaves)
            engine.replaced[kept++] = engine.replaced[i];
    engine.replaced_count = kept;
    kept = 0;
    for (size_t i = 0; i < engine.site_count; i++)
        if (!engine.sites[i]->leaves)
            engine.sites[kept++] = engine.sites[i];
    engine.site_count = kept;
}

void reclaim(bool all)
{
    size_t most = engine.site_count + engine.replaced_count;
    if (!all && engine.dormant < ENOUGH)
        return;
    engine.dormant = 0;
    if (!most)
        return;
    struct site **sites = calloc(most, sizeof(struct site *));
    struct tl_self_range *ranges = calloc(3 * most, sizeof *ranges);
    size_t count = sites ? candidates(sites) : 0, pieces_count = 0, kept = 0;
    for (size_t i = 0; i < count && ranges; i++)
        pieces_count += pieces(sites[i], ranges + pieces_count);
    if (count && ranges && !occupied(ranges, &pieces_count)) {
        for (size_t i = 0; i < count; i++)
            if (!meets(sites[i], ranges, pieces_count))
                sites[kept++] = sites[i];
        if (kept && !make_rooms(sites, kept)) {
            forget(sites, kept);
            if (!engine_publish(NULL)) { /* else the host knows their parts: they stay for good */
                for (size_t i = 0; i < kept; i++) {
                    unlink_site(sites[i]);
                    site_free(sites[i]);
                }
                sweep();
            }
        }
    }
    free(sites);
    free(ranges);
}
