/* SPDX-License-Identifier: MIT
 *
 * Many landing pages hold a stub or two. So several of them share one page of the pool, laid over one another where
 * their stubs do not overlap; what a process sees of the others' stubs there is never jumped to. Adjacent landing pages
 * get adjacent pool pages, so that one mapping does for the whole *run*. Long runs go first: they are the hard ones to
 * fit, and leave their pages nearly empty for the short ones.
 */
#include <stdlib.h>
#include <string.h>

#include "probe/landing.h"

enum { WORDS = TL_PAGE / 64, BREAKPOINT = 0xcc, MISSES_MAX = 40, RUN_MAX = 16 };

/* Landing pages at addr, addr + TL_PAGE and so on. */
struct run {
    struct tl_landing_page **pages;
    size_t length;
};

struct packing {
    struct tl_landings *landings;
    struct tl_landing_page **pages; /* open ones, by address */
    size_t page_count;
    struct run *runs;
    size_t run_count;
    uint64_t (*taken)[WORDS]; /* of each pool page */
    size_t pool_pages, pool_room;
};

static int by_address(const void *left, const void *right)
{
    const struct tl_landing_page *const *a = left, *const *b = right;
    return (*a)->addr < (*b)->addr ? -1 : (*a)->addr > (*b)->addr;
}

static int longest_first(const void *left, const void *right)
{
    const struct run *a = left, *b = right;
    if (a->length != b->length)
        return a->length > b->length ? -1 : 1;
    return a->pages < b->pages ? -1 : a->pages > b->pages;
}

static int collect(struct packing *packing)
{
    struct tl_landings *landings = packing->landings;
    bool divide = landings->runs + landings->page_count / RUN_MAX < landings->runs_max;
    size_t longest = divide ? RUN_MAX : SIZE_MAX;
    packing->pages = calloc(landings->page_count + 1, sizeof(struct tl_landing_page *));
    packing->runs = calloc(landings->page_count + 1, sizeof *packing->runs);
    if (!packing->pages || !packing->runs)
        return -ENOMEM;
    for (size_t i = 0; i < landings->page_count; i++) {
        struct tl_landing_page *page = tl_landing_page_number(landings, i);
        if (page->taken_bytes)
            packing->pages[packing->page_count++] = page;
    }
    qsort(packing->pages, packing->page_count, sizeof(struct tl_landing_page *), by_address);
    for (size_t i = 0; i < packing->page_count; i++) {
        if (i == 0 || packing->pages[i]->addr != packing->pages[i - 1]->addr + TL_PAGE ||
            packing->runs[packing->run_count - 1].length == longest)
            packing->runs[packing->run_count++].pages = &packing->pages[i];
        packing->runs[packing->run_count - 1].length++;
    }
    return 0;
}

static bool overlap(const uint64_t *a, const uint64_t *b)
{
    for (unsigned i = 0; i < WORDS; i++)
        if (a[i] & b[i])
            return true;
    return false;
}

/* The run fits onto the pool pages from `at` on; those past the end are empty. */
static bool fits(const struct packing *packing, const struct run *run, size_t at)
{
    for (size_t i = 0; i < run->length && at + i < packing->pool_pages; i++)
        if (overlap(packing->taken[at + i], run->pages[i]->taken))
            return false;
    return true;
}

static int put(struct packing *packing, const struct run *run, size_t at)
{
    size_t end = at + run->length;
    if (end > packing->pool_room) {
        size_t room = end * 2;
        void *taken = realloc(packing->taken, room * sizeof *packing->taken);
        if (!taken)
            return -ENOMEM;
        packing->taken = taken;
        packing->pool_room = room;
    }
    for (; packing->pool_pages < end; packing->pool_pages++)
        memset(packing->taken[packing->pool_pages], 0, sizeof *packing->taken);
    for (size_t i = 0; i < run->length; i++) {
        run->pages[i]->pool = (uint32_t)(at + i);
        for (unsigned word = 0; word < WORDS; word++)
            packing->taken[at + i][word] |= run->pages[i]->taken[word];
    }
    return 0;
}

/* First fit, among the pool pages from `from` on. Pages that many in a row did not fit onto are passed over from then
 * on. */
static int pack(struct packing *packing)
{
    size_t from = 0, misses = 0;
    for (size_t i = 0; i < packing->run_count; i++) {
        const struct run *run = &packing->runs[i];
        size_t at = from;
        while (at < packing->pool_pages && !fits(packing, run, at)) {
            misses += at == from;
            at++;
        }
        int error = put(packing, run, at);
        if (error)
            return error;
        if (at == from)
            misses = 0;
        if (misses > MISSES_MAX) {
            from++;
            misses = 0;
        }
    }
    return 0;
}

/* Write a stub's bytes where its page has its place in the pool. */
static void write_stub(const struct packing *packing, const struct tl_stub *stub, uint8_t *pool)
{
    uint8_t bytes[TL_STUB_FAR_BYTES] = {0};
    uint32_t rel = (uint32_t)(stub->target - (stub->addr + TL_STUB_NEAR_BYTES));
    switch (stub->form) {
    case TL_STUB_NEAR:
        bytes[0] = 0xe9;
        memcpy(bytes + 1, &rel, sizeof rel);
        break;
    case TL_STUB_FAR:
        bytes[0] = 0xff;
        bytes[1] = 0x25;
        memcpy(bytes + 6, &stub->target, sizeof stub->target);
        break;
    case TL_STUB_POINTER:
        memcpy(bytes, &stub->target, sizeof stub->target);
        break;
    default:
        bytes[0] = 0xeb;
        bytes[1] = (uint8_t)(stub->target - (stub->addr + TL_STUB_SHORT_BYTES));
    }
    for (unsigned i = 0; i < stub->length; i++) {
        uint64_t addr = stub->addr + i;
        pool[(uint64_t)tl_landing_page(packing->landings, addr)->pool * TL_PAGE + addr % TL_PAGE] = bytes[i];
    }
}

static int emit(const struct packing *packing, struct tl_plan *plan)
{
    size_t size = packing->pool_pages * TL_PAGE;
    uint8_t *pool = realloc(plan->pool, plan->pool_size + size + 1);
    if (pool)
        plan->pool = pool;
    struct tl_plan_map *maps = realloc(plan->maps, (plan->map_count + packing->run_count + 1) * sizeof *maps);
    if (maps)
        plan->maps = maps;
    if (!pool || !maps)
        return -ENOMEM;
    memset(pool + plan->pool_size, BREAKPOINT, size);
    for (size_t i = 0; i < packing->landings->stub_count; i++)
        write_stub(packing, &packing->landings->stubs[i], pool + plan->pool_size);
    for (size_t i = 0; i < packing->run_count; i++) {
        const struct run *run = &packing->runs[i];
        maps[plan->map_count++] = (struct tl_plan_map){run->pages[0]->addr, run->length * TL_PAGE,
                                                       plan->pool_size + (uint64_t)run->pages[0]->pool * TL_PAGE};
    }
    plan->pool_size += size;
    return 0;
}

int tl_landings_pack(struct tl_landings *landings, struct tl_plan *plan)
{
    struct packing packing = {.landings = landings};
    int error = collect(&packing);
    if (!error) {
        qsort(packing.runs, packing.run_count, sizeof *packing.runs, longest_first);
        error = pack(&packing);
    }
    if (!error)
        error = emit(&packing, plan);
    free(packing.pages);
    free(packing.runs);
    free(packing.taken);
    return error;
}
