/* SPDX-License-Identifier: MIT
 *
 * Which bytes of memory an instruction has accessed, as far as the registers behind it still tell. As safe as insn.h.
 */
#ifndef TRAPLINE_TOUCH_H
#define TRAPLINE_TOUCH_H

#include "insn/insn.h"

enum { TL_TOUCHES_MAX = 4, TL_TOUCH_FLAG_DIRECTION = 1 << 10 /* of rflags */ };

struct tl_touch {
    uint64_t addr, size;
    unsigned access; /* TL_INSN_READS, TL_INSN_WRITES */
};

/* `registers`: rax 0 … r15 15, and `flags`, as they are after the instruction, or after one round of a repeated string
 * instruction. How many accesses are known. Those through registers that the instruction itself has changed, segments
 * other than the usual ones, and vectors of addresses are not; nor are those of calls and returns. */
unsigned tl_insn_touches(const struct tl_insn *insn, const uint64_t registers[16], uint64_t flags,
                         struct tl_touch touches[TL_TOUCHES_MAX]);

#endif
