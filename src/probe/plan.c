/* SPDX-License-Identifier: MIT
 *
 * Planning, step by step: sort and decode; make all trampolines, in order of address, in arenas near the sites; give
 * each site a jump there; let jumps that can do better lead to better trampolines (beyond.c); pack the pages that the
 * jumps come down on; write it all up.
 *
 * The jumps come cluster by cluster (cluster.c), those with the least choice of where to come down first, so that the
 * others find pages open. Where mappings run out that way, it is done again the other way round and without opening
 * pages for guards: those with most choice first, as they need the fewest pages.
 */
#include "probe/plan.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

#include "probe/planner.h"

enum { BREAKPOINT = 0xcc, TRAMPOLINE_BYTES = 128, SYSCALL_BYTES = 2 };
static const uint64_t lowest_default = 0x10000, highest_default = 0x7ffffffff000;
/* Sites of one neighbourhood, when guessing how large an arena should be. */
static const uint64_t neighbourhood = 1ull << 30;

const char *tl_tactic_name(enum tl_tactic tactic)
{
    static const char *const names[] = {
#define NAME(name, text) text,
        TL_TACTICS(NAME)
#undef NAME
    };
    return (unsigned)tactic < TL_TACTIC_COUNT ? names[tactic] : "?";
}

static int by_address(const void *left, const void *right)
{
    const struct tl_site *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

static int sort_sites(struct tl_site *sites, size_t count)
{
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++)
        sorted = sites[i - 1].addr < sites[i].addr;
    if (!sorted)
        qsort(sites, count, sizeof *sites, by_address);
    for (size_t i = 1; i < count; i++)
        if (sites[i - 1].addr == sites[i].addr)
            return -EINVAL;
    return 0;
}

static void reset(struct tl_site *site)
{
    site->why = TL_WHY_NONE;
    site->tactic = site->not_better = site->guarded = 0;
    site->trampoline = 0;
    site->trampoline_size = site->copy_at = site->beyond_size = 0;
    site->beyond = 0;
    site->jump_length = 0;
    site->step_at = site->own_length = 0;
    site->hook.gate = site->after.gate = 0;
}

/* Decode a site, and see what the tactics that are allowed can make of it. */
static enum tl_why begin(const struct tl_planner *planner, struct tl_job *job, struct tl_site *site)
{
    reset(site);
    enum tl_why why = tl_job_begin(job, site, planner->tactics);
    return why == TL_WHY_NONE ? tl_in_force_check(planner, job) : why;
}

/* Jobs and trampolines for all sites that can have one. */
static void make_trampolines(struct tl_planner *planner, struct tl_site *sites)
{
    size_t ahead = 0;
    uint64_t end = 0; /* of the instruction before */
    for (size_t i = 0; i < planner->count && !planner->error; i++) {
        struct tl_job *job = &planner->jobs[i];
        enum tl_why why = begin(planner, job, &sites[i]);
        if (why == TL_WHY_NONE && sites[i].addr < end)
            why = TL_WHY_NOT_BOUNDARY;
        while (ahead < planner->count && sites[ahead].addr - sites[i].addr < neighbourhood)
            ahead++;
        if (why == TL_WHY_NONE)
            why = tl_arena_emit(&planner->arenas, job, i, ahead - i, &planner->error);
        job->complete = why == TL_WHY_NONE;
        sites[i].why = (uint8_t)why;
        if (job->complete)
            end = sites[i].addr + job->insn.length;
    }
}

/* Clusters of one scarcity. Whether mappings ran out. */
static bool place_clusters(struct tl_planner *planner, unsigned room)
{
    bool starved = false;
    for (size_t i = 0, end; i < planner->count; i = end) {
        end = tl_cluster_end(planner, i);
        if (tl_cluster_room(planner, i, end) != room)
            continue;
        tl_cluster_place(planner, i, end);
        for (size_t k = i; k < end; k++) {
            const struct tl_job *job = &planner->jobs[k];
            enum tl_why why = job->fell_back ? (enum tl_why)job->not_better : (enum tl_why)job->site->why;
            starved = starved || (job->complete && why == TL_WHY_MAPPINGS);
        }
    }
    return starved;
}

static int begin_again(struct tl_planner *planner)
{
    size_t most = planner->landings.runs_max;
    tl_landings_free(&planner->landings);
    for (size_t i = 0; i < planner->count; i++) {
        planner->jobs[i].placed = planner->jobs[i].fell_back = false;
        if (planner->jobs[i].complete)
            planner->jobs[i].site->why = TL_WHY_NONE;
    }
    return tl_landings_init(&planner->landings, &planner->space, most);
}

static int place_all(struct tl_planner *planner, size_t max_mappings)
{
    size_t used = 2 * planner->arenas.count;
    int error = tl_landings_init(&planner->landings, &planner->space, max_mappings - used);
    bool starved = false;
    if (!error)
        tl_cluster_place_guards(planner);
    for (unsigned room = 1; room <= TL_JUMP_BYTES && !error; room++)
        starved |= place_clusters(planner, room);
    if (!starved || error)
        return error;
    error = begin_again(planner);
    planner->landings.frugal = true;
    if (!error)
        tl_cluster_place_guards(planner);
    for (unsigned room = TL_JUMP_BYTES; room > 0 && !error; room--)
        place_clusters(planner, room);
    return error;
}

