/* SPDX-License-Identifier: MIT
 *
 * Copies of instructions with a rip-relative operand.
 *
 * Where the operand is within reach of the copy, only the displacement changes. A copy further away than 2 GiB needs
 * the operand's address in a register. It is borrowed: its own value is put below the red zone (which belongs to the
 * program), and taken back behind the instruction; lea, push, mov and pop leave the flags alone.
 *
 *     lea rsp, [rsp - 128]
 *     push r
 *     mov r, address
 *     the instruction, with [r] in place of [rip + displacement]
 *     pop r
 *     lea rsp, [rsp + 128]
 *
 * r must not take part in the instruction, not even silently, and neither must rsp. r is one of the six that can be a
 * plain base in the ModRM byte without an extension bit (rsp and rbp cannot), so that one change serves every encoding:
 * the ModRM byte says [r], the four displacement bytes go, and the extension bits of REX, VEX or EVEX, for which the
 * original had no use, are cleared.
 */
#include "insn/relocate.h"

#include <string.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

bool tl_emit_adjusted(struct tl_relocation *relocation, const uint8_t *bytes, size_t length, size_t displacement_at)
{
    const struct tl_insn *insn = relocation->insn;
    if (!insn->rip_relative) {
        tl_emit_bytes(&relocation->out, bytes, length);
        return true;
    }
    /* With an address-size prefix only the lower half of the sum counts: that reaches from everywhere. */
    uint64_t end = tl_emit_here(&relocation->out) + length;
    if (relocation->zydis.address_width == 64 && !tl_reaches(end, insn->memory))
        return false;
    uint32_t displacement = (uint32_t)(insn->memory - end);
    tl_emit_bytes(&relocation->out, bytes, displacement_at);
    tl_emit_u32(&relocation->out, displacement);
    tl_emit_bytes(&relocation->out, bytes + displacement_at + 4, length - displacement_at - 4);
    return true;
}

/* lea with an operand out of reach: the address is a constant. */
static void emit_lea_constant(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    unsigned width = relocation->zydis.operand_width;
    uint8_t reg = tl_register_number(relocation->operands[0].reg.value);
    uint8_t rex = (uint8_t)(0x40 | (width == 64 ? 8 : 0) | reg >> 3);
    if (width == 16)
        tl_emit_u8(out, 0x66);
    if (rex != 0x40)
        tl_emit_u8(out, rex);
    tl_emit_u8(out, (uint8_t)(0xb8 | (reg & 7))); /* mov reg, imm */
    tl_emit_bytes(out, &relocation->insn->memory, width / 8);
}

static void add_register(uint32_t *set, ZydisRegister reg)
{
    uint8_t number = tl_register_number(reg);
    if (number != TL_NO_REG)
        *set |= 1u << number;
}

/* A register that takes no part in the instruction, or TL_NO_REG. */
static uint8_t find_scratch(const struct tl_relocation *relocation)
{
    static const uint8_t candidates[] = {RAX, RCX, RDX, RSI, RDI, RBX};
    uint32_t used = 0;
    for (size_t i = 0; i < relocation->zydis.operand_count; i++) {
        const ZydisDecodedOperand *operand = &relocation->operands[i];
        if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
            add_register(&used, operand->reg.value);
        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            add_register(&used, operand->mem.base);
            add_register(&used, operand->mem.index);
        }
    }
    for (size_t i = 0; i < sizeof candidates && !(used & 1u << RSP); i++)
        if (!(used & 1u << candidates[i]))
            return candidates[i];
    return TL_NO_REG;
}

