/* SPDX-License-Identifier: MIT
 *
 * Do what an instruction that transfers control does, to a set of registers.
 */
#ifndef TRAPLINE_EMULATE_H
#define TRAPLINE_EMULATE_H

#include "hit/abi.h"
#include "insn/emulation.h"

/* `regs` holds the registers as before the instruction (TL_RFLAGS: the whole flags) and then as behind it; no flag
 * changes. Reads its operand, and the stack of a ret, and writes the stack of a call, where the broker is armed and
 * SIGSEGV and SIGBUS are not blocked. 0, or -EFAULT: one of these accesses would fault, or the target is no address at
 * all; nothing has changed then. Async-signal-safe. */
int tl_emulate(const struct tl_emulation *emulation, struct tl_hit_regs *regs);

#endif
