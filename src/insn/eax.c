/* SPDX-License-Identifier: MIT */
#include "insn/decode.h"

enum { RAX = 0 };

static bool is_eax(const ZydisDecodedOperand *operand)
{
    return operand->type == ZYDIS_OPERAND_TYPE_REGISTER && tl_register_number(operand->reg.value) == RAX;
}

/* All 32 bits of it, at least. */
static bool is_whole(const ZydisDecodedOperand *operand)
{
    return is_eax(operand) && operand->size >= 32;
}

enum tl_eax tl_insn_eax(const struct tl_insn *insn, uint32_t *number)
{
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!tl_decode_full(insn, &zydis, operands))
        return TL_EAX_CHANGED;
    if (zydis.mnemonic == ZYDIS_MNEMONIC_MOV && is_whole(&operands[0]) &&
        operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        *number = (uint32_t)operands[1].imm.value.u;
        return TL_EAX_SET;
    }
    if (zydis.mnemonic == ZYDIS_MNEMONIC_XOR && is_whole(&operands[0]) && is_whole(&operands[1])) {
        *number = 0;
        return TL_EAX_SET;
    }
    for (unsigned i = 0; i < zydis.operand_count; i++)
        if (is_eax(&operands[i]) && operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return TL_EAX_CHANGED;
    return insn->flow == TL_FLOW_NEXT && !insn->is_syscall ? TL_EAX_KEPT : TL_EAX_CHANGED;
}
