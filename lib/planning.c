/* SPDX-License-Identifier: MIT
 *
 * The address space may change between the look and the mapping, since other threads run on: then it is done again. A
 * look costs a line of /proc/self/maps for each mapping, so single registrations avoid new mappings: arenas are mapped
 * larger than is needed, and their rest is offered to the next plans. What needs no new mapping is planned without a
 * look; what a look has shown is believed for some time, since an address that is taken by then is noticed. A punned
 * jump needs one, as a rule; so when there are many, single probes get an int3 instead. In a batch jumps share theirs,
 * which is no matter then.
 */
#include "planning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, ARENA_BYTES = 1 << 16, NEAR = 32, NEAR_GUARD = 128, ATTEMPTS = 5 };
/* So few are single ones; and so many mappings they may have. */
enum { FEW = 8, MAPPINGS_OF_FEW = 1024, TURNS = 64 };

/* ---- neighbours ---- */

static struct tl_plan_in_force of_site(const struct site *site, bool may_demote)
{
    return (struct tl_plan_in_force){.addr = site->plan.addr,
                                     .own_length = site->plan.own_length,
                                     .jump_length = site->plan.jump_length,
                                     .may_demote = may_demote && engine.traps && site->tactics & 1u << TL_TACTIC_INT3,
                                     .guarded = site->plan.guarded};
}

