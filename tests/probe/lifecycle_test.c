/* SPDX-License-Identifier: MIT
 *
 * Plan after plan for one text, sites coming and going one by one, as in a process that registers probes.
 *
 *     lifecycle_test ELF_FILE
 *
 * After each step every site in force leads to its trampoline, whatever came and went around it, and all other bytes
 * are the program's. What was made an int3 for others' sake leads there too. Trampolines go into rooms, and those that
 * are retired are used again; no two overlap. Chance that is the same in each run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../spec/chance.h"
#include "check.h"
#include "symbol/symbol.h"

enum { ROUNDS = 60, STEPS = 60, TEXT = 400, SITES = 400, MAPS = 4000, BATCH = 6, ARENA = 1 << 14 };
static const uint64_t base = 0x555555556000;

struct world {
    struct chance chance;
    uint8_t original[TEXT], now[TEXT];
    struct text text;
    struct tl_site sites[SITES]; /* in force, by address */
    bool demoted[SITES];
    size_t count;
    struct tl_area areas[MAPS];
    size_t area_count;
    struct tl_plan_room rooms[MAPS];
    size_t room_count;
    struct planned all; /* all mappings of all plans */
    size_t demotions, traps, made, refused, reused;
};

static void make_text(struct world *world, const struct tl_object *object)
{
    size_t count, available, at = 0;
    const struct tl_function *functions = tl_object_functions(object, &count);
    memset(world->original, 0x90, TEXT);
    while (at < TEXT - 40) {
        const struct tl_function *function = &functions[chance_below(&world->chance, (unsigned)count)];
        const uint8_t *bytes = tl_object_text(object, function->addr, &available);
        size_t size = function->size < available ? function->size : available;
        if (!bytes || size < 16)
            continue;
        size = size < TEXT - 32 - at ? size : TEXT - 32 - at;
        memcpy(world->original + at, bytes, size);
        at += size;
    }
    memcpy(world->now, world->original, TEXT);
    world->text = (struct text){base, world->now, TEXT};
    world->areas[0] = (struct tl_area){.start = base, .end = base + 4096};
    world->area_count = 1;
    world->count = world->room_count = 0;
    world->all.text = &world->text;
    world->all.plan = (struct tl_plan){0};
    memset(world->demoted, 0, sizeof world->demoted);
}

static bool in_force(const struct world *world, uint64_t addr)
{
    for (size_t i = 0; i < world->count; i++)
        if (world->sites[i].addr == addr)
            return true;
    return false;
}

/* A few instructions that are no sites yet; their text is what stands there now. */
static size_t choose(struct world *world, struct tl_site *sites)
{
    struct text pristine = {base, world->original, TEXT};
    struct tl_insn insn;
    size_t count = 0;
    unsigned share = 4 + chance_below(&world->chance, 40);
    for (size_t at = 0; at < TEXT - 32 && count < BATCH; at += insn.length) {
        if (tl_insn_decode(world->original + at, TEXT - at, base + at, &insn))
            insn.length = 1;
        else if (!in_force(world, base + at) && !chance_below(&world->chance, share)) {
            site_at(&pristine, base + at, &sites[count]);
            memcpy(sites[count].text, world->now + at, sites[count].text_length);
            sites[count++].hook.kind = TL_HOOK_CALL;
        }
    }
    return count;
}

static size_t list_in_force(const struct world *world, struct tl_plan_in_force *list)
{
    for (size_t i = 0; i < world->count; i++) {
        const struct tl_site *site = &world->sites[i];
        list[i] = (struct tl_plan_in_force){.addr = site->addr, .own_length = 1, .guarded = true};
        if (!world->demoted[i])
            list[i] = (struct tl_plan_in_force){.addr = site->addr,
                                                .own_length = site->own_length,
                                                .jump_length = site->jump_length,
                                                .may_demote = true,
                                                .guarded = site->guarded};
    }
    return world->count;
}

/* What a plan maps and fills becomes part of the world. */
static void adopt_memory(struct world *world, const struct tl_plan *plan)
{
    struct tl_plan *all = &world->all.plan;
    all->pool = realloc(all->pool, all->pool_size + plan->pool_size + 1);
    all->maps = realloc(all->maps, (all->map_count + plan->map_count + 1) * sizeof *all->maps);
    memcpy(all->pool + all->pool_size, plan->pool, plan->pool_size);
    for (size_t i = 0; i < plan->map_count; i++) {
        struct tl_plan_map map = plan->maps[i];
        world->areas[world->area_count++] = (struct tl_area){.start = map.addr, .end = map.addr + map.size};
        map.pool += all->pool_size;
        size_t at = all->map_count++;
        for (; at > 0 && all->maps[at - 1].addr > map.addr; at--)
            all->maps[at] = all->maps[at - 1];
        all->maps[at] = map;
    }
    all->pool_size += plan->pool_size;
    for (size_t i = 0; i < plan->gate_count; i++)
        world->areas[world->area_count++] =
            (struct tl_area){.start = plan->gates[i].addr, .end = plan->gates[i].addr + 4096};
    for (size_t i = 0; i < plan->fill_count; i++)
        for (size_t k = 0; k < all->map_count; k++)
            if (plan->fills[i].addr - all->maps[k].addr < all->maps[k].size)
                memcpy(all->pool + all->maps[k].pool + (plan->fills[i].addr - all->maps[k].addr),
                       plan->fill_bytes + plan->fills[i].offset, plan->fills[i].length);
    world->reused += plan->fill_count;
    world->room_count = plan->room_count;
    memcpy(world->rooms, plan->rooms, plan->room_count * sizeof *plan->rooms);
}