/* The instruction with [reg] in place of its rip-relative operand. */
static void emit_through(struct tl_relocation *relocation, uint8_t reg)
{
    const struct tl_insn *insn = relocation->insn;
    const ZydisDecodedInstructionRaw *raw = &relocation->zydis.raw;
    uint8_t bytes[TL_INSN_MAX];
    memcpy(bytes, insn->bytes, sizeof bytes);
    switch (relocation->zydis.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        if (raw->vex.size == 3)                 /* the form of two bytes has neither X nor B */
            bytes[raw->vex.offset + 1] |= 0x60; /* both are stored inverted */
        break;
    case ZYDIS_INSTRUCTION_ENCODING_XOP:
        bytes[raw->xop.offset + 1] |= 0x60;
        break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        bytes[raw->evex.offset + 1] |= 0x60;
        break;
    default:
        if (relocation->zydis.attributes & ZYDIS_ATTRIB_HAS_REX)
            bytes[raw->rex.offset] &= 0xfc;
    }
    bytes[raw->modrm.offset] = (uint8_t)((bytes[raw->modrm.offset] & 0x38) | reg);
    size_t behind = insn->displacement_at + 4u;
    tl_emit_bytes(&relocation->out, bytes, insn->displacement_at);
    tl_emit_bytes(&relocation->out, bytes + behind, insn->length - behind);
}

void tl_emit_borrow(struct tl_relocation *relocation, uint8_t reg)
{
    struct tl_emitter *out = &relocation->out;
    uint64_t addr = relocation->insn->addr;
    tl_emit_mark(out, TL_MARK_BEFORE, addr);
    TL_EMIT(out, 0x48, 0x8d, 0x64, 0x24, 0x80); /* lea rsp, [rsp - 128] */
    tl_emit_within(out, addr, TL_RED_ZONE, TL_NO_REG);
    tl_emit_u8(out, 0x50 | reg); /* push reg */
    tl_emit_within(out, addr, TL_RED_ZONE + 8, reg);
    TL_EMIT(out, 0x48, 0xb8 | reg); /* mov reg, imm64 */
    tl_emit_u64(out, relocation->insn->memory);
}

static enum tl_why relocate_through_register(struct tl_relocation *relocation)
{
    struct tl_emitter *out = &relocation->out;
    uint8_t reg = find_scratch(relocation);
    if (reg == TL_NO_REG)
        return TL_WHY_NO_SCRATCH;
    tl_emit_borrow(relocation, reg);
    tl_emit_within(out, relocation->insn->addr, TL_RED_ZONE + 8, reg);
    emit_through(relocation, reg);
    tl_emit_within(out, relocation->next, TL_RED_ZONE + 8, reg);
    tl_emit_u8(out, 0x58 | reg); /* pop reg */
    tl_emit_within(out, relocation->next, TL_RED_ZONE, TL_NO_REG);
    TL_EMIT(out, 0x48, 0x8d, 0xa4, 0x24, TL_RED_ZONE, 0, 0, 0); /* lea rsp, [rsp + 128] */
    return TL_WHY_NONE;
}

/* Instructions that name an operand and never look at it. */
static bool ignores_operand(ZydisMnemonic mnemonic)
{
    return mnemonic == ZYDIS_MNEMONIC_NOP || mnemonic == ZYDIS_MNEMONIC_UD0 || mnemonic == ZYDIS_MNEMONIC_UD1;
}

enum tl_why tl_relocate_operand(struct tl_relocation *relocation)
{
    const struct tl_insn *insn = relocation->insn;
    struct tl_emitter *out = &relocation->out;
    tl_emit_mark(out, TL_MARK_BEFORE, insn->addr);
    if (tl_emit_adjusted(relocation, insn->bytes, insn->length, insn->displacement_at))
        return TL_WHY_NONE;
    if (ignores_operand(relocation->zydis.mnemonic)) {
        tl_emit_bytes(out, insn->bytes, insn->length);
        return TL_WHY_NONE;
    }
    if (relocation->zydis.mnemonic == ZYDIS_MNEMONIC_LEA) {
        emit_lea_constant(relocation);
        return TL_WHY_NONE;
    }
    out->copy->marks_used = 0;
    return relocate_through_register(relocation);
}
