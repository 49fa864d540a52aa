/* SPDX-License-Identifier: MIT
 *
 * A form, made ready to be run: the instruction at a place, and a random state in which it has something to do.
 */
#ifndef TRAPLINE_TESTS_INSN_TRIAL_H
#define TRAPLINE_TESTS_INSN_TRIAL_H

#include "forms.h"
#include "machine.h"

/* What the operands are like. */
enum variant {
    VARIANT_ALIGNED,    /* random numbers; memory operands valid and aligned */
    VARIANT_SMALL,      /* small numbers, also in vector elements (which may be indices) */
    VARIANT_MISALIGNED, /* memory and stack anyhow */
    VARIANT_EDGE,       /* memory at the end of what is mapped: faults in the middle */
    VARIANT_WILD,       /* nothing arranged: mostly faults */
    VARIANT_UNMASKED,   /* special floating point values, exceptions switched on */
    VARIANT_COUNT
};

struct trial {
    const struct place *place;
    enum variant variant;
    uint64_t random; /* state of the generator */
    struct tl_insn insn;
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    struct cpu cpu; /* to start from; rip is the original's */
    uint8_t data[DATA_SIZE], stack[STACK_SIZE];
};

/* Fill in *trial. Everything random comes from `seed`. */
void trial_make(const struct form *form, const struct place *place, enum variant variant, uint64_t seed,
                struct trial *trial);

#endif
