/* SPDX-License-Identifier: MIT
 *
 * Any plan for any sites in any text: what check.h says holds, no more is mapped than was allowed, and the same
 * question has the same answer.
 *
 *     property_test ELF_FILE...
 *
 * The text is pieces of the files' functions, and instructions of theirs shuffled; sites are any share of the
 * instructions; the address space goes from empty to crowded. Chance that is the same in each run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../spec/chance.h"
#include "check.h"
#include "symbol/symbol.h"

enum { ROUNDS = 500, TEXT = 6000, SITES = 3000, AREAS = 60, PAGE = 4096 };

struct world {
    struct chance chance;
    uint8_t bytes[TEXT];
    struct text text;
    struct tl_site sites[SITES];
    struct tl_area areas[AREAS];
    struct tl_plan_options options;
    struct planned planned;
};

/* A function that is large enough to be of interest. */
static const uint8_t *any_function(struct world *world, const struct tl_object *object, size_t *size)
{
    size_t count, available;
    const struct tl_function *functions = tl_object_functions(object, &count);
    for (;;) {
        const struct tl_function *function = &functions[chance_below(&world->chance, (unsigned)count)];
        const uint8_t *bytes = tl_object_text(object, function->addr, &available);
        *size = function->size < available ? function->size : available;
        if (bytes && *size > 16)
            return bytes;
    }
}

/* Whole functions one behind the other, or single instructions. */
static void make_text(struct world *world, const struct tl_object *object)
{
    static const uint64_t bases[] = {0x401000, 0x555555556000, 0x7ffff7c28000, 0x7ffffff00000, 0x20000};
    bool shuffled = chance_below(&world->chance, 4) == 0;
    size_t wanted = 64 + chance_below(&world->chance, TEXT - 64), size;
    world->text = (struct text){.bytes = world->bytes};
    world->text.addr = bases[chance_below(&world->chance, 5)] + chance_below(&world->chance, PAGE);
    while (world->text.size < wanted) {
        const uint8_t *bytes = any_function(world, object, &size);
        struct tl_insn insn;
        if (shuffled) {
            size_t at = 0, skip = chance_below(&world->chance, (unsigned)size);
            while (at < skip && !tl_insn_decode(bytes + at, size - at, at, &insn))
                at += insn.length;
            bytes += at;
            size = tl_insn_decode(bytes, size - at, 0, &insn) ? 1 : insn.length;
        }
        if (size > TEXT - world->text.size)
            size = TEXT - world->text.size;
        memcpy(world->bytes + world->text.size, bytes, size);
        world->text.size += size;
    }
}

static void make_sites(struct world *world)
{
    unsigned share = 1 + chance_below(&world->chance, chance_below(&world->chance, 2) ? 4 : 40);
    struct tl_insn insn;
    size_t count = 0;
    for (size_t at = 0; at < world->text.size && count < SITES; at += insn.length) {
        uint64_t addr = world->text.addr + at;
        if (tl_insn_decode(world->bytes + at, world->text.size - at, addr, &insn)) {
            insn.length = 1;
            continue;
        }
        if (chance_below(&world->chance, share))
            continue;
        struct tl_site *site = &world->sites[count++];
        site_at(&world->text, addr, site);
        if (insn.flow == TL_FLOW_BRANCH && !chance_below(&world->chance, 4))
            site->mode = TL_SITE_TAKEN;
        site->hook.kind = chance_below(&world->chance, 2) ? TL_HOOK_NONE : TL_HOOK_ENTER;
        site->hook.index = (uint32_t)count;
    }
    for (size_t i = 1; i < count; i++) { /* in any order */
        size_t other = chance_below(&world->chance, (unsigned)i + 1);
        struct tl_site swap = world->sites[i];
        world->sites[i] = world->sites[other];
        world->sites[other] = swap;
    }
    world->planned.site_count = count;
}

