/* SPDX-License-Identifier: MIT */
#include "insn/decode.h"

static uint8_t register_of(const ZydisDecodedOperand *operand)
{
    return operand->type == ZYDIS_OPERAND_TYPE_REGISTER ? tl_register_number(operand->reg.value) : TL_NO_REG;
}

/* mov reg, number; mov reg, reg; xor reg, itself: of 32 bits or 64. */
static void find_given(const ZydisDecodedInstruction *zydis, const ZydisDecodedOperand *operands,
                       struct tl_effect *effect)
{
    uint8_t to = register_of(&operands[0]), from = register_of(&operands[1]);
    bool whole = zydis->operand_count_visible == 2 && operands[0].size >= 32 && operands[1].size >= 8;
    bool number = operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    if (to == TL_NO_REG || !whole)
        return;
    if (zydis->mnemonic == ZYDIS_MNEMONIC_MOV && (number || from != TL_NO_REG)) {
        effect->gives = to;
        effect->from = number ? TL_NO_REG : from;
        effect->number = number ? (uint32_t)operands[1].imm.value.u : 0;
    }
    if (zydis->mnemonic == ZYDIS_MNEMONIC_XOR && from == to)
        effect->gives = to;
}

void tl_insn_effect(const struct tl_insn *insn, struct tl_effect *effect)
{
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    *effect = (struct tl_effect){.gives = TL_NO_REG, .from = TL_NO_REG};
    if (!tl_decode_full(insn, &zydis, operands)) {
        effect->written = UINT16_MAX;
        return;
    }
    for (unsigned i = 0; i < zydis.operand_count; i++) {
        uint8_t reg = register_of(&operands[i]);
        if (reg != TL_NO_REG && operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            effect->written |= (uint16_t)(1u << reg);
    }
    if (zydis.operand_count >= 2)
        find_given(&zydis, operands, effect);
}
