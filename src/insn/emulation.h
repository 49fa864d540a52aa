/* SPDX-License-Identifier: MIT
 *
 * A control transfer, taken apart: what has to be done to a set of registers (and the stack) to have executed it. A
 * plain description, so that the one who does it needs no decoder.
 *
 * Registers by their numbers in encodings (rax 0, rcx 1 … r15 15). The stack is 8 bytes wide in each of these. Pure:
 * safe in any thread and in signal handlers.
 */
#ifndef TRAPLINE_INSN_EMULATION_H
#define TRAPLINE_INSN_EMULATION_H

#include <stdbool.h>
#include <stdint.h>

struct tl_insn;

enum tl_emulation_op {
    TL_EMULATE_JUMP,          /* rip = target */
    TL_EMULATE_BRANCH,        /* rip = target if `condition` holds of the flags, else next */
    TL_EMULATE_LOOP,          /* the counter less 1; rip = target if it is not 0 and `condition` holds, else next */
    TL_EMULATE_JUMP_ZERO,     /* jrcxz: rip = target if the counter is 0, else next */
    TL_EMULATE_CALL,          /* push next; rip = target */
    TL_EMULATE_JUMP_INDIRECT, /* rip = operand */
    TL_EMULATE_CALL_INDIRECT, /* read operand, with rsp as it is before the push; push next; rip = operand */
    TL_EMULATE_RET,           /* pop rip; rsp += release */
    TL_EMULATE_ABORT          /* xbegin that aborts at once: eax = 0 (the upper half too); rip = target */
};

/* BRANCH: the condition as encoded, 0 (o) to 15 (g). LOOP: one of these, or TL_CONDITION_NONE. */
enum { TL_CONDITION_Z = 4, TL_CONDITION_NZ = 5, TL_CONDITION_NONE = 0xff };
enum tl_emulation_segment { TL_SEGMENT_NONE, TL_SEGMENT_FS, TL_SEGMENT_GS };

struct tl_emulation {
    uint8_t op;        /* enum tl_emulation_op */
    uint8_t condition; /* BRANCH, LOOP */
    bool narrow;       /* LOOP, JUMP_ZERO: the counter is ecx (writing it clears the upper half), not rcx */
    /* Indirect: the operand is the register `base`, or, if `memory`, the 8 bytes at segment base + (base + index *
     * scale
     * + displacement), of which sum only the lower 32 bits count if `address_32`. Base, index: 0xff for none. */
    bool memory, address_32;
    uint8_t segment; /* enum tl_emulation_segment */
    uint8_t base, index, scale;
    uint16_t release; /* RET */
    uint64_t target;
    uint64_t next; /* the address behind the instruction */
    int64_t displacement;
};

/* 0, or -ENOTSUP: it simply goes on to the next instruction, or it is a transfer that cannot be described so (far,
 * iret, prefixes that processors disagree on). Pure. */
int tl_insn_emulation(const struct tl_insn *insn, struct tl_emulation *emulation);

#endif
