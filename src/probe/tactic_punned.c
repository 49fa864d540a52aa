/* SPDX-License-Identifier: MIT
 *
 * A jump whose end is not ours. Of an instruction of 3 bytes, say `48 89 e5` followed by `41 57 41 56`, the jump may be
 *
 *    e9 xx xx | 41 57        comes down in a window of 64 KiB that begins at 0x57410000 from behind the jump
 *    2e e9 xx | 41 57 41     … of 256 bytes, at 0x41574100
 *    2e 2e e9 | 41 57 41 56  … at exactly 0x56415741
 *
 *    67 ff 25 | 41 57 41 56  … reads at 0x56415741 where to go
 *
 * where the bytes behind the bar stay as they are, and 2e is a prefix that means nothing. So the following instructions
 * remain what they are for whoever jumps to them, resumes there, or puts a breakpoint there. A breakpoint, though, is a
 * change of a byte (to cc) that this jump reads as part of its rel32, and the jump then comes down elsewhere. That
 * place is known, so a stub can wait there too: the *variants*. There is one for each set of instruction starts among
 * the bytes behind the bar. That a breakpoint has a landing of its own lets the others lead to a trampoline that is
 * faster and must not meet one: beyond.c.
 */
#include <string.h>

#include "probe/tactic.h"

enum { BREAKPOINT = 0xcc };

/* One way of writing the jump. */
struct shape {
    unsigned prefixes, free; /* `free`: bytes of the rel32 that can be chosen, the low ones */
    bool pointer;            /* 67 ff 25 instead of e9 */
    unsigned variety;
    struct tl_window window;
};

static unsigned opcode_bytes(const struct shape *shape)
{
    return shape->pointer ? 3 : 1;
}

/* Where the rel32 leads from behind the jump. */
static uint64_t landing(const struct shape *shape, uint64_t behind, uint32_t rel)
{
    return shape->pointer ? (uint32_t)(behind + rel) : behind + (uint64_t)(int64_t)(int32_t)rel;
}

/* The rel32 with its chosen bytes zero. */
static uint32_t fixed_part(const uint8_t *text, const struct shape *shape, unsigned room)
{
    uint32_t rel = 0;
    for (unsigned i = shape->free; i < 4; i++)
        rel |= (uint32_t)text[room + i - shape->free] << 8 * i;
    return rel;
}

/* Add the variant that reads `rel`, unless it is there. */
static void add_variant(struct shape *shape, uint64_t behind, uint32_t rel)
{
    struct tl_window *window = &shape->window;
    int64_t shift = (int64_t)(landing(shape, behind, rel) - window->start);
    for (unsigned i = 0; i < window->variants; i++)
        if (window->shift[i] == shift)
            return;
    if (shift && window->variants < TL_VARIANTS_MAX)
        window->shift[window->variants++] = shift;
}

/* What else the fixed bytes may read as: a breakpoint at any of the instructions that begin there; and where one stands
 * now, the program's own byte, for when it goes. */
static void add_variants(struct shape *shape, const struct tl_site *site, uint64_t behind, uint32_t rel, unsigned room)
{
    uint32_t flips[4];
    unsigned count = 0;
    for (unsigned i = shape->free; i < 4; i++) {
        unsigned at = room + i - shape->free;
        uint32_t now = rel >> 8 * i & 0xff;
        if (site->foreign >> at & 1 && now == BREAKPOINT)
            flips[count++] = (now ^ site->original[at]) << 8 * i;
        else if (site->boundaries >> at & 1 && now != BREAKPOINT)
            flips[count++] = (now ^ BREAKPOINT) << 8 * i;
    }
    for (unsigned set = 1; set < 1u << count; set++) {
        uint32_t flip = 0;
        for (unsigned i = 0; i < count; i++)
            flip |= set >> i & 1 ? flips[i] : 0;
        add_variant(shape, behind, rel ^ flip);
    }
}

/* Values to try for the free bytes, spread out. They are positive, so that the rel32 of a neighbour that ends in one
 * leads upwards: below a program that is not position independent there is no room. */
static uint64_t spread(unsigned number)
{
    uint64_t value = 0;
    number = number % 127 + 1;
    for (unsigned bit = 0; bit < 7; bit++)
        value |= (uint64_t)(number >> bit & 1) << (6 - bit);
    return value;
}

/* Varieties other than 0 keep to a part of the window: in turn, to a point, and to one value of the highest free byte.
 */
static void narrow(struct tl_window *window, const struct shape *shape)
{
    if (!shape->variety || !shape->free)
        return;
    if (shape->variety % 2) {
        for (unsigned i = 0; i < shape->free; i++)
            window->start += spread(shape->variety * (2 * i + 3)) << 8 * i;
        window->size = 1;
        return;
    }
    window->start += spread(shape->variety) << 8 * (shape->free - 1);
    window->size >>= 8;
}

