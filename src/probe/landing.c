/* SPDX-License-Identifier: MIT
 *
 * Landing pages come and go while the planner tries things out: a page is open while a byte of it is taken. Stubs are
 * kept in order of making; taking back is always taking back the last ones.
 */
#include "probe/landing.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

enum { LATEST = 64, REGIONS_FIRST = 64 };

int tl_landings_init(struct tl_landings *landings, struct tl_space *space, size_t runs_max)
{
    memset(landings, 0, sizeof *landings);
    landings->space = space;
    landings->runs_max = runs_max;
    landings->regions = calloc(REGIONS_FIRST, sizeof(struct tl_region *));
    landings->region_room = landings->regions ? REGIONS_FIRST : 0;
    return landings->regions ? 0 : -ENOMEM;
}

void tl_landings_free(struct tl_landings *landings)
{
    for (size_t i = 0; i < landings->region_room; i++)
        free(landings->regions[i]);
    free(landings->regions);
    for (size_t i = 0; i < landings->slab_count; i++)
        free(landings->slabs[i]);
    free(landings->slabs);
    free(landings->stubs);
    memset(landings, 0, sizeof *landings);
}

/* Where in the table a key is, or would be put. */
static size_t region_slot(struct tl_region *const *regions, size_t room, uint64_t key)
{
    size_t at = (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (room - 1);
    while (regions[at] && regions[at]->key != key)
        at = (at + 1) & (room - 1);
    return at;
}

struct tl_region *tl_landing_region(const struct tl_landings *landings, uint64_t addr)
{
    return landings->regions[region_slot(landings->regions, landings->region_room, addr >> TL_REGION_SHIFT)];
}

static bool grow_regions(struct tl_landings *landings)
{
    size_t room = landings->region_room * 2;
    struct tl_region **regions = calloc(room, sizeof(struct tl_region *));
    if (!regions)
        return false;
    for (size_t i = 0; i < landings->region_room; i++)
        if (landings->regions[i])
            regions[region_slot(regions, room, landings->regions[i]->key)] = landings->regions[i];
    free(landings->regions);
    landings->regions = regions;
    landings->region_room = room;
    return true;
}

static struct tl_region *make_region(struct tl_landings *landings, uint64_t addr)
{
    struct tl_region *region = tl_landing_region(landings, addr);
    if (region)
        return region;
    if (landings->region_count * 2 >= landings->region_room && !grow_regions(landings))
        return NULL;
    region = calloc(1, sizeof *region);
    if (!region)
        return NULL;
    region->key = addr >> TL_REGION_SHIFT;
    landings->regions[region_slot(landings->regions, landings->region_room, region->key)] = region;
    landings->region_count++;
    return region;
}

static unsigned page_in_region(uint64_t addr)
{
    return (unsigned)(addr / TL_PAGE) % TL_REGION_PAGES;
}

static bool is_open(const struct tl_region *region, unsigned page)
{
    return region && region->open[page / 64] >> page % 64 & 1;
}

static bool is_open_at(const struct tl_landings *landings, uint64_t addr)
{
    return is_open(tl_landing_region(landings, addr), page_in_region(addr));
}

struct tl_landing_page *tl_landing_page(const struct tl_landings *landings, uint64_t addr)
{
    const struct tl_region *region = tl_landing_region(landings, addr);
    unsigned page = page_in_region(addr);
    return is_open(region, page) ? tl_landing_page_number(landings, region->pages[page] - 1) : NULL;
}

/* How many more stretches of open pages there are with this page than without. */
static int runs_added(const struct tl_landings *landings, uint64_t addr)
{
    return 1 - is_open_at(landings, addr - TL_PAGE) - is_open_at(landings, addr + TL_PAGE);
}

bool tl_landing_can_open(const struct tl_landings *landings, uint64_t addr)
{
    uint64_t page = addr & ~(uint64_t)(TL_PAGE - 1);
    return tl_space_is_free(landings->space, page, page + TL_PAGE);
}

/* A page for the address, opened if need be. */
static struct tl_landing_page *open_page(struct tl_landings *landings, uint64_t addr)
{
    struct tl_region *region = make_region(landings, addr);
    if (!region) {
        landings->error = -ENOMEM;
        return NULL;
    }
    unsigned in_region = page_in_region(addr);
    if (is_open(region, in_region))
        return tl_landing_page_number(landings, region->pages[in_region] - 1);
    int added = runs_added(landings, addr);
    if (added > 0 && landings->runs >= landings->runs_max) {
        landings->starved = true;
        return NULL;
    }
    if (!region->pages[in_region]) {
        if (landings->page_count == landings->slab_count * TL_SLAB_PAGES) {
            struct tl_landing_page **slabs = realloc(landings->slabs, (landings->slab_count + 1) * sizeof *slabs);
            if (slabs)
                landings->slabs = slabs;
            if (!slabs || !(slabs[landings->slab_count] = calloc(TL_SLAB_PAGES, sizeof **slabs))) {
                landings->error = -ENOMEM;
                return NULL;
            }
            landings->slab_count++;
        }
        region->pages[in_region] = (uint32_t)++landings->page_count;
    }
    region->open[in_region / 64] |= 1ull << in_region % 64;
    landings->runs = (size_t)((int64_t)landings->runs + added);
    struct tl_landing_page *page = tl_landing_page_number(landings, region->pages[in_region] - 1);
    page->addr = addr & ~(uint64_t)(TL_PAGE - 1);
    return page;
}

static void close_page(struct tl_landings *landings, const struct tl_landing_page *page)
{
    struct tl_region *region = tl_landing_region(landings, page->addr);
    unsigned in_region = page_in_region(page->addr);
    region->open[in_region / 64] &= ~(1ull << in_region % 64);
    landings->runs = (size_t)((int64_t)landings->runs - runs_added(landings, page->addr));
}

/* The next bytes of [addr, addr + length) that one word of a page's map holds, as a mask; moves on behind them. */
static uint64_t next_mask(uint64_t *addr, unsigned *length)
{
    unsigned from = *addr % 64, count = *length < 64 - from ? *length : 64 - from;
    *addr += count;
    *length -= count;
    return ((1ull << count) - 1) << from;
}

/* Whether all bytes are free: untaken on an open page, or on a page that could be opened. */
static bool is_room(const struct tl_landings *landings, uint64_t addr, unsigned length)
{
    while (length) {
        const struct tl_landing_page *page = tl_landing_page(landings, addr);
        unsigned word = (unsigned)(addr % TL_PAGE / 64);
        if (!page && !tl_landing_can_open(landings, addr))
            return false;
        uint64_t mask = next_mask(&addr, &length);
        if (page && page->taken[word] & mask)
            return false;
    }
    return true;
}

static void untake(struct tl_landings *landings, uint64_t addr, unsigned length)
{
    while (length) {
        struct tl_landing_page *page = tl_landing_page(landings, addr);
        unsigned word = (unsigned)(addr % TL_PAGE / 64), before = length;
        page->taken[word] &= ~next_mask(&addr, &length);
        page->taken_bytes -= before - length;
        if (!page->taken_bytes)
            close_page(landings, page);
    }
}

static bool take(struct tl_landings *landings, uint64_t addr, unsigned length)
{
    uint64_t first = addr;
    while (length) {
        struct tl_landing_page *page = open_page(landings, addr);
        if (!page) {
            untake(landings, first, (unsigned)(addr - first));
            return false;
        }
        unsigned word = (unsigned)(addr % TL_PAGE / 64), before = length;
        page->taken[word] |= next_mask(&addr, &length);
        page->taken_bytes += before - length;
    }
    return true;
}

static bool add_stub(struct tl_landings *landings, uint64_t addr, uint64_t target, enum tl_stub_form form,
                     unsigned length)
{
    struct tl_stub *stubs = tl_array_grown(landings->stubs, landings->stub_count, &landings->stub_room, sizeof *stubs);
    if (!stubs) {
        landings->error = -ENOMEM;
        return false;
    }
    landings->stubs = stubs;
    if (!take(landings, addr, length))
        return false;
    landings->stubs[landings->stub_count++] = (struct tl_stub){addr, target, (uint8_t)form, (uint8_t)length};
    return true;
}

void tl_landing_rewind(struct tl_landings *landings, size_t mark)
{
    while (landings->stub_count > mark) {
        const struct tl_stub *stub = &landings->stubs[--landings->stub_count];
        untake(landings, stub->addr, stub->length);
    }
}

static bool reaches(uint64_t from, uint64_t to)
{
    return (int64_t)(to - from) == (int32_t)(to - from);
}

unsigned tl_stub_bytes(uint64_t addr, uint64_t trampoline)
{
    uint64_t page = addr & ~(uint64_t)(TL_PAGE - 1);
    return reaches(page, trampoline) && reaches(page + 2 * TL_PAGE, trampoline) ? TL_STUB_NEAR_BYTES
                                                                                : TL_STUB_FAR_BYTES;
}

static bool add_whole(struct tl_landings *landings, uint64_t addr, uint64_t trampoline)
{
    unsigned length = tl_stub_bytes(addr, trampoline);
    enum tl_stub_form form = length == TL_STUB_NEAR_BYTES ? TL_STUB_NEAR : TL_STUB_FAR;
    return is_room(landings, addr, length) && add_stub(landings, addr, trampoline, form, length);
}

/* The first byte of the stub that begins at `addr`, if it is one of the latest (a neighbour's); or -1. */
static int first_byte(const struct tl_landings *landings, uint64_t addr)
{
    static const int bytes[] = {
        [TL_STUB_NEAR] = 0xe9, [TL_STUB_FAR] = 0xff, [TL_STUB_SHORT] = 0xeb, [TL_STUB_POINTER] = -1};
    size_t oldest = landings->stub_count > LATEST ? landings->stub_count - LATEST : 0;
    for (size_t i = landings->stub_count; i-- > oldest;)
        if (landings->stubs[i].addr == addr)
            return bytes[landings->stubs[i].form];
    return -1;
}

/* No room for a whole stub: a short jump to one beside. Where even its second byte is taken, and is the first of
 * another stub, that byte says how far. */
static bool add_short(struct tl_landings *landings, uint64_t addr, uint64_t trampoline)
{
    size_t mark = landings->stub_count;
    uint64_t from = addr + TL_STUB_SHORT_BYTES;
    if (!is_room(landings, addr, 1))
        return false;
    if (!is_room(landings, addr + 1, 1)) {
        int byte = first_byte(landings, addr + 1);
        uint64_t to = from + (uint64_t)(int64_t)(int8_t)byte;
        if (byte >= 0 && add_stub(landings, addr, to, TL_STUB_SHORT, 1) && add_whole(landings, to, trampoline))
            return true;
        tl_landing_rewind(landings, mark);
        return false;
    }
    for (int distance = 0; distance < 128; distance++)
        for (int sign = 0; sign < 2; sign++) {
            uint64_t to = from + (uint64_t)(int64_t)(sign ? -1 - distance : distance);
            /* Never a page for this alone. */
            if (!tl_landing_page(landings, to) && to / TL_PAGE != addr / TL_PAGE)
                continue;
            unsigned length = tl_stub_bytes(to, trampoline);
            if ((to < from && to + length > addr) || !is_room(landings, to, length))
                continue;
            if (add_stub(landings, addr, to, TL_STUB_SHORT, TL_STUB_SHORT_BYTES) && add_whole(landings, to, trampoline))
                return true;
            tl_landing_rewind(landings, mark);
            return false;
        }
    return false;
}

bool tl_landing_put(struct tl_landings *landings, uint64_t addr, uint64_t trampoline, bool pointer)
{
    if (pointer)
        return is_room(landings, addr, TL_STUB_POINTER_BYTES) &&
               add_stub(landings, addr, trampoline, TL_STUB_POINTER, TL_STUB_POINTER_BYTES);
    return add_whole(landings, addr, trampoline) || add_short(landings, addr, trampoline);
}

bool tl_landing_place(struct tl_landings *landings, const struct tl_window *window, uint64_t addr, bool all,
                      bool *complete)
{
    size_t mark = landings->stub_count;
    *complete = true;
    if (!tl_landing_put(landings, addr, window->trampoline, window->pointer))
        return false;
    for (unsigned i = 0; i < window->variants; i++) {
        uint64_t at = addr + (uint64_t)window->shift[i];
        bool put = !(landings->frugal && !tl_landing_page(landings, at)) &&
                   tl_landing_put(landings, at, window->trampoline, window->pointer);
        if (put)
            continue;
        *complete = false;
        if (all) {
            tl_landing_rewind(landings, mark);
            return false;
        }
    }
    return true;
}

bool tl_landing_redirect(struct tl_landings *landings, size_t mark, uint64_t addr, uint64_t trampoline)
{
    size_t end = mark + 2 * (TL_VARIANTS_MAX + 1u);
    for (size_t i = mark; i < end && i < landings->stub_count; i++) {
        struct tl_stub *stub = &landings->stubs[i];
        if (stub->addr != addr)
            continue;
        if (stub->form == TL_STUB_SHORT) /* the one that it leads to was put next */
            stub++;
        if (stub->form == TL_STUB_NEAR && !reaches(stub->addr + TL_STUB_NEAR_BYTES, trampoline))
            return false;
        stub->target = trampoline;
        return true;
    }
    return false;
}
