/* SPDX-License-Identifier: MIT */
#include "probe/space.h"

#include "base/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t page_of(uint64_t addr)
{
    return addr & ~(uint64_t)(TL_PAGE - 1);
}

/* The page boundary at or above, without wrapping. */
static uint64_t page_above(uint64_t addr)
{
    return addr > UINT64_MAX - TL_PAGE ? page_of(UINT64_MAX) : page_of(addr + TL_PAGE - 1);
}

static int by_start(const void *left, const void *right)
{
    const struct tl_gap *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* What an area takes, with what it wants kept clear, in whole pages. */
static struct tl_gap taken_by(const struct tl_area *area, unsigned yield)
{
    uint64_t below = area->keep_below / yield, above = area->keep_above / yield;
    uint64_t start = below > area->start ? 0 : area->start - below;
    uint64_t end = above > UINT64_MAX - area->end ? UINT64_MAX : area->end + above;
    return (struct tl_gap){page_of(start), page_above(end)};
}

int tl_space_init(struct tl_space *space, const struct tl_area *areas, size_t count, unsigned yield, uint64_t lowest,
                  uint64_t highest)
{
    memset(space, 0, sizeof *space);
    space->room = count + 1 + 64;
    space->gaps = calloc(space->room, sizeof *space->gaps);
    struct tl_gap *taken = calloc(count + 1, sizeof *taken);
    if (!space->gaps || !taken) {
        free(taken);
        tl_space_free(space);
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++)
        taken[i] = taken_by(&areas[i], yield);
    qsort(taken, count, sizeof *taken, by_start);
    uint64_t from = page_above(lowest), end = page_of(highest);
    for (size_t i = 0; i < count && from < end; i++) {
        if (taken[i].start > from)
            space->gaps[space->count++] = (struct tl_gap){from, taken[i].start < end ? taken[i].start : end};
        if (taken[i].end > from)
            from = taken[i].end;
    }
    if (from < end)
        space->gaps[space->count++] = (struct tl_gap){from, end};
    free(taken);
    return 0;
}

void tl_space_free(struct tl_space *space)
{
    free(space->gaps);
    memset(space, 0, sizeof *space);
}

/* The first gap that ends above addr. */
static size_t gap_at(const struct tl_space *space, uint64_t addr)
{
    return tl_array_upto(space->gaps, space->count, sizeof *space->gaps, offsetof(struct tl_gap, end), addr);
}

bool tl_space_is_free(const struct tl_space *space, uint64_t start, uint64_t end)
{
    size_t at = gap_at(space, start);
    return start < end && at < space->count && space->gaps[at].start <= start && end <= space->gaps[at].end;
}

bool tl_space_first_page(const struct tl_space *space, uint64_t start, uint64_t end, uint64_t *page)
{
    size_t at = gap_at(space, start);
    if (at == space->count)
        return false;
    *page = space->gaps[at].start > start ? space->gaps[at].start : start;
    return *page < end;
}

bool tl_space_last_page(const struct tl_space *space, uint64_t start, uint64_t end, uint64_t *page)
{
    size_t at = gap_at(space, end);
    if (at < space->count && space->gaps[at].start < end) {
        *page = end - TL_PAGE;
        return *page >= start && *page >= space->gaps[at].start;
    }
    if (at == 0)
        return false;
    *page = space->gaps[at - 1].end - TL_PAGE;
    return *page >= start && *page >= space->gaps[at - 1].start;
}

/* Cut [addr, addr + size) out of a gap that holds it. */
static int cut(struct tl_space *space, size_t at, uint64_t addr, uint64_t size)
{
    struct tl_gap whole = space->gaps[at];
    bool below = whole.start < addr, above = addr + size < whole.end;
    if (below && above) {
        if (space->count == space->room) {
            struct tl_gap *gaps = realloc(space->gaps, space->room * 2 * sizeof *gaps);
            if (!gaps)
                return -ENOMEM;
            space->gaps = gaps;
            space->room *= 2;
        }
        memmove(&space->gaps[at + 1], &space->gaps[at], (space->count - at) * sizeof *space->gaps);
        space->count++;
        space->gaps[at].end = addr;
        space->gaps[at + 1].start = addr + size;
    } else if (below) {
        space->gaps[at].end = addr;
    } else if (above) {
        space->gaps[at].start = addr + size;
    } else {
        memmove(&space->gaps[at], &space->gaps[at + 1], (space->count - at - 1) * sizeof *space->gaps);
        space->count--;
    }
    return 0;
}

int tl_space_take(struct tl_space *space, uint64_t start, uint64_t end)
{
    int error = 0;
    for (size_t at = gap_at(space, start); at < space->count && space->gaps[at].start < end && !error;) {
        uint64_t from = space->gaps[at].start > start ? space->gaps[at].start : start;
        uint64_t to = space->gaps[at].end < end ? space->gaps[at].end : end;
        error = cut(space, at, from, to - from);
        at = gap_at(space, to);
    }
    return error;
}

int tl_space_take_near(struct tl_space *space, uint64_t near, uint64_t size, uint64_t reach, uint64_t *addr)
{
    near = page_of(near);
    size_t from = gap_at(space, near), best = SIZE_MAX;
    uint64_t best_distance = reach;
    for (size_t at = from; at < space->count; at++) { /* at or above */
        const struct tl_gap *gap = &space->gaps[at];
        uint64_t start = gap->start > near ? gap->start : near;
        if (start - near > best_distance)
            break;
        if (gap->end - start >= size) {
            best = at, best_distance = start - near, *addr = start;
            break;
        }
    }
    for (size_t at = from < space->count ? from + 1 : from; at-- > 0;) { /* below */
        const struct tl_gap *gap = &space->gaps[at];
        uint64_t end = gap->end < near ? gap->end : near;
        if (end <= gap->start)
            continue;
        if (near - end > best_distance)
            break;
        if (end - gap->start >= size && near - end + size < best_distance) {
            best = at, *addr = end - size;
            break;
        }
    }
    return best == SIZE_MAX ? -ENOSPC : cut(space, best, *addr, size);
}
