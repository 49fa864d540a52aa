/* SPDX-License-Identifier: MIT
 *
 * The instructions of one function: where they begin, which bytes between them are data, and where the function is
 * left. Pure but for allocation: any thread, not signal handlers. Sizes are in bytes.
 */
#ifndef TRAPLINE_SWEEP_H
#define TRAPLINE_SWEEP_H

#include "insn/insn.h"

/* One contiguous piece of a function (a function may have a `.cold` part elsewhere). */
struct tl_range {
    uint64_t addr;
    uint64_t size;
    const uint8_t *bytes; /* `size` bytes */
};

/* boundaries: one bit a byte of the range, set where a trustworthy instruction begins. A byte inside an instruction, in
 * data, or not reached where the range mixes data with code, has none; neither has an instruction that some branch
 * enters behind its prefix (as around `lock`), because nothing else can be put there. covered: set for every byte of an
 * instruction. */
struct tl_sweep {
    uint64_t addr;
    uint64_t size;
    uint8_t *boundaries; /* size / 8 + 1 bytes, owned; so is the next */
    uint8_t *covered;
    size_t instructions;
    bool mixed; /* the linear reading contradicted itself, so only what control flow reaches is trusted */
};

/* `entries` are further addresses known to be reached (symbols inside the range, targets from elsewhere); may be NULL.
 * 0 or -ENOMEM. tl_sweep_free accepts a zeroed struct. */
int tl_sweep_range(const struct tl_range *range, const uint64_t *entries, size_t entry_count, struct tl_sweep *sweep);
void tl_sweep_free(struct tl_sweep *sweep);

/* TL_WHY_NONE where an instruction begins at `addr`; else NOT_BOUNDARY or NOT_CODE. */
enum tl_why tl_sweep_check(const struct tl_sweep *sweep, uint64_t addr);
/* The first boundary at or after `addr`, or 0 at the end. */
uint64_t tl_sweep_next(const struct tl_sweep *sweep, uint64_t addr);

/* The instruction that ends at `addr`, read from the nearest boundary before it, or 0: none does. */
uint64_t tl_sweep_before(const struct tl_range *range, const struct tl_sweep *sweep, uint64_t addr);

/* How a function is left. */
enum tl_exit_kind {
    TL_EXIT_RET,     /* ret: the return value is in rax */
    TL_EXIT_TAIL,    /* jmp out of the function: return value unknown */
    TL_EXIT_BRANCH,  /* jcc out of the function, an exit only when taken */
    TL_EXIT_INDIRECT /* jmp reg/mem: an exit only when the target lies outside, known at run time */
};
struct tl_exit {
    uint64_t addr;
    enum tl_exit_kind kind;
};
/* Every exit of the function whose pieces are `ranges` (swept as `sweeps`), in order of address; an array to free() in
 * *exits. A jump to any piece is inside; so is a jump to the function's own entry (a loop). 0 or -ENOMEM. */
int tl_sweep_exits(const struct tl_range *ranges, const struct tl_sweep *sweeps, size_t count, struct tl_exit **exits,
                   size_t *exit_count);

#endif
