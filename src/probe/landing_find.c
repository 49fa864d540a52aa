/* SPDX-License-Identifier: MIT
 *
 * Choosing where in a window to come down. The aim is few pages: each open page costs a mapping, most of them a
 * page-table page as well. So a page that is open already wins; of those that are not, the one whose address ends in
 * the most zeros, because that is the one on which other windows that overlap this one will settle too.
 *
 * A jump may want several stubs at once, at fixed distances (the variants that stay right under somebody's breakpoint).
 * The distances are multiples of the window's size, so the places that suit all of them are found 64 at a time by
 * laying the bit maps of their pages over one another. Inside a *segment* of the window neither the jump's own target
 * nor any variant crosses a page, so that the pages are the same for all of it.
 */
#include <string.h>

#include "probe/landing.h"

enum { SPOTS_MAX = TL_VARIANTS_MAX + 1, OPEN_PAGES_TRIED = 24, FULL = TL_PAGE - TL_PAGE / 16 };

struct choice {
    uint64_t addr;
    unsigned cost, zeros;
    bool found;
};

/* Bits i of the result: of the bits i … i + length - 1 one is set. */
static uint64_t smear(unsigned __int128 bits, unsigned length)
{
    unsigned done = 1;
    for (; done * 2 <= length; done *= 2)
        bits |= bits >> done;
    return (uint64_t)(bits | bits >> (length - done));
}

/* The bytes taken from `addr` (a multiple of 64) to the end of the page, as far as 128 bits hold them. What follows the
 * page counts as taken: a stub that could be anywhere need not cross. */
static unsigned __int128 taken_at(const struct tl_landing_page *page, uint64_t addr)
{
    unsigned word = (unsigned)(addr % TL_PAGE / 64);
    bool last = word == TL_PAGE / 64 - 1;
    uint64_t low = page ? page->taken[word] : 0;
    uint64_t high = last ? UINT64_MAX : page ? page->taken[word + 1] : 0;
    return (unsigned __int128)high << 64 | low;
}

/* The first address of [start, end) that suits the jump and all variants. */
static bool find_room(const struct tl_window *window, const struct tl_landing_page *const *pages,
                      const unsigned *lengths, uint64_t start, uint64_t end, uint64_t *addr)
{
    for (uint64_t block = start & ~63ull; block < end; block += 64) {
        uint64_t unfit = block < start ? (1ull << (start - block)) - 1 : 0;
        if (end - block < 64)
            unfit |= ~((1ull << (end - block)) - 1);
        for (unsigned i = 0; i <= window->variants && ~unfit; i++)
            unfit |= smear(taken_at(pages[i], block + (i ? (uint64_t)window->shift[i - 1] : 0)), lengths[i]);
        if (~unfit) {
            *addr = block + (unsigned)__builtin_ctzll(~unfit);
            return true;
        }
    }
    return false;
}

/* Where in a page to begin looking: elsewhere in each, so that pages can be laid over one another in the pool. */
static uint64_t scatter(uint64_t addr)
{
    return (addr / TL_PAGE * 0x9e3779b97f4a7c15u) >> 40;
}

/* Try one segment [start, end) of the window. */
static void try_segment(const struct tl_landings *landings, const struct tl_window *window, uint64_t start,
                        uint64_t end, struct choice *best)
{
    const struct tl_landing_page *pages[SPOTS_MAX];
    unsigned lengths[SPOTS_MAX], cost = 0;
    for (unsigned i = 0; i <= window->variants; i++) {
        uint64_t at = start + (i ? (uint64_t)window->shift[i - 1] : 0);
        pages[i] = tl_landing_page(landings, at);
        lengths[i] = window->pointer ? TL_STUB_POINTER_BYTES : tl_stub_bytes(at, window->trampoline);
        cost += !pages[i];
        if (pages[i] ? pages[i]->taken_bytes > FULL : !tl_landing_can_open(landings, at))
            return;
    }
    unsigned zeros = (unsigned)__builtin_ctzll(start | 1ull << 40);
    if (best->found && (cost > best->cost || (cost == best->cost && zeros <= best->zeros)))
        return;
    uint64_t middle = start + (window->scatter ? scatter(start) % (end - start) : 0), addr;
    if (find_room(window, pages, lengths, middle, end, &addr) ||
        find_room(window, pages, lengths, start, middle, &addr))
        *best = (struct choice){addr, cost, zeros, true};
}