static void describe(struct tl_job *job)
{
    struct tl_site *site = job->site;
    if (job->tactic == TL_TACTIC_JUMP && job->tactics & 1u << TL_TACTIC_NOP && tl_job_is_nop(job))
        job->tactic = TL_TACTIC_NOP;
    site->tactic = job->tactic;
    site->guarded = job->guarded;
    site->own_length = job->length;
    if (site->guard_at) {
        site->jump_length = site->guard_at + SYSCALL_BYTES;
        site->guarded = false;
    }
    if (site->tactic == TL_TACTIC_INT3)
        site->not_better = job->not_better;
    if (site->tactic != TL_TACTIC_PUNNED)
        return;
    bool divided = job->insn.length >= TL_JUMP_BYTES && job->tactics & 1u << TL_TACTIC_JUMP;
    site->not_better = divided ? TL_WHY_PAGE_CROSSING : TL_WHY_TACTIC;
}

static int by_trampoline(const void *left, const void *right)
{
    const struct tl_plan_trampoline *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

static int by_map_address(const void *left, const void *right)
{
    const struct tl_plan_map *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

static void add_trampoline(struct tl_plan *plan, uint64_t addr, size_t site)
{
    plan->trampolines[plan->trampoline_count++] = (struct tl_plan_trampoline){addr, (uint32_t)site};
}

/* The first trampoline at or above addr. */
static size_t first_trampoline(const struct tl_plan *plan, uint64_t addr)
{
    return addr ? tl_array_upto(plan->trampolines, plan->trampoline_count, sizeof *plan->trampolines,
                                offsetof(struct tl_plan_trampoline, addr), addr - 1)
                : 0;
}

/* The text's changes, and the sites' trampolines. */
static int write_up_sites(const struct tl_planner *planner, struct tl_plan *plan)
{
    plan->writes = calloc(planner->count + 1, sizeof *plan->writes);
    plan->trampolines = calloc(2 * planner->count + 1, sizeof *plan->trampolines);
    if (!plan->writes || !plan->trampolines)
        return -ENOMEM;
    for (size_t i = planner->count; i-- > 0;) {
        struct tl_job *job = &planner->jobs[i];
        if (!job->placed) {
            uint8_t why = job->site->why;
            reset(job->site);
            job->site->why = why;
            plan->refused++;
            continue;
        }
        describe(job);
        struct tl_plan_write *write = &plan->writes[plan->write_count++];
        write->addr = job->site->addr;
        write->length = job->length;
        memcpy(write->old_bytes, job->site->text, job->length);
        memcpy(write->new_bytes, job->bytes, job->length);
        plan->guarded += job->guarded;
    }
    for (size_t i = 0; i < planner->count; i++) {
        const struct tl_site *site = planner->jobs[i].site;
        if (!planner->jobs[i].placed)
            continue;
        plan->planned++;
        add_trampoline(plan, site->trampoline, i);
        if (site->beyond)
            add_trampoline(plan, site->beyond, i);
    }
    qsort(plan->trampolines, plan->trampoline_count, sizeof *plan->trampolines, by_trampoline);
    return 0;
}

/* The pages of an arena that are mapped: those that are used, or as many as later plans are to find. */
static uint64_t mapped_size(const struct tl_planner *planner, const struct tl_arena *arena)
{
    uint64_t size = arena->used > planner->options->arena_bytes ? arena->used : planner->options->arena_bytes;
    size = (size + TL_PAGE - 1) & ~(uint64_t)(TL_PAGE - 1);
    return size < arena->size ? size : arena->size;
}

/* The arenas that are used: their pages in the pool, mappings and gates, and what room is left there. */
static int write_up_arenas(const struct tl_planner *planner, struct tl_plan *plan)
{
    const struct tl_arenas *arenas = &planner->arenas;
    for (size_t i = 0; i < arenas->count; i++)
        plan->pool_size += mapped_size(planner, &arenas->arenas[i]);
    plan->pool = malloc(plan->pool_size + 1);
    plan->maps = calloc(arenas->count + 1, sizeof *plan->maps);
    plan->gates = calloc(arenas->count + 1, sizeof *plan->gates);
    plan->rooms = calloc(arenas->room_count + arenas->count + 1, sizeof *plan->rooms);
    if (!plan->pool || !plan->maps || !plan->gates || !plan->rooms)
        return -ENOMEM;
    plan->pool_size = 0;
    if (arenas->room_count)
        memcpy(plan->rooms, arenas->rooms, arenas->room_count * sizeof *plan->rooms);
    plan->room_count = arenas->room_count;
    for (size_t i = 0; i < arenas->count; i++) {
        const struct tl_arena *arena = &arenas->arenas[i];
        uint64_t start = arena->gate + TL_PAGE, size = mapped_size(planner, arena);
        size_t first = first_trampoline(plan, start);
        if (first == plan->trampoline_count || plan->trampolines[first].addr >= start + size)
            continue;
        memcpy(plan->pool + plan->pool_size, arena->code, arena->used);
        memset(plan->pool + plan->pool_size + arena->used, BREAKPOINT, size - arena->used);
        plan->gates[plan->gate_count++].addr = arena->gate;
        plan->maps[plan->map_count++] = (struct tl_plan_map){start, size, plan->pool_size};
        plan->rooms[plan->room_count++] = (struct tl_plan_room){arena->gate, start + arena->used, size - arena->used};
        plan->pool_size += size;
    }
    return 0;
}

/* What goes into rooms that are there, for the sites that are planned. */
static int write_up_fills(struct tl_planner *planner, struct tl_plan *plan)
{
    struct tl_arenas *arenas = &planner->arenas;
    plan->fills = calloc(arenas->fill_count + 1, sizeof *plan->fills);
    if (!plan->fills)
        return -ENOMEM;
    for (size_t i = 0; i < arenas->fill_count; i++) {
        const struct tl_room_fill *fill = &arenas->fills[i];
        if (planner->jobs[fill->job].placed)
            plan->fills[plan->fill_count++] = (struct tl_plan_fill){fill->addr, fill->offset, fill->length};
    }
    plan->fill_bytes = arenas->bytes;
    arenas->bytes = NULL;
    return 0;
}

static int begin_arenas(struct tl_planner *planner, const struct tl_site *sites)
{
    const struct tl_plan_options *options = planner->options;
    struct tl_arenas *arenas = &planner->arenas;
    *arenas =
        (struct tl_arenas){.space = &planner->space, .also = &planner->yielded, .most = options->max_mappings / 2};
    arenas->site_bytes = planner->guard ? 2 * TRAMPOLINE_BYTES : TRAMPOLINE_BYTES;
    for (size_t i = 0; i < planner->count; i++)
        if (sites[i].guard)
            arenas->site_bytes = 2 * (TRAMPOLINE_BYTES + TL_GUARD_BYTES_MAX);
    arenas->least = options->arena_bytes;
    arenas->guard_routine = options->guard.routine;
    arenas->guard_context = options->guard.context;
    arenas->rooms = calloc(options->room_count + 1, sizeof *arenas->rooms);
    if (!arenas->rooms)
        return -ENOMEM;
    if (options->room_count)
        memcpy(arenas->rooms, options->rooms, options->room_count * sizeof *arenas->rooms);
    arenas->room_count = options->room_count;
    return 0;
}

static int build(struct tl_planner *planner, struct tl_site *sites, size_t max_mappings, struct tl_plan *plan)
{
    make_trampolines(planner, sites);
    if (planner->options->independent && !planner->error)
        tl_in_force_separate(planner);
    int error = planner->error;
    if (!error)
        error = place_all(planner, max_mappings);
    if (!error)
        error = planner->landings.error;
    if (!error) {
        tl_beyond_make(planner);
        error = planner->error;
    }
    if (!error)
        error = write_up_sites(planner, plan);
    if (!error)
        error = write_up_arenas(planner, plan);
    if (!error)
        error = write_up_fills(planner, plan);
    if (!error)
        error = tl_in_force_demote(planner, plan);
    if (!error)
        error = tl_landings_pack(&planner->landings, plan);
    if (!error)
        qsort(plan->maps, plan->map_count, sizeof *plan->maps, by_map_address);
    return error;
}

int tl_plan_build(struct tl_site *sites, size_t count, const struct tl_area *areas, size_t area_count,
                  const struct tl_plan_options *options, struct tl_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    int error = count > UINT32_MAX ? -EINVAL : sort_sites(sites, count);
    if (error)
        return error;
    struct tl_planner planner = {.count = count,
                                 .tactics = tl_tactics_allowed(options->tactics),
                                 .guard = options->guard_breakpoints,
                                 .options = options,
                                 .jobs = calloc(count + 1, sizeof *planner.jobs)};
    uint64_t lowest = options->lowest ? options->lowest : lowest_default;
    uint64_t highest = options->highest ? options->highest : highest_default;
    error = planner.jobs ? begin_arenas(&planner, sites) : -ENOMEM;
    if (!error)
        error = tl_space_init(&planner.space, areas, area_count, 1, lowest, highest);
    if (!error)
        error = tl_space_init(&planner.yielded, areas, area_count, TL_KEEP_YIELD, lowest, highest);
    if (!error)
        error = build(&planner, sites, options->max_mappings, plan);
    tl_landings_free(&planner.landings);
    tl_arenas_free(&planner.arenas);
    tl_space_free(&planner.space);
    tl_space_free(&planner.yielded);
    free(planner.jobs);
    if (error)
        tl_plan_free(plan);
    return error;
}

void tl_plan_free(struct tl_plan *plan)
{
    free(plan->maps);
    free(plan->gates);
    free(plan->writes);
    free(plan->trampolines);
    free(plan->pool);
    free(plan->fills);
    free(plan->fill_bytes);
    free(plan->rooms);
    free(plan->demoted);
    memset(plan, 0, sizeof *plan);
}
