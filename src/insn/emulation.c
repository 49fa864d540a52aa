/* SPDX-License-Identifier: MIT */
#include "insn/emulation.h"

#include <errno.h>

#include "insn/decode.h"

/* loopne, loope, loop, jrcxz: e0 to e3. */
static void counting(const ZydisDecodedInstruction *zydis, struct tl_emulation *emulation)
{
    static const uint8_t conditions[] = {TL_CONDITION_NZ, TL_CONDITION_Z, TL_CONDITION_NONE, TL_CONDITION_NONE};
    emulation->op = zydis->opcode == 0xe3 ? TL_EMULATE_JUMP_ZERO : TL_EMULATE_LOOP;
    emulation->condition = conditions[zydis->opcode & 3];
    emulation->narrow = zydis->address_width == 32;
}

static void branch(const ZydisDecodedInstruction *zydis, struct tl_emulation *emulation)
{
    if (zydis->mnemonic == ZYDIS_MNEMONIC_XBEGIN) {
        emulation->op = TL_EMULATE_ABORT;
    } else if (zydis->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (zydis->opcode & 0xfc) == 0xe0) {
        counting(zydis, emulation);
    } else {
        emulation->op = TL_EMULATE_BRANCH;
        emulation->condition = zydis->opcode & 15;
    }
}

static int indirect(const struct tl_insn *insn, const ZydisDecodedInstruction *zydis,
                    const ZydisDecodedOperand *operand, struct tl_emulation *emulation)
{
    emulation->op = insn->flow == TL_FLOW_CALL_INDIRECT ? TL_EMULATE_CALL_INDIRECT : TL_EMULATE_JUMP_INDIRECT;
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        emulation->base = tl_register_number(operand->reg.value);
        return emulation->base == TL_NO_REG ? -ENOTSUP : 0;
    }
    if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
        return -ENOTSUP;
    emulation->memory = true;
    emulation->address_32 = zydis->address_width == 32;
    if (operand->mem.segment == ZYDIS_REGISTER_FS)
        emulation->segment = TL_SEGMENT_FS;
    else if (operand->mem.segment == ZYDIS_REGISTER_GS)
        emulation->segment = TL_SEGMENT_GS;
    if (insn->rip_relative) {
        emulation->displacement = (int64_t)insn->memory;
        return 0;
    }
    emulation->base = tl_register_number(operand->mem.base);
    emulation->index = tl_register_number(operand->mem.index);
    if (emulation->index != TL_NO_REG)
        emulation->scale = operand->mem.scale;
    emulation->displacement = operand->mem.disp.value;
    return 0;
}

static int ret(const ZydisDecodedInstruction *zydis, struct tl_emulation *emulation)
{
    if (zydis->mnemonic != ZYDIS_MNEMONIC_RET || (zydis->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE))
        return -ENOTSUP;
    emulation->op = TL_EMULATE_RET;
    emulation->release = zydis->raw.imm[0].size ? (uint16_t)zydis->raw.imm[0].value.u : 0;
    return 0;
}

int tl_insn_emulation(const struct tl_insn *insn, struct tl_emulation *emulation)
{
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (insn->why != TL_WHY_NONE || !tl_decode_full(insn, &zydis, operands))
        return -ENOTSUP;
    *emulation = (struct tl_emulation){.condition = TL_CONDITION_NONE,
                                       .base = TL_NO_REG,
                                       .index = TL_NO_REG,
                                       .scale = 1,
                                       .target = insn->target,
                                       .next = insn->addr + insn->length};
    switch (insn->flow) {
    case TL_FLOW_JUMP:
        emulation->op = TL_EMULATE_JUMP;
        return 0;
    case TL_FLOW_CALL:
        emulation->op = TL_EMULATE_CALL;
        return 0;
    case TL_FLOW_BRANCH:
        branch(&zydis, emulation);
        return 0;
    case TL_FLOW_JUMP_INDIRECT:
    case TL_FLOW_CALL_INDIRECT:
        return indirect(insn, &zydis, &operands[0], emulation);
    case TL_FLOW_RET:
        return ret(&zydis, emulation);
    default:
        return -ENOTSUP;
    }
}