/* Try the part of the window that lies in the page of `addr`. */
static void try_page(const struct tl_landings *landings, const struct tl_window *window, uint64_t addr,
                     struct choice *best)
{
    uint64_t page = addr & ~(uint64_t)(TL_PAGE - 1);
    uint64_t from = window->start > page ? window->start : page;
    uint64_t end = window->start + window->size;
    if (end > page + TL_PAGE)
        end = page + TL_PAGE;
    while (from < end) {
        uint64_t to = end;
        for (unsigned i = 0; i < window->variants; i++) {
            uint64_t left = TL_PAGE - (from + (uint64_t)window->shift[i]) % TL_PAGE;
            if (left < to - from)
                to = from + left;
        }
        try_segment(landings, window, from, to, best);
        from = to;
    }
}

/* Try the open pages of [start, end), moved back by `shift`. */
static void try_open_pages(const struct tl_landings *landings, const struct tl_window *window, int64_t shift,
                           struct choice *best)
{
    uint64_t start = (window->start + (uint64_t)shift) & ~(uint64_t)(TL_PAGE - 1);
    uint64_t end = window->start + (uint64_t)shift + window->size;
    unsigned tried = 0;
    for (uint64_t at = start; at < end && !(best->found && best->cost == 0);) {
        const struct tl_region *region = tl_landing_region(landings, at);
        unsigned page = (unsigned)(at / TL_PAGE) % TL_REGION_PAGES;
        uint64_t open = region ? region->open[page / 64] >> page % 64 : 0;
        if (!open) { /* on to the next word of the map, or region */
            unsigned step = region ? 64 - page % 64 : TL_REGION_PAGES - page;
            at += (uint64_t)step * TL_PAGE;
            continue;
        }
        at += (uint64_t)__builtin_ctzll(open) * TL_PAGE;
        if (at >= end || tried++ == OPEN_PAGES_TRIED)
            return;
        try_page(landings, window, at - (uint64_t)shift < window->start ? window->start : at - (uint64_t)shift, best);
        at += TL_PAGE;
    }
}

/* The address in [start, start + size) that ends in the most zeros. */
static uint64_t roundest(uint64_t start, uint64_t size)
{
    uint64_t last = start + size - 1, differ = (start - 1) ^ last;
    return last & ~((1ull << (63 - __builtin_clzll(differ))) - 1);
}

/* Try pages that are not open yet. */
static void try_new_pages(const struct tl_landings *landings, const struct tl_window *window, struct choice *best)
{
    uint64_t page, end = window->start + window->size;
    uint64_t round = roundest(window->start, window->size);
    try_page(landings, window, round, best);
    if (best->found)
        return;
    try_page(landings, window, window->start, best);
    try_page(landings, window, end - 1, best);
    if (best->found)
        return;
    /* Something is in the way there: beside it, at the edges of what is free. */
    for (unsigned i = 0; i <= window->variants && !best->found; i++) {
        uint64_t shift = i ? (uint64_t)window->shift[i - 1] : 0;
        uint64_t from = (window->start + shift + TL_PAGE - 1) & ~(uint64_t)(TL_PAGE - 1);
        uint64_t to = (end + shift) & ~(uint64_t)(TL_PAGE - 1);
        if (tl_space_first_page(landings->space, from, to, &page))
            try_page(landings, window, page - shift, best);
        if (!best->found && tl_space_last_page(landings->space, from, to, &page))
            try_page(landings, window, page - shift, best);
    }
}

bool tl_landing_find(const struct tl_landings *landings, const struct tl_window *window, uint64_t *addr, unsigned *cost)
{
    struct choice best = {0};
    if (window->size < TL_PAGE) {
        try_page(landings, window, window->start, &best);
        if (window->start / TL_PAGE != (window->start + window->size - 1) / TL_PAGE)
            try_page(landings, window, window->start + window->size - 1, &best);
        *addr = best.addr;
        *cost = best.cost;
        return best.found;
    }
    for (unsigned i = 0; i <= window->variants; i++)
        try_open_pages(landings, window, i ? window->shift[i - 1] : 0, &best);
    if (!(best.found && best.cost == 0)) {
        struct choice fresh = {0};
        try_new_pages(landings, window, &fresh);
        if (!best.found || (fresh.found && fresh.cost < best.cost))
            best = fresh;
    }
    *addr = best.addr;
    *cost = best.cost;
    return best.found;
}
