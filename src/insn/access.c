/* SPDX-License-Identifier: MIT */
#include "insn/decode.h"

/* Long no-ops and prefetches have operands that nobody reads. */
static bool only_names_memory(const ZydisDecodedInstruction *zydis)
{
    return zydis->meta.category == ZYDIS_CATEGORY_WIDENOP || zydis->meta.category == ZYDIS_CATEGORY_PREFETCH ||
           zydis->mnemonic == ZYDIS_MNEMONIC_NOP;
}

unsigned tl_insn_access(const struct tl_insn *insn)
{
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    const uint64_t repeats = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
    unsigned access = 0;
    if (!tl_decode_full(insn, &zydis, operands) || only_names_memory(&zydis))
        return 0;
    for (unsigned i = 0; i < zydis.operand_count; i++) {
        const ZydisDecodedOperand *operand = &operands[i];
        bool is_address_only = operand->type == ZYDIS_OPERAND_TYPE_MEMORY && operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN;
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || is_address_only)
            continue;
        if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
            access |= TL_INSN_READS;
        if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            access |= TL_INSN_WRITES;
    }
    return access && zydis.attributes & repeats ? access | TL_INSN_REPEATS : access;
}
