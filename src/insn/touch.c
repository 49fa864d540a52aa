/* SPDX-License-Identifier: MIT */
#include "insn/touch.h"

#include "insn/decode.h"

struct after {
    const struct tl_insn *insn;
    const ZydisDecodedInstruction *zydis;
    const ZydisDecodedOperand *operands;
    const uint64_t *registers;
    uint64_t flags;
};

enum { RSP = 4 };

static bool is_changed(const struct after *after, uint8_t number)
{
    for (unsigned i = 0; i < after->zydis->operand_count; i++) {
        const ZydisDecodedOperand *operand = &after->operands[i];
        if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER && tl_register_number(operand->reg.value) == number &&
            operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return true;
    }
    return false;
}

/* The value of a base or index before the instruction; false: not known any more. */
static bool value_of(const struct after *after, ZydisRegister reg, uint64_t *value)
{
    *value = 0;
    if (reg == ZYDIS_REGISTER_NONE)
        return true;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
        *value = after->insn->addr + after->insn->length;
        return true;
    }
    uint8_t number = tl_register_number(reg);
    if (number == TL_NO_REG || is_changed(after, number))
        return false;
    *value = after->registers[number];
    return true;
}

/* The operand that push, pop and string instructions have without naming it: they move the register by its size. */
static bool moved_address(const struct after *after, const ZydisDecodedOperand *operand, uint64_t size, uint64_t *addr)
{
    uint8_t number = tl_register_number(operand->mem.base);
    if (operand->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN || number == TL_NO_REG || !is_changed(after, number))
        return false;
    uint64_t now = after->registers[number];
    if (number == RSP)
        *addr = operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? now : now - size;
    else
        *addr = after->flags & TL_TOUCH_FLAG_DIRECTION ? now + size : now - size;
    return true;
}

static bool usual_address(const struct after *after, const ZydisDecodedOperand *operand, uint64_t *addr)
{
    uint64_t base, index;
    if (operand->mem.type != ZYDIS_MEMOP_TYPE_MEM || !value_of(after, operand->mem.base, &base) ||
        !value_of(after, operand->mem.index, &index))
        return false;
    *addr = base + index * operand->mem.scale + (uint64_t)operand->mem.disp.value;
    if (after->zydis->address_width == 32)
        *addr = (uint32_t)*addr;
    return operand->mem.segment != ZYDIS_REGISTER_FS && operand->mem.segment != ZYDIS_REGISTER_GS;
}

static bool is_string(const ZydisDecodedInstruction *zydis)
{
    return zydis->meta.category == ZYDIS_CATEGORY_STRINGOP;
}

/* Zydis takes the operands of string instructions for named ones. */
static ZydisDecodedOperand as_hidden(ZydisDecodedOperand operand)
{
    operand.visibility = ZYDIS_OPERAND_VISIBILITY_HIDDEN;
    return operand;
}

static bool address_of(const struct after *after, const ZydisDecodedOperand *operand, uint64_t size, uint64_t *addr)
{
    ZydisDecodedOperand hidden = as_hidden(*operand);
    return moved_address(after, is_string(after->zydis) ? &hidden : operand, size, addr) ||
           usual_address(after, operand, addr);
}

unsigned tl_insn_touches(const struct tl_insn *insn, const uint64_t registers[16], uint64_t flags,
                         struct tl_touch touches[TL_TOUCHES_MAX])
{
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    unsigned count = 0;
    if (insn->flow != TL_FLOW_NEXT || !tl_insn_access(insn) || !tl_decode_full(insn, &zydis, operands))
        return 0;
    const struct after after = {insn, &zydis, operands, registers, flags};
    for (unsigned i = 0; i < zydis.operand_count && count < TL_TOUCHES_MAX; i++) {
        const ZydisDecodedOperand *operand = &operands[i];
        uint64_t size = operand->size / 8, addr;
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
            !address_of(&after, operand, size, &addr))
            continue;
        touches[count++] =
            (struct tl_touch){addr, size,
                              (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? TL_INSN_READS : 0u) |
                                  (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? TL_INSN_WRITES : 0u)};
    }
    return count;
}
