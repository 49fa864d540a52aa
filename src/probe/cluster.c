/* SPDX-License-Identifier: MIT
 *
 * Neighbours. The jump of a short instruction runs on into the bytes behind it, and where these belong to a site too,
 * they are the bytes of that site's jump. So jumps are placed from the highest address down: whatever a jump runs into
 * is settled then, and stays. Writing in that order, and taking back in the reverse, the program is right at each step.
 *
 * When a jump gets nowhere because of what its neighbours above made of their bytes, these are placed once more
 * in other ways. Each try gives each of them one of its other choices, and the tries are spread over all combinations:
 * what is needed is a byte or two that lead to free memory, which many combinations do. Neighbours still further above
 * are left alone: the jump does not run into them.
 *
 * Guards of system calls come before all that, and rely on nobody's bytes but the program's: so that they can be there
 * before the first probe, and after the last.
 */
#include <string.h>

#include "probe/planner.h"

enum { TRIES = 160, REOPENED_MAX = 8, DIRECT_CHOICES = 24, REACH = 16 };

/* How far behind its address a job's jump may end. */
static uint64_t jump_end(const struct tl_job *job)
{
    unsigned beyond = job->room >= TL_JUMP_BYTES || job->traps ? 0 : TL_JUMP_BYTES - 1;
    return job->site->addr + job->room + beyond;
}

size_t tl_cluster_end(const struct tl_planner *planner, size_t first)
{
    size_t end = first + 1;
    uint64_t reach = jump_end(&planner->jobs[first]);
    for (; end < planner->count && planner->jobs[end].site->addr < reach; end++)
        if (jump_end(&planner->jobs[end]) > reach)
            reach = jump_end(&planner->jobs[end]);
    return end;
}

unsigned tl_cluster_room(const struct tl_planner *planner, size_t first, size_t end)
{
    unsigned room = TL_JUMP_BYTES;
    for (size_t i = first; i < end; i++)
        if (planner->jobs[i].complete && !planner->jobs[i].traps && planner->jobs[i].room < room)
            room = planner->jobs[i].room;
    return room;
}

/* The bytes from a job's address on as they will be, with the jumps above it that are placed. */
static void current_text(const struct tl_planner *planner, size_t number, uint8_t text[TL_TEXT_BYTES])
{
    const struct tl_site *site = planner->jobs[number].site;
    memcpy(text, site->text, TL_TEXT_BYTES);
    for (size_t i = number + 1; i < planner->count; i++) {
        const struct tl_job *above = &planner->jobs[i];
        uint64_t offset = above->site->addr - site->addr;
        if (offset >= REACH)
            break;
        if (above->placed)
            memcpy(text + offset, above->bytes, above->length);
    }
}

static bool place(struct tl_planner *planner, size_t number, unsigned choice)
{
    struct tl_job *job = &planner->jobs[number];
    job->mark = planner->landings.stub_count;
    job->choice = (uint8_t)choice;
    job->placed = false;
    if (job->traps || job->fell_back) {
        tl_tactic_int3(job);
        job->placed = true;
        return true;
    }
    if (job->room == 1)
        choice = 0; /* there is one way only */
    if (job->room >= TL_JUMP_BYTES) {
        unsigned direct = job->room > TL_JUMP_BYTES ? DIRECT_CHOICES : 1;
        if (choice < direct) {
            job->placed = tl_tactic_jump(job, choice);
            return job->placed;
        }
        choice -= direct - 1;
    }
    uint8_t text[TL_TEXT_BYTES];
    current_text(planner, number, text);
    planner->landings.space = job->yielded ? &planner->yielded : &planner->space;
    job->placed = tl_tactic_punned(&planner->landings, job, text, planner->guard || job->site->guard, choice);
    return job->placed;
}

/* Take back the jumps of jobs[numbers[0…count)], of which the last was placed last. */
static void take_back(struct tl_planner *planner, const size_t *numbers, size_t count)
{
    if (count)
        tl_landing_rewind(&planner->landings, planner->jobs[numbers[0]].mark);
    for (size_t i = 0; i < count; i++)
        planner->jobs[numbers[i]].placed = false;
}

/* Place them all in order, each by its choice for this try. */
static bool place_all(struct tl_planner *planner, const size_t *numbers, size_t count, unsigned try)
{
    for (size_t i = 0; i < count; i++) {
        unsigned choice = (try * (unsigned)(2 * i + 1) + try / TL_CHOICES * (unsigned)(i + 1)) % TL_CHOICES;
        if (!place(planner, numbers[i], choice)) {
            take_back(planner, numbers, i);
            return false;
        }
    }
    return true;
}

/* The placed neighbours that a job's jump may run into, the highest first, and then the job. With `far`, also those
 * that their jumps may run into. */