/* A jump by pointer has an address of 32 bits: neither it nor the window may run over their end. */
static bool below_4_gib(const struct tl_window *window, uint64_t behind)
{
    const uint64_t end = 1ull << 32;
    bool below = behind < end && window->start + window->size <= end;
    for (unsigned i = 0; i < window->variants; i++)
        below = below && window->start + (uint64_t)window->shift[i] + window->size <= end;
    return below;
}

/* false: the bytes that it would take are not known, or there is no room for the prefixes, or it is like no variety. A
 * jump that fits into its instruction must stay there: those above it were not asked. */
static bool make_shape(struct shape *shape, const struct tl_job *job, const uint8_t *text, bool guard)
{
    unsigned length = shape->prefixes + opcode_bytes(shape) + 4;
    unsigned room = job->room < length ? job->room : length;
    if (shape->prefixes + opcode_bytes(shape) > room || length > job->known ||
        (job->room >= TL_JUMP_BYTES && length > job->room))
        return false;
    if (job->unstable >> room & ((1u << (length - room)) - 1))
        return false;
    shape->free = room - shape->prefixes - opcode_bytes(shape);
    if (shape->variety ? !shape->free && !shape->prefixes : shape->free == 4)
        return false;
    struct tl_window *window = &shape->window;
    uint64_t behind = job->site->addr + length;
    uint32_t rel = fixed_part(text, shape, room);
    window->start = landing(shape, behind, rel);
    window->pointer = shape->pointer;
    window->size = 1ull << 8 * shape->free;
    window->trampoline = job->site->trampoline;
    window->scatter = !job->leaned_on;
    window->variants = 0;
    if (guard)
        add_variants(shape, job->site, behind, rel, room);
    narrow(window, shape);
    return !shape->pointer || below_4_gib(window, behind);
}

static void write_jump(struct tl_job *job, const struct shape *shape, uint64_t target)
{
    static const uint8_t jump[] = {0xe9}, jump_by_pointer[] = {0x67, 0xff, 0x25};
    unsigned at = shape->prefixes, opcode = opcode_bytes(shape);
    uint32_t rel = (uint32_t)(target - (job->site->addr + at + opcode + 4));
    tl_fill_prefixes(job->bytes, at, shape->variety);
    memcpy(job->bytes + at, shape->pointer ? jump_by_pointer : jump, opcode);
    memcpy(job->bytes + at + opcode, &rel, shape->free);
    job->length = (uint8_t)(at + opcode + shape->free);
    job->jump_length = (uint8_t)(at + opcode + 4);
    job->tactic = shape->free == 4 ? TL_TACTIC_JUMP : TL_TACTIC_PUNNED;
}

static bool place_at(struct tl_landings *landings, struct tl_job *job, const struct shape *shape, uint64_t target,
                     bool all)
{
    if (!tl_landing_place(landings, &shape->window, target, all, &job->guarded))
        return false;
    write_jump(job, shape, target);
    return true;
}

/* The window has pages that are free, or open already. */
static bool has_page(const struct tl_space *space, const struct tl_window *window, int64_t shift)
{
    uint64_t start = window->start + (uint64_t)shift, page;
    return tl_space_first_page(space, start & ~(uint64_t)(TL_PAGE - 1), start + window->size, &page);
}

/* Drop variants for which there is no room whatever is chosen. Whether all are left. */
static bool drop_hopeless(const struct tl_space *space, struct tl_window *window)
{
    unsigned all = window->variants;
    window->variants = 0;
    for (unsigned i = 0; i < all; i++)
        if (has_page(space, window, window->shift[i]))
            window->shift[window->variants++] = window->shift[i];
    return window->variants == all;
}

/* What the one place of a fixed jump costs in pages. */
static unsigned cost_of(const struct tl_landings *landings, const struct tl_window *window)
{
    unsigned cost = !tl_landing_page(landings, window->start);
    for (unsigned i = 0; i < window->variants; i++)
        cost += !tl_landing_page(landings, window->start + (uint64_t)window->shift[i]);
    return cost;
}

/* A shape with the best target found for it. */
struct offer {
    struct shape shape;
    uint64_t target;
    unsigned cost;
    bool guarded; /* there is hope for all variants */
};

static bool make_offer(const struct tl_landings *landings, struct offer *offer)
{
    struct tl_window *window = &offer->shape.window;
    if (!has_page(landings->space, window, 0))
        return false;
    offer->guarded = drop_hopeless(landings->space, window);
    offer->target = window->start;
    if (window->size == 1) {
        offer->cost = cost_of(landings, window);
        return true;
    }
    if (tl_landing_find(landings, window, &offer->target, &offer->cost))
        return true;
    unsigned variants = window->variants;
    window->variants = 0;
    bool found = tl_landing_find(landings, window, &offer->target, &offer->cost);
    window->variants = variants;
    offer->guarded = offer->guarded && !variants;
    return found;
}

static bool better(const struct offer *a, const struct offer *b)
{
    return a->guarded != b->guarded ? a->guarded : a->cost < b->cost;
}

