/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "probe/tactic.h"

/* Segment overrides mean nothing to a near jump, in any number and order; a REX prefix means nothing where it comes
 * last. Left out are those that do: 66 (a 16-bit jump on some processors), f2, f3, f0. */
void tl_fill_prefixes(uint8_t *bytes, unsigned count, unsigned variety)
{
    static const uint8_t overrides[] = {0x2e, 0x64, 0x26, 0x3e, 0x65, 0x36};
    for (unsigned i = 0; i < count; i++)
        bytes[i] = overrides[(variety + i) % sizeof overrides];
    if (count && variety >= sizeof overrides)
        bytes[count - 1] = (uint8_t)(0x40 | (variety * 5 & 15));
}

/* The choices: no prefix, then each number of prefixes that there is room for, with other values each time round. */
bool tl_tactic_jump(struct tl_job *job, unsigned choice)
{
    unsigned spare = job->room - TL_JUMP_BYTES;
    unsigned prefixes = choice % (spare + 1), variety = choice / (spare + 1);
    if (!prefixes && choice)
        return false;
    uint64_t at = job->site->addr + prefixes;
    tl_fill_prefixes(job->bytes, prefixes, variety);
    if (tl_emit_jump(job->bytes + prefixes, at, job->site->trampoline))
        return false;
    job->length = (uint8_t)(prefixes + TL_JUMP_BYTES);
    job->tactic = TL_TACTIC_JUMP;
    job->guarded = true;
    return true;
}