static size_t reopen(const struct tl_planner *planner, size_t number, bool far, size_t numbers[REOPENED_MAX + 1])
{
    size_t end = number + 1, count = 0;
    for (size_t leaning = number, most = number; leaning <= most && end - number <= REOPENED_MAX; leaning++) {
        while (end < planner->count && planner->jobs[end].site->addr < jump_end(&planner->jobs[leaning]) &&
               end - number <= REOPENED_MAX)
            end++;
        most = far ? end - 1 : number;
    }
    for (size_t i = end; i-- > number + 1;)
        if (planner->jobs[i].placed && !planner->jobs[i].site->guard)
            numbers[count++] = i;
    numbers[count++] = number;
    return count;
}

/* Find a way for a job by placing some neighbours otherwise. On failure they are as before. */
static bool try_others(struct tl_planner *planner, const size_t *numbers, size_t count)
{
    uint8_t before[REOPENED_MAX + 1];
    for (size_t i = 0; i + 1 < count; i++)
        before[i] = planner->jobs[numbers[i]].choice;
    take_back(planner, numbers, count - 1);
    for (unsigned try = 1; try <= TRIES; try++)
        if (place_all(planner, numbers, count, try))
            return true;
    for (size_t i = 0; i + 1 < count; i++)
        if (!place(planner, numbers[i], before[i]))
            planner->jobs[numbers[i]].site->why = TL_WHY_CONFLICT;
    return false;
}

static bool negotiate(struct tl_planner *planner, size_t number)
{
    size_t numbers[REOPENED_MAX + 1], count = reopen(planner, number, false, numbers);
    if (count == 1)
        return false;
    if (try_others(planner, numbers, count))
        return true;
    size_t more = reopen(planner, number, true, numbers);
    return more > count && try_others(planner, numbers, more);
}

static enum tl_why reason(const struct tl_planner *planner, const struct tl_job *job, bool has_neighbours)
{
    if (planner->landings.starved)
        return TL_WHY_MAPPINGS;
    enum tl_why alone = tl_tactic_alone(&planner->yielded, job->site, job->tactics & ~(1u << TL_TACTIC_INT3));
    if (alone == TL_WHY_PAGE_CROSSING || alone == TL_WHY_NO_ROOM || alone == TL_WHY_TACTIC)
        return alone;
    return has_neighbours || job->unstable ? TL_WHY_CONFLICT : TL_WHY_NO_ROOM;
}

/* No jump gets anywhere: a trap, or none at all. */
static void fall_back(struct tl_planner *planner, size_t number, enum tl_why why)
{
    struct tl_job *job = &planner->jobs[number];
    if (!(job->tactics & 1u << TL_TACTIC_INT3)) {
        job->site->why = (uint8_t)why;
        return;
    }
    job->not_better = (uint8_t)why;
    job->fell_back = true;
    place(planner, number, 0);
}

/* Who has bytes that the jump of a guard runs into. An int3 does no harm, if the guard is made for that. */
static void keep_clear(struct tl_planner *planner, size_t number)
{
    const struct tl_job *guard = &planner->jobs[number];
    unsigned reach = guard->site->guard_at ? guard->site->guard_at + 1u : guard->jump_length;
    for (size_t i = number + 1; i < planner->count; i++) {
        struct tl_job *job = &planner->jobs[i];
        if (job->site->addr >= guard->site->addr + reach)
            break;
        if (!job->complete || job->site->guard)
            continue;
        uint64_t offset = job->site->addr - guard->site->addr;
        bool expected = guard->guarded && guard->site->boundaries >> offset & 1;
        job->not_better = TL_WHY_CONFLICT;
        job->traps = !guard->site->guard_at && expected && job->tactics & 1u << TL_TACTIC_INT3;
        if (!job->traps) {
            job->complete = false;
            job->site->why = TL_WHY_CONFLICT;
        }
    }
}

void tl_cluster_place_guards(struct tl_planner *planner)
{
    for (size_t i = planner->count; i-- > 0;) {
        struct tl_job *job = &planner->jobs[i];
        if (!job->complete || !job->site->guard)
            continue;
        planner->landings.starved = false;
        job->yielded = false;
        if (!place(planner, i, 0)) {
            job->yielded = true;
            place(planner, i, 0);
        }
        if (job->placed)
            keep_clear(planner, i);
        else
            job->site->why = (uint8_t)reason(planner, job, false);
    }
}

void tl_cluster_place(struct tl_planner *planner, size_t first, size_t end)
{
    for (size_t i = end; i-- > first;) {
        struct tl_job *job = &planner->jobs[i];
        if (!job->complete || job->site->guard)
            continue;
        planner->landings.starved = false;
        job->leaned_on = i > first;
        if (place(planner, i, 0) || negotiate(planner, i))
            continue;
        job->yielded = true;
        if (place(planner, i, 0))
            continue;
        fall_back(planner, i, reason(planner, job, end - first > 1));
    }
}
