/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "probe/tactic.h"

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

enum tl_why tl_job_begin(struct tl_job *job, struct tl_site *site)
{
    memset(job, 0, offsetof(struct tl_job, bytes));
    job->site = site;
    job->known = site->text_length < TL_TEXT_BYTES ? site->text_length : TL_TEXT_BYTES;
    if (tl_insn_decode(site->text, job->known, site->addr, &job->insn))
        return TL_WHY_UNDECODABLE;
    if (job->insn.why != TL_WHY_NONE)
        return (enum tl_why)job->insn.why;
    if (site->mode == TL_SITE_TAKEN && job->insn.flow != TL_FLOW_BRANCH)
        return TL_WHY_TACTIC;
    unsigned room = job->insn.length;
    unsigned to_page_end = (unsigned)(TL_PAGE - site->addr % TL_PAGE);
    if (room > to_page_end)
        room = to_page_end;
    uint32_t inner = site->boundaries >> 1; /* somebody jumps behind a prefix of it, say */
    if (inner && room > (unsigned)__builtin_ctz(inner) + 1)
        room = (unsigned)__builtin_ctz(inner) + 1;
    job->room = (uint8_t)room;
    return TL_WHY_NONE;
}

uint32_t tl_tactics_allowed(uint32_t tactics)
{
    const uint32_t jumps = 1u << TL_TACTIC_NOP | 1u << TL_TACTIC_JUMP | 1u << TL_TACTIC_PUNNED;
    return tactics ? tactics & jumps : jumps;
}