static int by_address(const void *left, const void *right)
{
    const struct tl_plan_in_force *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

/* Index of the first fresh site at or behind addr. */
static size_t fresh_from(const struct planning *planning, uint64_t addr)
{
    size_t low = 0, high = planning->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (planning->fresh[middle]->plan.addr < addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What is in force near the sites of this group: earlier sites that somebody uses, sites of the groups before, and
 * guards. */
static struct tl_plan_in_force *neighbours(const struct planning *planning, uint32_t tactics, size_t *count)
{
    size_t used = 0;
    struct tl_plan_in_force *in_force =
        calloc(engine.site_count + planning->count + engine.guard_count + 1, sizeof *in_force);
    size_t next = 0; /* of engine.sites, so that none comes twice */
    for (size_t i = 0; in_force && i < planning->count; i++) {
        const struct site *fresh = planning->fresh[i];
        if (fresh->planned)
            in_force[used++] = of_site(fresh, false);
        if (fresh->tactics != tactics)
            continue;
        size_t at = sites_at(fresh->plan.addr - NEAR);
        for (next = at > next ? at : next;
             next < engine.site_count && engine.sites[next]->plan.addr < fresh->plan.addr + NEAR; next++) {
            const struct site *site = engine.sites[next];
            if ((site->user_count || site->patched) && !site->is_replaced)
                in_force[used++] = of_site(site, true);
        }
    }
    for (size_t i = 0; in_force && i < engine.guard_count; i++) {
        size_t at = fresh_from(planning, engine.guards[i]->addr - NEAR_GUARD);
        if (at == planning->count || planning->fresh[at]->plan.addr > engine.guards[i]->addr + NEAR_GUARD)
            continue;
        in_force[used++] = (struct tl_plan_in_force){.addr = engine.guards[i]->addr,
                                                     .own_length = engine.guards[i]->own_length,
                                                     .jump_length = engine.guards[i]->jump_length};
    }
    if (in_force)
        qsort(in_force, used, sizeof *in_force, by_address);
    *count = used;
    return in_force;
}

/* ---- plans ---- */

static struct site *fresh_at(const struct planning *planning, uint64_t addr)
{
    size_t at = fresh_from(planning, addr);
    return at < planning->count && planning->fresh[at]->plan.addr == addr ? planning->fresh[at] : NULL;
}

/* Where a punned jump leads. */
static uint64_t landing_of(const struct site *site)
{
    const struct tl_site *plan = &site->plan;
    uint8_t jump[TL_INSN_MAX + 8];
    int32_t distance;
    if (plan->tactic != TL_TACTIC_PUNNED || plan->jump_length < sizeof distance || plan->jump_length > TL_INSN_MAX)
        return 0;
    memcpy(jump, plan->text, TL_INSN_MAX);
    memcpy(jump, site->bytes, plan->own_length);
    memcpy(&distance, jump + plan->jump_length - sizeof distance, sizeof distance);
    return plan->addr + plan->jump_length + (uint64_t)(int64_t)distance;
}

/* What a breakpoint would have helped against. */
static bool is_for_want_of_traps(const struct site *site)
{
    enum tl_why why = site->plan.why;
    return site->lacks_traps &&
           (why == TL_WHY_TACTIC || why == TL_WHY_NO_ROOM || why == TL_WHY_CONFLICT || why == TL_WHY_PAGE_CROSSING);
}

/* What a plan says goes into its sites. Which one was refused, or `count`. */
static size_t take(const struct planning *planning, const struct tl_site *sites, size_t count,
                   const struct tl_plan *plan)
{
    size_t refused = planning->count;
    for (size_t i = count; i--;) {
        struct site *site = fresh_at(planning, sites[i].addr);
        site->plan = sites[i];
        site->planned = sites[i].why == TL_WHY_NONE;
        if (is_for_want_of_traps(site))
            site->plan.why = TL_WHY_SIGNALS;
        for (size_t k = 0; !site->planned && k < planning->count; k++)
            if (planning->fresh[k] == site)
                refused = k;
    }
    for (size_t i = 0; i < plan->write_count; i++) {
        struct site *site = fresh_at(planning, plan->writes[i].addr);
        site->plan.own_length = plan->writes[i].length;
        memcpy(site->bytes, plan->writes[i].new_bytes, plan->writes[i].length);
        site->landing = landing_of(site);
    }
    return refused;
}

static int note_demoted(struct planning *planning, const struct tl_plan *plan, const struct tl_plan_in_force *in_force)
{
    if (!plan->demoted_count)
        return 0;
    struct site **grown =
        realloc(planning->demoted, (planning->demoted_count + plan->demoted_count) * sizeof(struct site *));
    if (!grown)
        return -ENOMEM;
    planning->demoted = grown;
    for (size_t i = 0; i < plan->demoted_count; i++)
        planning->demoted[planning->demoted_count++] = sites_find(in_force[plan->demoted[i]].addr);
    return 0;
}

/* The plan's memory is taken, for the next group. */
static int add_areas(struct planning *planning, const struct tl_plan *plan)
{
    if (!plan->map_count && !plan->gate_count)
        return 0;
    size_t count = planning->area_count + plan->map_count + plan->gate_count;
    struct tl_area *merged = calloc(count + 1, sizeof *merged);
    if (!merged)
        return -ENOMEM;
    size_t old = 0, map = 0, gate = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t a = old < planning->area_count ? planning->areas[old].start : UINT64_MAX;
        uint64_t b = map < plan->map_count ? plan->maps[map].addr : UINT64_MAX;
        uint64_t c = gate < plan->gate_count ? plan->gates[gate].addr : UINT64_MAX;
        if (a <= b && a <= c)
            merged[i] = planning->areas[old++];
        else if (b <= c) {
            merged[i] = (struct tl_area){.start = b, .end = b + plan->maps[map].size};
            map++;
        } else {
            merged[i] = (struct tl_area){.start = c, .end = c + PAGE};
            gate++;
        }
    }
    free(planning->areas);
    planning->areas = merged;
    planning->area_count = count;
    size_t used = plan->map_count + 2 * plan->gate_count;
    planning->mappings_left -= used < planning->mappings_left ? used : planning->mappings_left;
    return 0;
}

/* Only with what is mapped already: as if nothing were free. Whether that is the end of it; *code is what the planner
 * returned. */
static bool plan_in_place(const struct planning *planning, struct tl_site *sites, size_t count,
                          struct tl_plan_options options, struct tl_plan *plan, int *code)
{
    const struct tl_area everything = {.start = 0, .end = UINT64_MAX};
    const uint32_t jumps = options.tactics & ~(1u << TL_TACTIC_INT3);
    if (planning->count > FEW)
        return false;
    if (jumps && engine.memory_count < MAPPINGS_OF_FEW)
        options.tactics = jumps;
    options.max_mappings = 0;
    *code = tl_plan_build(sites, count, &everything, 1, &options, plan);
    if (*code || !plan->refused)
        return true;
    tl_plan_free(plan);
    return false;
}

/* The look, if it has not been done. */
static int look(struct planning *planning, struct tl_error *error)
{
    struct seen *seen = &engine.seen;
    if (planning->areas)
        return 0;
    planning->remembered = seen->areas && seen->turns;
    if (!planning->remembered) {
        seen->turns = TURNS;
        return tl_self_areas(engine.self, &planning->areas, &planning->area_count, &planning->mappings_left, error);
    }
    planning->areas = malloc((seen->count + 1) * sizeof *planning->areas);
    if (!planning->areas)
        return tl_fail(error, -ENOMEM, "out of memory");
    memcpy(planning->areas, seen->areas, seen->count * sizeof *planning->areas);
    planning->area_count = seen->count;
    planning->mappings_left = seen->mappings_left;
    seen->turns--;
    return 0;
}

void planning_forget_areas(void)
{
    free(engine.seen.areas);
    engine.seen = (struct seen){0};
}

static void remember(struct planning *planning)
{
    if (!planning->areas)
        return;
    free(engine.seen.areas);
    engine.seen.areas = planning->areas;
    engine.seen.count = planning->area_count;
    engine.seen.mappings_left = planning->mappings_left;
    planning->areas = NULL;
}

static int plan_group(struct planning *planning, uint32_t tactics, size_t *failed, struct tl_error *error)
{
    struct tl_plan *plan = &planning->plans[planning->plan_count];
    size_t count = 0, in_force_count = 0;
    struct tl_site *sites = calloc(planning->count, sizeof *sites);
    struct tl_plan_in_force *in_force = neighbours(planning, tactics, &in_force_count);
    for (size_t i = 0; sites && i < planning->count; i++)
        if (planning->fresh[i]->tactics == tactics)
            sites[count++] = planning->fresh[i]->plan;
    struct tl_plan_options options = {.tactics = tactics,
                                      .independent = true,
                                      .rooms = planning->rooms,
                                      .room_count = planning->room_count,
                                      .arena_bytes = ARENA_BYTES,
                                      .in_force = in_force,
                                      .in_force_count = in_force_count};
    int code = sites && in_force ? 0 : -ENOMEM;
    bool told = false;
    if (!code && !plan_in_place(planning, sites, count, options, plan, &code)) {
        code = look(planning, error);
        options.max_mappings = planning->mappings_left;
        told = code != 0;
        if (!code)
            code = tl_plan_build(sites, count, planning->areas, planning->area_count, &options, plan);
    }
    if (!code) {
        planning->plan_count++;
        *failed = take(planning, sites, count, plan);
        if (*failed < planning->count)
            code = -tl_why_errno(planning->fresh[*failed]->plan.why);
    }
    if (!code)
        code = note_demoted(planning, plan, in_force);
    if (!code)
        code = add_areas(planning, plan);
    if (!code) {
        struct tl_plan_room *rooms = malloc((plan->room_count + 1) * sizeof *rooms);
        size_t kept = 0;
        for (size_t i = 0; rooms && i < plan->room_count; i++)
            if (plan->rooms[i].size)
                rooms[kept++] = plan->rooms[i];
        free(planning->rooms);
        planning->rooms = rooms;
        planning->room_count = kept;
        code = rooms ? 0 : -ENOMEM;
    }
    free(sites);
    free(in_force);
    return code == -ENOMEM && !told && *failed >= planning->count ? tl_fail(error, code, "out of memory") : code;
}

static int plan_all(struct planning *planning, size_t *failed, struct tl_error *error)
{
    planning->rooms = malloc((engine.room_count + 1) * sizeof *planning->rooms);
    if (!planning->rooms)
        return tl_fail(error, -ENOMEM, "out of memory");
    if (engine.room_count)
        memcpy(planning->rooms, engine.rooms, engine.room_count * sizeof *planning->rooms);
    planning->room_count = engine.room_count;
    int code = 0;
    for (size_t i = 0; i < planning->count && !code; i++)
        if (!planning->fresh[i]->planned)
            code = planning->plan_count < PLANNING_GROUPS
                       ? plan_group(planning, planning->fresh[i]->tactics, failed, error)
                       : -EINVAL;
    return code;
}

/* ---- memory ---- */

static int reserve_memory(size_t more)
{
    if (engine.memory_count + more <= engine.memory_room)
        return 0;
    size_t room = engine.memory_count + more + 64;
    struct mapped *grown = realloc(engine.memory, room * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    engine.memory = grown;
    engine.memory_room = room;
    return 0;
}

static void unmap(const struct tl_plan *plan)
{
    for (size_t i = 0; i < plan->map_count; i++)
        tl_self_unmap(engine.self, plan->maps[i].addr, plan->maps[i].size);
    for (size_t i = 0; i < plan->gate_count; i++)
        tl_self_unmap(engine.self, plan->gates[i].addr, PAGE);
}

/* Map one plan, and fill what was mapped before. */
static int map(const struct tl_plan *plan, struct tl_error *error)
{
    uint64_t enter = (uintptr_t)tl_call_enter;
    int code = reserve_memory(plan->map_count);
    if (code)
        return tl_fail(error, code, "out of memory");
    code = tl_self_map(engine.self, plan, error);
    if (code)
        return code;
    for (size_t i = 0; i < plan->gate_count && !code; i++)
        code = tl_self_fill(engine.self, plan->gates[i].addr + offsetof(struct tl_gate, call), &enter, sizeof enter,
                            error);
    for (size_t i = 0; i < plan->fill_count && !code; i++)
        code = tl_self_fill(engine.self, plan->fills[i].addr, plan->fill_bytes + plan->fills[i].offset,
                            plan->fills[i].length, error);
    if (code)
        unmap(plan);
    return code;
}

static int map_all(struct planning *planning, struct tl_error *error)
{
    int code = 0;
    while (planning->mapped < planning->plan_count && !code) {
        code = map(&planning->plans[planning->mapped], error);
        planning->mapped += !code;
    }
    while (code && planning->mapped)
        unmap(&planning->plans[--planning->mapped]);
    return code;
}

static int make_parts(struct planning *planning)
{
    for (size_t i = 0; i < planning->count; i++) {
        struct site *site = planning->fresh[i];
        tl_traps_part_free(site->part);
        site->part = NULL;
        int code = tl_traps_part_make(&site->plan, site->before.index, &site->part);
        if (code)
            return code;
    }
    return 0;
}

static void forget(struct planning *planning)
{
    for (size_t i = 0; i < PLANNING_GROUPS; i++)
        tl_plan_free(&planning->plans[i]);
    free(planning->rooms);
    free(planning->areas);
    free(planning->demoted);
    memset(planning, 0, sizeof *planning);
}

int planning_make(struct planning *planning, struct site *const *fresh, size_t count, size_t *failed,
                  struct tl_error *error)
{
    int code = 0;
    *failed = count;
    memset(planning, 0, sizeof *planning);
    for (unsigned attempt = 0; count && attempt < ATTEMPTS; attempt++) {
        planning->fresh = fresh;
        planning->count = count;
        *failed = count;
        for (size_t i = 0; i < count; i++)
            fresh[i]->planned = false;
        code = plan_all(planning, failed, error);
        if (!code && make_parts(planning))
            code = tl_fail(error, -ENOMEM, "out of memory");
        if (!code)
            code = map_all(planning, error);
        if (!code)
            break;
        bool may_be_old = planning->remembered;
        forget(planning);
        planning_forget_areas();
        if (code != -EEXIST && !may_be_old)
            break;
    }
    return code == -EEXIST ? tl_fail(error, -EAGAIN, "the address space changes all the time") : code;
}

void planning_keep(struct planning *planning)
{
    for (size_t p = 0; p < planning->plan_count; p++) {
        const struct tl_plan *plan = &planning->plans[p];
        for (size_t i = 0; i < plan->map_count; i++) {
            struct mapped mapped = {.addr = plan->maps[i].addr, .size = plan->maps[i].size};
            for (size_t g = 0; g < plan->gate_count; g++)
                if (plan->gates[g].addr + PAGE == mapped.addr)
                    mapped.gate = plan->gates[g].addr;
            engine.memory[engine.memory_count++] = mapped;
        }
    }
    if (planning->plan_count) {
        free(engine.rooms);
        engine.rooms = planning->rooms;
        engine.room_count = planning->room_count;
        planning->rooms = NULL;
    }
    remember(planning);
    forget(planning);
}

void planning_drop(struct planning *planning)
{
    if (planning->pinned) { /* it is kept, and what nobody needs is room */
        planning_keep(planning);
        return;
    }
    size_t count = 0;
    for (size_t p = 0; p < planning->mapped; p++)
        count += planning->plans[p].map_count;
    struct tl_self_range *ranges = calloc(count + 1, sizeof *ranges);
    uint8_t *inside = calloc(count + 1, 1);
    size_t used = 0;
    for (size_t p = 0; p < planning->mapped && ranges; p++)
        for (size_t i = 0; i < planning->plans[p].map_count; i++) {
            const struct tl_plan_map *map = &planning->plans[p].maps[i];
            ranges[used++] = (struct tl_self_range){map->addr, map->addr + map->size};
        }
    bool empty =
        ranges && inside && !tl_self_inside(engine.self, ranges, used, inside, NULL) && !memchr(inside, 1, used + 1);
    for (size_t p = 0; p < planning->mapped && empty; p++)
        unmap(&planning->plans[p]);
    free(ranges);
    free(inside);
    forget(planning);
}