static void insert(struct world *world, const struct tl_site *site)
{
    size_t at = world->count++;
    for (; at > 0 && world->sites[at - 1].addr > site->addr; at--) {
        world->sites[at] = world->sites[at - 1];
        world->demoted[at] = world->demoted[at - 1];
    }
    world->sites[at] = *site;
    world->demoted[at] = false;
}

static void demote(struct world *world, uint32_t number)
{
    const struct tl_site *site = &world->sites[number];
    memcpy(world->now + (site->addr - base), world->original + (site->addr - base), site->own_length);
    world->now[site->addr - base] = 0xcc;
    world->demoted[number] = true;
    world->demotions++;
}

static const char *register_some(struct world *world)
{
    struct tl_site sites[BATCH];
    struct tl_plan_in_force list[SITES];
    struct tl_plan plan;
    size_t count = choose(world, sites);
    struct tl_plan_options options = {.tactics = UINT32_MAX,
                                      .max_mappings = 1000,
                                      .independent = true,
                                      .guard_breakpoints = chance_below(&world->chance, 2),
                                      .arena_bytes = ARENA,
                                      .rooms = world->rooms,
                                      .room_count = world->room_count,
                                      .in_force = list,
                                      .in_force_count = list_in_force(world, list)};
    if (world->count + count > SITES || world->area_count > MAPS - 500)
        return NULL;
    if (tl_plan_build(sites, count, world->areas, world->area_count, &options, &plan))
        return "no plan";
    for (size_t i = 0; i < plan.demoted_count; i++)
        demote(world, plan.demoted[i]);
    adopt_memory(world, &plan);
    for (size_t i = 0; i < plan.write_count; i++) {
        const struct tl_plan_write *write = &plan.writes[i];
        if (memcmp(world->now + (write->addr - base), write->old_bytes, write->length))
            return "the plan expects other bytes";
        memcpy(world->now + (write->addr - base), write->new_bytes, write->length);
    }
    for (size_t i = 0; i < count; i++) {
        if (sites[i].why == TL_WHY_NONE)
            insert(world, &sites[i]);
        world->made += sites[i].why == TL_WHY_NONE;
        world->refused += sites[i].why != TL_WHY_NONE;
        world->traps += sites[i].why == TL_WHY_NONE && sites[i].tactic == TL_TACTIC_INT3;
    }
    tl_plan_free(&plan);
    return NULL;
}

static void unregister_one(struct world *world)
{
    size_t number = chance_below(&world->chance, (unsigned)world->count);
    const struct tl_site *site = &world->sites[number];
    memcpy(world->now + (site->addr - base), world->original + (site->addr - base), site->own_length);
    struct tl_plan_room *room = &world->rooms[world->room_count++];
    *room = (struct tl_plan_room){site->hook.gate, site->trampoline, site->trampoline_size};
    world->count--;
    memmove(&world->sites[number], &world->sites[number + 1], (world->count - number) * sizeof *world->sites);
    memmove(&world->demoted[number], &world->demoted[number + 1], (world->count - number) * sizeof *world->demoted);
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static const char *check(const struct world *world)
{
    uint8_t rest[TEXT];
    memcpy(rest, world->now, TEXT);
    for (size_t i = 0; i < world->count; i++) {
        const struct tl_site *site = &world->sites[i];
        bool trap = world->demoted[i] || site->tactic == TL_TACTIC_INT3;
        uint64_t end = trap ? 0 : follow(&world->all, world->now, site->addr, site->trampoline);
        if (!trap && end != site->trampoline)
            end = site->beyond ? follow(&world->all, world->now, site->addr, site->beyond) : 0;
        if (trap ? world->now[site->addr - base] != 0xcc
                 : end != site->trampoline && (!site->beyond || end != site->beyond))
            return "a site does not lead to its trampoline";
        memcpy(rest + (site->addr - base), world->original + (site->addr - base), trap ? 1 : site->own_length);
        for (size_t k = 0; k < i; k++)
            if (overlap(site->trampoline, site->trampoline_size, world->sites[k].trampoline,
                        world->sites[k].trampoline_size))
                return "trampolines overlap";
        for (size_t k = 0; k < world->room_count; k++)
            if (overlap(site->trampoline, site->trampoline_size, world->rooms[k].addr, world->rooms[k].size))
                return "a room is in use";
    }
    return memcmp(rest, world->original, TEXT) ? "bytes of nobody have changed" : NULL;
}

int main(int argc, char **argv)
{
    struct world *world = calloc(1, sizeof *world);
    struct tl_object *object;
    struct tl_error error;
    const char *message = NULL;
    if (!world || argc < 2 || tl_object_open(argv[1], NULL, &object, &error))
        return 2;
    for (unsigned round = 0; round < ROUNDS && !message; round++) {
        world->chance.state = round + 1;
        make_text(world, object);
        for (unsigned step = 0; step < STEPS && !message; step++) {
            if (world->count && chance_below(&world->chance, 3))
                unregister_one(world);
            else
                message = register_some(world);
            if (!message)
                message = check(world);
            if (message)
                fprintf(stderr, "round %u, step %u: %s\n", round, step, message);
        }
        free(world->all.plan.pool);
        free(world->all.plan.maps);
    }
    printf("%zu registered (%zu by int3), %zu refused, %zu made int3 for others, %zu trampolines in rooms\n",
           world->made, world->traps, world->refused, world->demotions, world->reused);
    bool enough = world->made > 2000 && world->traps && world->demotions && world->reused > world->made / 2 &&
                  world->refused * 20 < world->made;
    tl_object_close(object);
    free(world);
    return message != NULL || !enough;
}
