/* SPDX-License-Identifier: MIT */
#include "insn/sweep.h"

enum {
    BACK = 2 * TL_INSN_MAX
}; /* an instruction that is entered behind its prefix is no boundary, the one before is */

uint64_t tl_sweep_before(const struct tl_range *range, const struct tl_sweep *sweep, uint64_t addr)
{
    uint64_t offset = addr - range->addr, at = offset;
    if (offset > range->size)
        return 0;
    do {
        if (at == 0 || offset - at == BACK)
            return 0;
        at--;
    } while (tl_sweep_check(sweep, range->addr + at) != TL_WHY_NONE);

    struct tl_insn insn = {.length = 0};
    for (; at < offset; at += insn.length)
        if (tl_insn_decode(range->bytes + at, range->size - at, range->addr + at, &insn))
            return 0;
    return at == offset ? insn.addr : 0;
}