static void make_areas(struct world *world)
{
    struct text *text = &world->text;
    uint64_t first = text->addr / PAGE * PAGE;
    size_t count = chance_below(&world->chance, 2) ? 1 : 1 + chance_below(&world->chance, AREAS - 1);
    world->areas[0] = (struct tl_area){.start = first, .end = (text->addr + text->size) / PAGE * PAGE + PAGE};
    for (size_t i = 1; i < count; i++) {
        uint64_t size = (uint64_t)(1 + chance_below(&world->chance, 1u << chance_below(&world->chance, 15))) * PAGE;
        uint64_t start = first - (1ull << 31) + (uint64_t)chance_below(&world->chance, 1u << 20) * PAGE;
        if (start > 0x7ffffffff000 - size)
            start = (uint64_t)chance_below(&world->chance, 1000) * PAGE;
        world->areas[i] = (struct tl_area){.start = start, .end = start + size};
        if (!chance_below(&world->chance, 5))
            world->areas[i].keep_above = chance_below(&world->chance, 1u << 30);
        if (!chance_below(&world->chance, 5))
            world->areas[i].keep_below = chance_below(&world->chance, 1u << 28);
    }
    world->planned.area_count = count;
}

static void make_options(struct world *world)
{
    static const uint32_t trap = 1u << TL_TACTIC_INT3;
    static const uint32_t tactics[] = {0,          0,         1u << TL_TACTIC_PUNNED, 1u << TL_TACTIC_JUMP, trap,
                                       UINT32_MAX, UINT32_MAX};
    world->options = (struct tl_plan_options){
        .tactics = tactics[chance_below(&world->chance, 7)],
        .guard_breakpoints = chance_below(&world->chance, 2),
        .max_mappings = chance_below(&world->chance, 4) ? 60000 : chance_below(&world->chance, 200)};
}

static int build(struct world *world, struct tl_plan *plan)
{
    return tl_plan_build(world->sites, world->planned.site_count, world->areas, world->planned.area_count,
                         &world->options, plan);
}

static bool same(const struct tl_plan *a, const struct tl_plan *b)
{
    return a->map_count == b->map_count && a->write_count == b->write_count && a->pool_size == b->pool_size &&
           !memcmp(a->maps, b->maps, a->map_count * sizeof *a->maps) &&
           !memcmp(a->writes, b->writes, a->write_count * sizeof *a->writes) && !memcmp(a->pool, b->pool, a->pool_size);
}

/* With a tactic that fits everywhere, where a jump may go is no reason. */
static const char *check_refusals(const struct world *world)
{
    if (!(world->options.tactics & 1u << TL_TACTIC_INT3))
        return NULL;
    for (size_t i = 0; i < world->planned.site_count; i++)
        if (world->sites[i].why == TL_WHY_CONFLICT || world->sites[i].why == TL_WHY_PAGE_CROSSING)
            return "refused, though int3 was allowed";
    return NULL;
}

static int round_of(struct world *world, const struct tl_object *object, unsigned number, size_t *planned,
                    size_t *refused, size_t *beyond)
{
    world->chance.state = number;
    make_text(world, object);
    make_sites(world);
    make_areas(world);
    make_options(world);
    struct tl_plan again;
    if (build(world, &world->planned.plan) || build(world, &again))
        return 1;
    const char *message = check_plan(&world->planned);
    if (!message && world->planned.plan.map_count + world->planned.plan.gate_count > world->options.max_mappings)
        message = "more mappings than allowed";
    if (!message)
        message = check_refusals(world);
    if (!message && !same(&world->planned.plan, &again))
        message = "another plan for the same sites";
    if (message)
        fprintf(stderr, "round %u: %s\n", number, message);
    *planned += world->planned.plan.planned;
    *beyond += world->planned.plan.trampoline_count - world->planned.plan.planned;
    *refused += world->planned.plan.refused;
    tl_plan_free(&again);
    tl_plan_free(&world->planned.plan);
    return message != NULL;
}

int main(int argc, char **argv)
{
    struct world *world = calloc(1, sizeof *world);
    if (!world || argc < 2)
        return 2;
    world->planned.text = &world->text;
    world->planned.sites = world->sites;
    world->planned.areas = world->areas;
    int failed = 0;
    size_t planned = 0, refused = 0, beyond = 0;
    for (int i = 1; i < argc; i++) {
        struct tl_object *object;
        struct tl_error error;
        if (tl_object_open(argv[i], NULL, &object, &error)) {
            fprintf(stderr, "%s\n", error.text);
            return 2;
        }
        for (unsigned number = 0; number < ROUNDS && failed < 5; number++)
            failed += round_of(world, object, number * 16 + (unsigned)i, &planned, &refused, &beyond);
        tl_object_close(object);
    }
    printf("%zu sites planned, %zu of them with a second trampoline, %zu refused\n", planned, beyond, refused);
    free(world);
    return failed != 0 || !beyond;
}
