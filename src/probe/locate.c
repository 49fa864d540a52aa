/* SPDX-License-Identifier: MIT
 *
 * Where a thread that is found in the plan's memory would be without it. Nothing is kept for this but the plan: on a
 * landing page the stubs are followed to the trampoline that they lead to; in a trampoline the copy, or each of several
 * (beyond.c), is made once more, for its marks.
 */
#include <errno.h>
#include <string.h>

#include "probe/trampoline.h"

#include "base/array.h"

/* Of the mapping that holds addr: the pool's bytes, and how many follow. NULL: not the plan's. */
static const uint8_t *mapped(const struct tl_plan *plan, uint64_t addr, uint64_t *available)
{
    size_t low = 0, high = plan->map_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct tl_plan_map *map = &plan->maps[middle];
        if (addr < map->addr) {
            high = middle;
        } else if (addr - map->addr >= map->size) {
            low = middle + 1;
        } else {
            *available = map->size - (addr - map->addr);
            return plan->pool + map->pool + (addr - map->addr);
        }
    }
    return NULL;
}

/* The site whose trampoline, or one of whose two, holds addr; or NULL. */
static const struct tl_site *site_at(const struct tl_site *sites, size_t count, const struct tl_plan *plan,
                                     uint64_t addr)
{
    size_t begun = tl_array_upto(plan->trampolines, plan->trampoline_count, sizeof *plan->trampolines,
                                 offsetof(struct tl_plan_trampoline, addr), addr);
    if (!begun || plan->trampolines[begun - 1].site >= count)
        return NULL;
    const struct tl_site *site = &sites[plan->trampolines[begun - 1].site];
    return addr - site->trampoline < site->trampoline_size || addr - site->beyond < site->beyond_size ? site : NULL;
}

/* Follow the stub at pc; 0 where there is none. */
static uint64_t follow_stub(const struct tl_plan *plan, uint64_t pc)
{
    uint64_t available, target;
    const uint8_t *code = mapped(plan, pc, &available);
    if (code && available >= 5 && code[0] == 0xe9) {
        int32_t rel;
        memcpy(&rel, code + 1, sizeof rel);
        return pc + 5 + (uint64_t)(int64_t)rel;
    }
    if (code && available >= 14 && code[0] == 0xff && code[1] == 0x25 && !memcmp(code + 2, "\0\0\0", 4)) {
        memcpy(&target, code + 6, sizeof target);
        return target;
    }
    return code && available >= 2 && code[0] == 0xeb ? pc + 2 + (uint64_t)(int64_t)(int8_t)code[1] : 0;
}

/* A stub leads to the beginning of a trampoline, in one step or two. */
static int locate_in_landing(const struct tl_site *sites, size_t count, const struct tl_plan *plan, uint64_t pc,
                             uint64_t *original)
{
    for (int step = 0; step < 2; step++) {
        pc = follow_stub(plan, pc);
        const struct tl_site *site = pc ? site_at(sites, count, plan, pc) : NULL;
        if (site && (site->trampoline == pc || site->beyond == pc)) {
            *original = site->addr;
            return 0;
        }
    }
    return -EAGAIN;
}

/* In a trampoline, marks say. A thread in the bare instruction has TF set: it is the broker's. */
static int locate_in_trampoline(const struct tl_site *site, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    struct tl_stretch stretches[TL_STRETCHES_MAX];
    if (pc == site->trampoline || pc == site->beyond) {
        *original = site->addr;
        return 0;
    }
    if (site->step_at && pc - site->trampoline >= site->copy_at + site->step_at)
        return -EAGAIN;
    unsigned count = tl_trampoline_stretches(site, stretches);
    for (unsigned i = 0; i < count; i++) {
        const struct tl_stretch *stretch = &stretches[i];
        if (pc - stretch->start >= stretch->end - stretch->start)
            continue;
        for (unsigned k = 0; k < stretch->marks_used; k++) {
            const struct tl_mark *mark = &stretch->marks[k];
            if (stretch->start + mark->at != pc || mark->state == TL_MARK_WITHIN)
                continue;
            *original = mark->addr;
            *fix_rcx = mark->state == TL_MARK_AFTER && stretch->is_syscall;
            return 0;
        }
    }
    return -EAGAIN;
}

int tl_plan_locate(const struct tl_site *sites, size_t count, const struct tl_plan *plan, uint64_t pc,
                   uint64_t *original, int *fix_rcx)
{
    uint64_t available;
    *fix_rcx = 0;
    const struct tl_site *site = site_at(sites, count, plan, pc);
    if (site)
        return locate_in_trampoline(site, pc, original, fix_rcx);
    return mapped(plan, pc, &available) ? locate_in_landing(sites, count, plan, pc, original) : -ENOENT;
}
