/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "probe/beyond.h"

bool tl_job_is_nop(const struct tl_job *job)
{
    unsigned i = 0;
    while (i < job->insn.length && (job->insn.bytes[i] == 0x66 || job->insn.bytes[i] == 0x2e))
        i++;
    if (i + 2 < job->insn.length && (job->insn.bytes[i] & 0xf0) == 0x40)
        i++;
    return i + 2 < job->insn.length && job->insn.bytes[i] == 0x0f && job->insn.bytes[i + 1] == 0x1f &&
           !(job->insn.bytes[i + 2] & 0x38);
}

static const uint32_t jumps = 1u << TL_TACTIC_NOP | 1u << TL_TACTIC_JUMP | 1u << TL_TACTIC_PUNNED;
static const uint32_t int3 = 1u << TL_TACTIC_INT3;

/* Where the signal broker is at hand, it sees to what a copy alone does not do. */
static enum tl_why copied_by(struct tl_job *job)
{
    struct tl_copy copy;
    enum tl_why why = (enum tl_why)job->insn.why;
    if (why == TL_WHY_NONE || !(job->tactics & int3))
        return why;
    if (why == TL_WHY_TRAP_INSN)
        return TL_WHY_NONE;
    job->steps = !tl_insn_step(&job->insn, job->site->addr, &copy);
    return job->steps ? TL_WHY_NONE : why;
}

/* The system call to be guarded is the instruction, or stands where it is said to be. */
static bool leads_to_call(const struct tl_job *job)
{
    const struct tl_site *site = job->site;
    struct tl_piece pieces[TL_PIECES_MAX];
    struct tl_insn insn;
    unsigned at = site->guard_at;
    return !at ? job->insn.is_syscall
               : at < job->known && !tl_insn_decode(site->text + at, job->known - at, site->addr + at, &insn) &&
                     insn.is_syscall && tl_lead_pieces(site, site->addr, pieces);
}

/* What is wanted of the site, and only some instructions have. */
static bool is_fit(const struct tl_job *job)
{
    const struct tl_site *site = job->site;
    bool straight = job->insn.flow == TL_FLOW_NEXT && !job->steps;
    if (site->mode == TL_SITE_TAKEN)
        return job->insn.flow == TL_FLOW_BRANCH && !job->steps && site->after.kind == TL_HOOK_NONE && !site->guard;
    if (site->after.kind != TL_HOOK_NONE && !straight)
        return false;
    return !site->guard || leads_to_call(job);
}

/* A guard stands where SIGTRAP may be blocked. */
static uint32_t tactics_for(const struct tl_site *site, uint32_t tactics)
{
    if (!site->guard)
        return tactics;
    return tactics & jumps ? tactics & jumps : jumps;
}

/* Which of the tactics fit; the best of those that do not would have had a reason. */
static enum tl_why choose(struct tl_job *job)
{
    bool whole = job->tactics & (1u << TL_TACTIC_JUMP | (tl_job_is_nop(job) ? 1u << TL_TACTIC_NOP : 0));
    if (job->room >= TL_JUMP_BYTES && whole)
        return TL_WHY_NONE;
    if (job->tactics & 1u << TL_TACTIC_PUNNED) {
        if (job->room >= TL_JUMP_BYTES)
            job->room = TL_JUMP_BYTES - 1;
        return TL_WHY_NONE;
    }
    job->traps = job->tactics & int3;
    job->not_better = whole && job->insn.length >= TL_JUMP_BYTES ? TL_WHY_PAGE_CROSSING : TL_WHY_TACTIC;
    return job->traps ? TL_WHY_NONE : (enum tl_why)job->not_better;
}

enum tl_why tl_job_begin(struct tl_job *job, struct tl_site *site, uint32_t tactics)
{
    memset(job, 0, offsetof(struct tl_job, bytes));
    job->site = site;
    job->tactics = tactics_for(site, tactics);
    job->known = site->text_length < TL_TEXT_BYTES ? site->text_length : TL_TEXT_BYTES;
    if (tl_insn_decode(site->text, job->known, site->addr, &job->insn))
        return TL_WHY_UNDECODABLE;
    enum tl_why why = copied_by(job);
    if (why != TL_WHY_NONE)
        return why;
    if (!is_fit(job))
        return TL_WHY_TACTIC;
    unsigned room = job->insn.length;
    unsigned to_page_end = (unsigned)(TL_PAGE - site->addr % TL_PAGE);
    if (room > to_page_end)
        room = to_page_end;
    uint32_t inner = site->boundaries >> 1; /* somebody jumps behind a prefix of it, say */
    if (inner && room > (unsigned)__builtin_ctz(inner) + 1)
        room = (unsigned)__builtin_ctz(inner) + 1;
    job->room = (uint8_t)room;
    return choose(job);
}

uint32_t tl_tactics_allowed(uint32_t tactics)
{
    return tactics ? tactics & (jumps | int3) : jumps;
}
