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

#include <stdlib.h>
#include <string.h>

#include "probe/planner.h"

enum { BREAKPOINT = 0xcc, TRAMPOLINE_BYTES = 128 };
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
    site->hook.gate = 0;
}

/* Decode a site, and see what the tactics that are allowed can make of it. */
static enum tl_why begin(const struct tl_planner *planner, struct tl_job *job, struct tl_site *site)
{
    reset(site);
    enum tl_why why = tl_job_begin(job, site);
    if (why != TL_WHY_NONE)
        return why;
    bool whole = planner->tactics & (1u << TL_TACTIC_JUMP | (tl_job_is_nop(job) ? 1u << TL_TACTIC_NOP : 0));
    if (job->room >= TL_JUMP_BYTES && whole)
        return TL_WHY_NONE;
    if (!(planner->tactics & 1u << TL_TACTIC_PUNNED))
        return whole && job->insn.length >= TL_JUMP_BYTES ? TL_WHY_PAGE_CROSSING : TL_WHY_TACTIC;
    if (job->room >= TL_JUMP_BYTES)
        job->room = TL_JUMP_BYTES - 1;
    return TL_WHY_NONE;
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
            why = tl_arena_emit(&planner->arenas, job, ahead - i, &planner->error);
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
        for (size_t k = i; k < end; k++)
            starved = starved || (planner->jobs[k].complete && planner->jobs[k].site->why == TL_WHY_MAPPINGS);
    }
    return starved;
}

static int begin_again(struct tl_planner *planner)
{
    size_t most = planner->landings.runs_max;
    tl_landings_free(&planner->landings);
    for (size_t i = 0; i < planner->count; i++) {
        planner->jobs[i].placed = false;
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
    for (unsigned room = 1; room <= TL_JUMP_BYTES && !error; room++)
        starved |= place_clusters(planner, room);
    if (!starved || error)
        return error;
    error = begin_again(planner);
    planner->landings.frugal = true;
    for (unsigned room = TL_JUMP_BYTES; room > 0 && !error; room--)
        place_clusters(planner, room);
    return error;
}

static void describe(const struct tl_planner *planner, struct tl_job *job)
{
    struct tl_site *site = job->site;
    if (job->tactic == TL_TACTIC_JUMP && planner->tactics & 1u << TL_TACTIC_NOP && tl_job_is_nop(job))
        job->tactic = TL_TACTIC_NOP;
    site->tactic = job->tactic;
    site->guarded = job->guarded;
    if (site->tactic != TL_TACTIC_PUNNED)
        return;
    bool divided = job->insn.length >= TL_JUMP_BYTES && planner->tactics & 1u << TL_TACTIC_JUMP;
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
    size_t low = 0, high = plan->trampoline_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (plan->trampolines[middle].addr < addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
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
        describe(planner, job);
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

/* The arenas that are used: their pages in the pool, mappings and gates. */
static int write_up_arenas(const struct tl_planner *planner, struct tl_plan *plan)
{
    const struct tl_arenas *arenas = &planner->arenas;
    for (size_t i = 0; i < arenas->count; i++)
        plan->pool_size += (arenas->arenas[i].used + TL_PAGE - 1) & ~(uint64_t)(TL_PAGE - 1);
    plan->pool = malloc(plan->pool_size + 1);
    plan->maps = calloc(arenas->count + 1, sizeof *plan->maps);
    plan->gates = calloc(arenas->count + 1, sizeof *plan->gates);
    if (!plan->pool || !plan->maps || !plan->gates)
        return -ENOMEM;
    plan->pool_size = 0;
    for (size_t i = 0; i < arenas->count; i++) {
        const struct tl_arena *arena = &arenas->arenas[i];
        uint64_t start = arena->gate + TL_PAGE, size = (arena->used + TL_PAGE - 1) & ~(uint64_t)(TL_PAGE - 1);
        size_t first = first_trampoline(plan, start);
        if (first == plan->trampoline_count || plan->trampolines[first].addr >= start + size)
            continue;
        memcpy(plan->pool + plan->pool_size, arena->code, arena->used);
        memset(plan->pool + plan->pool_size + arena->used, BREAKPOINT, size - arena->used);
        plan->gates[plan->gate_count++].addr = arena->gate;
        plan->maps[plan->map_count++] = (struct tl_plan_map){start, size, plan->pool_size};
        plan->pool_size += size;
    }
    return 0;
}

static int build(struct tl_planner *planner, struct tl_site *sites, size_t max_mappings, struct tl_plan *plan)
{
    make_trampolines(planner, sites);
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
                                 .jobs = calloc(count + 1, sizeof *planner.jobs)};
    planner.arenas =
        (struct tl_arenas){.space = &planner.space, .also = &planner.yielded, .most = options->max_mappings / 2};
    planner.arenas.site_bytes = planner.guard ? 2 * TRAMPOLINE_BYTES : TRAMPOLINE_BYTES;
    uint64_t lowest = options->lowest ? options->lowest : lowest_default;
    uint64_t highest = options->highest ? options->highest : highest_default;
    error = planner.jobs ? tl_space_init(&planner.space, areas, area_count, 1, lowest, highest) : -ENOMEM;
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
    memset(plan, 0, sizeof *plan);
}
