/* SPDX-License-Identifier: MIT
 *
 * The registers that a handler sees and may change: those of the program at the probed place.
 */
#ifndef TRAPLINE_REGS_H
#define TRAPLINE_REGS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All sixteen general registers, in the order of their numbers in instructions; then rip and the flags.
 *
 * rip: before the instruction (pre, entry and jump handlers), its address; behind it (post handlers), where the program
 * goes on. rsp: as the program has it, with the 128 bytes below it that leaf functions use (the red zone) untouched.
 * rflags: TF is the program's own. The reserved bits, IF and IOPL cannot be changed. */
struct tl_regs {
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
};

/* Argument `n`, from 0, of a function of the C ABI (integers and pointers only), at its very entry: the first six from
 * registers, the others from the stack. Reads the program's stack: for `n` past the arguments that the caller has
 * passed, whatever lies there. Any thread; async-signal-safe. */
static inline uint64_t tl_regs_argument(const struct tl_regs *regs, unsigned n)
{
    switch (n) {
    case 0:
        return regs->rdi;
    case 1:
        return regs->rsi;
    case 2:
        return regs->rdx;
    case 3:
        return regs->rcx;
    case 4:
        return regs->r8;
    case 5:
        return regs->r9;
    default:
        return ((const uint64_t *)(uintptr_t)regs->rsp)[n - 5];
    }
}

/* The integer or pointer that a function returns, at its exit. Any thread; async-signal-safe. */
static inline uint64_t tl_regs_return_value(const struct tl_regs *regs)
{
    return regs->rax;
}

static inline void tl_regs_set_return_value(struct tl_regs *regs, uint64_t value)
{
    regs->rax = value;
}

#ifdef __cplusplus
}
#endif

#endif