/* Take the best offer that holds. First with all variants, then with what can be had. */
static bool accept(struct tl_landings *landings, struct tl_job *job, struct offer *offers, unsigned count)
{
    for (unsigned i = 1; i < count; i++) /* few: sort by insertion */
        for (unsigned k = i; k > 0 && better(&offers[k], &offers[k - 1]); k--) {
            struct offer swap = offers[k];
            offers[k] = offers[k - 1];
            offers[k - 1] = swap;
        }
    for (int all = 1; all >= 0; all--)
        for (unsigned i = 0; i < count; i++)
            if ((offers[i].guarded || !all) && place_at(landings, job, &offers[i].shape, offers[i].target, all)) {
                job->guarded = job->guarded && offers[i].guarded;
                return true;
            }
    return false;
}

/* What the tidy search leaves out: each address of a small window, with stubs across pages and all. */
static bool place_anywhere(struct tl_landings *landings, struct tl_job *job, const struct shape *shape)
{
    if (shape->window.size != 256 || !has_page(landings->space, &shape->window, 0))
        return false;
    for (uint64_t i = 0; i < shape->window.size; i++)
        if (place_at(landings, job, shape, shape->window.start + i, false))
            return true;
    return false;
}

/* The last resort of a program that lies below 4 GiB. There an e9 leads nowhere when its highest byte is negative, but
 * an address of 32 bits wraps. */
static bool punned_pointer(struct tl_landings *landings, struct tl_job *job, const uint8_t *text, bool guard)
{
    struct offer offer = {.shape.pointer = true};
    for (; offer.shape.prefixes < job->room; offer.shape.prefixes++)
        if (make_shape(&offer.shape, job, text, guard) && make_offer(landings, &offer) &&
            (accept(landings, job, &offer, 1) || place_anywhere(landings, job, &offer.shape))) {
            job->guarded = job->guarded && offer.guarded;
            return true;
        }
    return false;
}

static bool punned(struct tl_landings *landings, struct tl_job *job, const uint8_t *text, bool guard, unsigned choice)
{
    struct offer offers[TL_JUMP_BYTES];
    unsigned count = 0, most = job->room < TL_JUMP_BYTES ? job->room : job->room - TL_JUMP_BYTES + 1u;
    if (most > TL_JUMP_BYTES)
        most = TL_JUMP_BYTES;
    struct shape shape = {.variety = choice ? (choice - 1) / most + 1 : 0};
    if (choice) {
        shape.prefixes = (choice - 1) % most;
        offers[0].shape = shape;
        return make_shape(&offers[0].shape, job, text, guard) && make_offer(landings, &offers[0]) &&
               accept(landings, job, offers, 1);
    }
    for (; shape.prefixes < most; shape.prefixes++) {
        offers[count].shape = shape;
        if (!make_shape(&offers[count].shape, job, text, guard) || !make_offer(landings, &offers[count]))
            continue;
        count++;
        if (offers[count - 1].guarded && offers[count - 1].cost == 0)
            break;
    }
    if (accept(landings, job, offers, count))
        return true;
    for (shape.prefixes = 0; shape.prefixes < most; shape.prefixes++)
        if (make_shape(&shape, job, text, guard) && place_anywhere(landings, job, &shape))
            return true;
    return punned_pointer(landings, job, text, guard);
}

bool tl_tactic_punned(struct tl_landings *landings, struct tl_job *job, const uint8_t *text, bool guard,
                      unsigned choice)
{
    bool placed = punned(landings, job, text, guard, choice);
    job->guarded = job->guarded && (guard || job->tactic == TL_TACTIC_JUMP);
    return placed;
}

/* Whether any shape would find room if nobody else were there. */
static bool fits_alone(const struct tl_space *space, const struct tl_job *job)
{
    for (int pointer = 0; pointer < 2; pointer++)
        for (struct shape shape = {.pointer = pointer}; shape.prefixes < job->room; shape.prefixes++) {
            if (!make_shape(&shape, job, job->site->text, false))
                continue;
            uint64_t start = shape.window.start, bytes = pointer ? TL_STUB_POINTER_BYTES : TL_STUB_NEAR_BYTES;
            if (shape.window.size == 1 ? tl_space_is_free(space, start, start + bytes)
                                       : has_page(space, &shape.window, 0))
                return true;
        }
    return false;
}

enum tl_why tl_tactic_alone(const struct tl_space *space, const struct tl_site *site, uint32_t tactics)
{
    struct tl_site copy = *site;
    struct tl_job job;
    enum tl_why why = tl_job_begin(&job, &copy, tl_tactics_allowed(tactics));
    if (why != TL_WHY_NONE)
        return why;
    if (job.room >= TL_JUMP_BYTES || job.tactics & 1u << TL_TACTIC_INT3 || fits_alone(space, &job))
        return TL_WHY_NONE;
    return job.room < job.insn.length && job.room < TL_JUMP_BYTES - 1 ? TL_WHY_PAGE_CROSSING : TL_WHY_NO_ROOM;
}
