/* SPDX-License-Identifier: MIT
 *
 * The parts of relocation. For this room only. As safe as insn.h.
 */
#ifndef TRAPLINE_INSN_RELOCATE_H
#define TRAPLINE_INSN_RELOCATE_H

#include "insn/decode.h"
#include "insn/emit.h"

/* One copy in the making. */
struct tl_relocation {
    struct tl_emitter out;
    const struct tl_insn *insn;
    uint64_t next;                 /* the address behind the original */
    ZydisDecodedInstruction zydis; /* of the original */
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/* operand.c: the instruction itself, its rip-relative operand adjusted or reached through a borrowed register. */
enum tl_why tl_relocate_operand(struct tl_relocation *relocation);
/* operand.c: append `bytes` (the original, or a variation of it), of which the 4 at `displacement_at` are the
 * displacement of the original's rip-relative operand, if it has one. false, and nothing appended, where that is out of
 * reach. */
bool tl_emit_adjusted(struct tl_relocation *relocation, const uint8_t *bytes, size_t length, size_t displacement_at);
/* operand.c: lea rsp, [rsp - 128]; push reg; mov reg, imm64 address of the operand. */
void tl_emit_borrow(struct tl_relocation *relocation, uint8_t reg);

/* transfer.c: what does not simply go on to the next instruction. */
void tl_relocate_jump(struct tl_relocation *relocation);
void tl_relocate_branch(struct tl_relocation *relocation);
void tl_relocate_branch_taken(struct tl_relocation *relocation);
void tl_relocate_xbegin(struct tl_relocation *relocation);
void tl_relocate_xbegin_taken(struct tl_relocation *relocation);
void tl_relocate_call(struct tl_relocation *relocation);
void tl_relocate_call_indirect(struct tl_relocation *relocation);
void tl_relocate_jump_indirect(struct tl_relocation *relocation);

enum { TL_RED_ZONE = 128 };

#endif
