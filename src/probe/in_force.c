/* SPDX-License-Identifier: MIT
 *
 * Sites of earlier plans. Their bytes may be taken back at any time, so no jump may rely on them; and bytes that their
 * own jumps rely on may not change. Where a new site needs such bytes,
 *
 *     e9 | 48 89 e5 41 57        (a punned jump in place of push rbp; now the mov rbp, rsp is to be probed)
 *
 * - an int3 on the first of them does no harm to a jump that is guarded against breakpoints
 * - otherwise the earlier site is made an int3 itself, if it may be: it leads to the same trampoline, and relies on
 *   nothing
 * - otherwise the new one is refused
 */
#include <stdlib.h>

#include "probe/planner.h"

#include "base/array.h"

/* How far a jump may reach behind its site, and a site's text. */
enum { REACH = TL_TEXT_BYTES };

/* The first whose address is above `addr`. */
static size_t first_above(const struct tl_planner *planner, uint64_t addr)
{
    return tl_array_upto(planner->options->in_force, planner->options->in_force_count,
                         sizeof *planner->options->in_force, offsetof(struct tl_plan_in_force, addr), addr);
}

static size_t first_near(const struct tl_planner *planner, uint64_t addr)
{
    return first_above(planner, addr > REACH ? addr - REACH : 0);
}

/* The new site's bytes are among those that the jump of `old` runs into. */
static bool runs_into(const struct tl_plan_in_force *old, const struct tl_site *site)
{
    return site->addr >= old->addr + old->own_length && site->addr < old->addr + old->jump_length;
}

static void rely_not_on(struct tl_job *job, uint64_t addr, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        if (addr + i - job->site->addr < TL_TEXT_BYTES)
            job->unstable |= 1u << (addr + i - job->site->addr);
}

enum tl_why tl_in_force_check(const struct tl_planner *planner, struct tl_job *job)
{
    const struct tl_site *site = job->site;
    bool trap = job->tactics & 1u << TL_TACTIC_INT3;
    for (size_t i = first_near(planner, site->addr); i < planner->options->in_force_count; i++) {
        const struct tl_plan_in_force *old = &planner->options->in_force[i];
        if (old->addr >= site->addr + TL_TEXT_BYTES)
            break;
        if (old->addr < site->addr + job->insn.length && old->addr + old->own_length > site->addr)
            return TL_WHY_CONFLICT;
        rely_not_on(job, old->addr, old->own_length);
        if (!runs_into(old, site))
            continue;
        if (old->guarded && trap)
            job->traps = true;
        else if (!old->may_demote)
            return TL_WHY_CONFLICT;
    }
    if (job->traps && !job->not_better)
        job->not_better = TL_WHY_CONFLICT;
    return TL_WHY_NONE;
}

void tl_in_force_separate(struct tl_planner *planner)
{
    for (size_t i = 0; i < planner->count; i++)
        for (size_t k = i + 1; k < planner->count; k++) {
            const struct tl_job *other = &planner->jobs[k];
            if (other->site->addr - planner->jobs[i].site->addr >= REACH)
                break;
            if (other->complete)
                rely_not_on(&planner->jobs[i], other->site->addr, other->insn.length);
        }
}

int tl_in_force_demote(const struct tl_planner *planner, struct tl_plan *plan)
{
    size_t count = planner->options->in_force_count, last = SIZE_MAX;
    plan->demoted = calloc(count + 1, sizeof *plan->demoted);
    if (!plan->demoted)
        return -ENOMEM;
    for (size_t i = 0; i < planner->count && count; i++) {
        const struct tl_job *job = &planner->jobs[i];
        if (!job->placed)
            continue;
        for (size_t k = first_near(planner, job->site->addr); k < count; k++) {
            const struct tl_plan_in_force *old = &planner->options->in_force[k];
            if (old->addr >= job->site->addr)
                break;
            bool harmless = old->guarded && job->tactic == TL_TACTIC_INT3;
            if (!runs_into(old, job->site) || harmless || (last != SIZE_MAX && k <= last))
                continue;
            plan->demoted[plan->demoted_count++] = (uint32_t)k;
            last = k;
        }
    }
    return 0;
}
