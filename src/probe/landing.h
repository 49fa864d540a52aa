/* SPDX-License-Identifier: MIT
 *
 * Landing stubs: where jumps that could not choose their target freely come down. For this room only.
 *
 * A punned jump leads to an address that is fixed in its upper bytes. What stands there is a stub, a jump on to the
 * trampoline, and the page that holds it is a *landing page*. Landing pages are virtual: stubs of many of them share
 * one page of the pool where they do not overlap (packing.c). Threads and signals: as plan.h.
 */
#ifndef TRAPLINE_LANDING_H
#define TRAPLINE_LANDING_H

#include "probe/space.h"

enum tl_stub_form {
    TL_STUB_NEAR,   /* e9 rel32, 5 bytes */
    TL_STUB_FAR,    /* ff 25 0, address, 14 bytes: the trampoline is out of reach of a rel32 */
    TL_STUB_SHORT,  /* eb rel8, to another stub; of its second byte a neighbour may be the owner */
    TL_STUB_POINTER /* no code: the trampoline's address, which the site's jump reads */
};
enum { TL_STUB_NEAR_BYTES = 5, TL_STUB_FAR_BYTES = 14, TL_STUB_SHORT_BYTES = 2, TL_STUB_POINTER_BYTES = 8 };
enum { TL_VARIANTS_MAX = 15 };

struct tl_stub {
    uint64_t addr, target;
    uint8_t form;   /* enum tl_stub_form */
    uint8_t length; /* of its bytes, those that are its own */
};

struct tl_landing_page {
    uint64_t addr;
    uint64_t taken[TL_PAGE / 64]; /* a bit a byte */
    uint32_t taken_bytes;
    uint32_t pool; /* packing.c: which page of the pool */
};

/* 2 MiB of address space (what one page-table page maps) with its landing pages. */
enum { TL_REGION_SHIFT = 21, TL_REGION_PAGES = 512, TL_SLAB_PAGES = 64 };
struct tl_region {
    uint64_t key; /* address >> TL_REGION_SHIFT */
    uint64_t open[TL_REGION_PAGES / 64];
    uint32_t pages[TL_REGION_PAGES]; /* index + 1; 0: none */
};

struct tl_landings {
    struct tl_space *space;
    struct tl_region **regions; /* open addressing by key; a power of two */
    size_t region_room, region_count;
    struct tl_region *last; /* the one looked up last */
    struct tl_landing_page **slabs;
    size_t slab_count, page_count;
    struct tl_stub *stubs; /* in order of making, so that the last ones can be taken back */
    size_t stub_count, stub_room;
    size_t runs, runs_max; /* stretches of adjacent open pages: each will be a mapping */
    bool starved;          /* something was refused because of runs_max */
    bool frugal;           /* no page is opened for a guard */
    int error;             /* -ENOMEM, once it has happened */
};

int tl_landings_init(struct tl_landings *landings, struct tl_space *space, size_t runs_max);
void tl_landings_free(struct tl_landings *landings);

/* An open page (one with stubs) or NULL; and whether a page could be opened. `addr` lies anywhere in it. */
struct tl_landing_page *tl_landing_page(const struct tl_landings *landings, uint64_t addr);
bool tl_landing_can_open(const struct tl_landings *landings, uint64_t addr);
static inline struct tl_landing_page *tl_landing_page_number(const struct tl_landings *landings, size_t number)
{
    return &landings->slabs[number / TL_SLAB_PAGES][number % TL_SLAB_PAGES];
}
/* The region of an address, or NULL while it has no landing page. */
struct tl_region *tl_landing_region(const struct tl_landings *landings, uint64_t addr);

/* Bytes of the stub that leads from anywhere in the page of `addr` to `trampoline`. */
unsigned tl_stub_bytes(uint64_t addr, uint64_t trampoline);
/* Put a stub, of whatever form of code there is room for, at exactly `addr`; or a pointer. */
bool tl_landing_put(struct tl_landings *landings, uint64_t addr, uint64_t trampoline, bool pointer);
/* Take back all stubs that were put since stub_count was `mark`. */
void tl_landing_rewind(struct tl_landings *landings, size_t mark);

/* Where a jump may come down: any of `size` addresses from `start` on; a size of 1, 256, 65536 or 1 << 24. Wherever it
 * does, `variants` further stubs are wanted, at the address plus each of `shift` (multiples of `size`). */
struct tl_window {
    uint64_t start, size;
    uint64_t trampoline;
    bool pointer; /* it is no jump to there, but one that reads there where to go */
    bool scatter; /* not always at the beginning of a page */
    unsigned variants;
    int64_t shift[TL_VARIANTS_MAX];
};
/* landing_find.c: the best place in the window, where all its stubs have room. *cost: how many pages it opens. */
bool tl_landing_find(const struct tl_landings *landings, const struct tl_window *window, uint64_t *addr,
                     unsigned *cost);
/* Put the stubs for a jump to `addr`. All, or where `all` is false at least that of the jump itself. */
bool tl_landing_place(struct tl_landings *landings, const struct tl_window *window, uint64_t addr, bool all,
                      bool *complete);

/* Of the stubs put since stub_count was `mark`, have the one at `addr` lead to `trampoline` instead. Whether it is
 * there and reaches. */
bool tl_landing_redirect(struct tl_landings *landings, size_t mark, uint64_t addr, uint64_t trampoline);

/* packing.c: give each open page its page in the pool; fill the pool (from `pool_size` on) with stubs, and append the
 * mappings. Reallocates plan->pool and plan->maps. 0 or -ENOMEM. */
int tl_landings_pack(struct tl_landings *landings, struct tl_plan *plan);

#endif
