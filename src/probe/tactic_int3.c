/* SPDX-License-Identifier: MIT
 *
 * The one byte that every instruction has room for. The trap goes to the signal broker, which sends the thread to the
 * site's trampoline: the same one, hook, copy and way back, that a jump would lead to. Where it lies does not matter,
 * and neither do the bytes behind the site.
 */
#include "probe/tactic.h"

void tl_tactic_int3(struct tl_job *job)
{
    job->bytes[0] = 0xcc;
    job->length = 1;
    job->jump_length = 0;
    job->tactic = TL_TACTIC_INT3;
    job->guarded = true;
}
